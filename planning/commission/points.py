"""Scans as weighted points to fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from .scans import Kind, Opening, Scan, centered

# Electrons that the collimators set free reach as deep (mm): nothing here describes them.
BUILD_UP = 10.0
REFERENCE_DEPTH, REFERENCE_SIDE, REFERENCE_SSD = 100.0, 100.0, 900.0
# Depths of a depth dose (mm): close where it bends. Points of a profile, evenly spread.
_SHALLOW, _DEEP, _BEND = 1.5, 8.0, 40.0
_PROFILE_POINTS = 60
# A point on an edge tells a position, so that its dose counts less.
_STEEP, _EDGE = 0.03, 0.3
# Everything hangs on the axis, of which a field has one line and six profiles.
_AXIS = 2.0


@dataclass(frozen=True, eq=False)
class Field:
    """All points of one field.

    Parameters
    ----------
    opening, ssd, blur
        The field, its distance (mm), and the standard deviation of the detector's blur (mm).
    depth, x, y
        Where the points are (mm); x and y from the axis at their depth.
    dose
        Measured, in units of the dose of its scale.
    weight
        How much each point counts: 1 over the dose on the axis at its depth; more on the axis, less on edges.
    scale
        Which unknown scale each point has: one for a field with a depth dose, else one for each profile.
    """

    opening: Opening
    ssd: float
    blur: float
    depth: Float64[np.ndarray, " n"]
    x: Float64[np.ndarray, " n"]
    y: Float64[np.ndarray, " n"]
    dose: Float64[np.ndarray, " n"]
    weight: Float64[np.ndarray, " n"]
    scale: Int64[np.ndarray, " n"]


def fields(scans: Sequence[Scan]) -> list[Field]:
    """Scans as points, field by field.

    A profile of a field with a depth dose is given that dose on its axis.
    """
    first, found = 0, []
    for key in dict.fromkeys((scan.opening, scan.ssd, scan.blur) for scan in scans):
        own = [scan for scan in scans if (scan.opening, scan.ssd, scan.blur) == key]
        axis = next((scan for scan in own if scan.kind is Kind.DEPTH), None)
        columns = [_points(scan, axis) for scan in own]
        shared = np.zeros(len(own)) if axis is not None else np.arange(len(own))
        scale = np.repeat(first + shared.astype(np.int64), [part.shape[1] for part in columns])
        depth, x, y, dose, weight = np.concatenate(columns, axis=1)
        found.append(Field(*key, depth, x, y, dose, weight, scale))
        first += int(shared[-1]) + 1
    return found


def on_axis(axis: Scan | None, depth: float) -> float:
    """Measured dose on the axis at a depth (mm), 1 at the reference depth; 1 without a depth dose."""
    if axis is None:
        return 1.0
    at, reference = np.interp([depth, REFERENCE_DEPTH], axis.at, axis.dose)
    return float(at / reference)


def _points(scan: Scan, axis: Scan | None) -> Float64[np.ndarray, "5 n"]:
    """Depth, x, y, dose and weight of the points of one scan."""
    if scan.kind is Kind.DEPTH:
        used = _thinned(scan)
        dose = used.dose / np.interp(REFERENCE_DEPTH, scan.at, scan.dose)
        return np.stack([used.at, 0 * dose, 0 * dose, dose, _AXIS / dose])
    level, whole = on_axis(axis, scan.depth), centered(scan)
    steep = np.abs(np.gradient(whole.dose, whole.at)) > _STEEP
    used = _thinned(whole)
    weight = np.where(np.interp(used.at, whole.at, steep) > 0.5, _EDGE, 1.0) / level
    x, y = (used.at, 0 * used.at) if scan.kind is Kind.CROSSLINE else (0 * used.at, used.at)
    return np.stack([np.full_like(x, scan.depth), x, y, level * used.dose, weight])


def _thinned(scan: Scan) -> Scan:
    """The readings nearest to the points that are worth fitting."""
    if scan.kind is Kind.DEPTH:
        wanted = np.r_[BUILD_UP:_BEND:_SHALLOW, _BEND : scan.at[-1] : _DEEP]
    else:
        wanted = np.linspace(scan.at[0], scan.at[-1], _PROFILE_POINTS)
    kept = np.unique(np.abs(scan.at[None] - wanted[:, None]).argmin(axis=1))
    return replace(scan, at=scan.at[kept], dose=scan.dose[kept])


def outputs(
    measured: Mapping[float, float], guided: Mapping[float, float]
) -> list[tuple[float, float, float]]:
    """Sides (mm), output factors and how much they count: those measured, else those that only guide.

    The reference field is there always, and holds.
    """
    hold, count, guide = 100.0, 20.0, 3.0
    known = {side: (factor, count) for side, factor in measured.items() if side != REFERENCE_SIDE}
    chosen = known or {side: (factor, guide) for side, factor in guided.items()}
    return [(side, *both) for side, both in {**chosen, REFERENCE_SIDE: (1.0, hold)}.items()]
