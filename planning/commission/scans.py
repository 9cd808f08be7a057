"""Measured depth doses and profiles of open fields in a water tank."""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from jaxtyping import Float64

# The middle of a profile, as a share of its width, and at least so many mm.
_MIDDLE, _LEAST_MIDDLE = 0.03, 0.6


class Kind(StrEnum):
    """Which way the detector moved."""

    DEPTH = "depth"
    CROSSLINE = "crossline"
    INLINE = "inline"


@dataclass(frozen=True)
class Opening:
    """A rectangular field.

    Parameters
    ----------
    x, y
        Its sizes along and across the leaves (mm at the isocentre).
    """

    x: float
    y: float

    def __str__(self) -> str:
        return f"{self.x / 10:g}x{self.y / 10:g}"


@dataclass(frozen=True, eq=False)
class Scan:
    """One measured line.

    Parameters
    ----------
    kind
        Which way the detector moved: along the leaves is crossline.
    opening
        The field.
    ssd
        Distance from the source to the water (mm); NaN where it is not known yet.
    depth
        Depth of a profile (mm); 0 for a depth dose.
    at
        Depth, or position off the axis at that depth, ascending (mm), shape ``(n,)``.
    dose
        Readings, relative to any dose of the same scan.
    name
        Where it comes from.
    blur
        Standard deviation of the detector's own blur (mm).
    """

    kind: Kind
    opening: Opening
    ssd: float
    depth: float
    at: Float64[np.ndarray, " n"]
    dose: Float64[np.ndarray, " n"]
    name: str
    blur: float = 0.0


@dataclass(frozen=True, eq=False)
class Scans:
    """What a folder of measurements holds.

    Parameters
    ----------
    scans
        The lines that can be used.
    output
        Output factor of square fields by side (mm), measured at the reference depth; may be empty.
    gy_per_mu
        Dose of one monitor unit at reference conditions (100 mm deep, SSD 900 mm, 100 mm field), or None.
    notes
        What was left out, and why.
    """

    scans: tuple[Scan, ...]
    output: dict[float, float]
    gy_per_mu: float | None
    notes: tuple[str, ...]


def centered(scan: Scan) -> Scan:
    """A profile moved so that its half-height edges lie evenly about the axis, and 1 there."""
    left, right = edges(scan)
    at = scan.at - (left + right) / 2
    near = np.abs(at) <= max(_MIDDLE * (right - left), _LEAST_MIDDLE)
    middle = scan.dose[near].mean() if near.any() else np.interp(0.0, at, scan.dose)
    return replace(scan, at=at, dose=scan.dose / middle)


def edges(scan: Scan) -> tuple[float, float]:
    """Where a profile crosses half of its plateau (mm).

    Raises
    ------
    ValueError
        If it does not reach beyond its field.
    """
    half = 0.5 * np.median(scan.dose[scan.dose >= 0.8 * scan.dose.max()])
    inside = np.flatnonzero(scan.dose >= half)
    first, last = int(inside[0]), int(inside[-1])
    if first == 0 or last == len(scan.at) - 1:
        raise ValueError(
            f"expected a profile that reaches beyond its field, got {scan.name} that does not; "
            "measure further"
        )
    left = np.interp(half, scan.dose[[first - 1, first]], scan.at[[first - 1, first]])
    right = np.interp(half, scan.dose[[last + 1, last]], scan.at[[last + 1, last]])
    return float(left), float(right)
