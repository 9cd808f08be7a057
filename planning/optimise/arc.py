"""Arcs: from directions all around to control points that a linac turns through."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor

from planning.arcs import Arc
from planning.beams import Beam, ControlPoint
from planning.machine import Machine
from planning.parking import jaws_around

from .apertures import Apertures, Window
from .direct import expect_free_leaves
from .placing import all_pairs
from .sequenced import swept
from .shaping import levelled, shape, with_best_weights
from .uncertain import Uncertain

Progress = Callable[[str, float], None]

# Directions of a sector (degrees) share one fluence until leaves sweep over it.
_SECTOR = 24.0
# The arc turns so fast (degrees/s) or slower, however fast the gantry could: leaves need the time. It is half
# of what C-arms do. At half of a ring's speed the objective of an arc on TG119 came to 12.6 instead of 3.4
# (60 iterations, control points 6 degrees apart), and its delivery took longer.
_TURN = 3.0


@dataclass(frozen=True, eq=False)
class Sector:
    """Part of an arc whose directions share one fluence to start from.

    Parameters
    ----------
    arc
        Which arc it is of.
    spans
        Spans between control points, counted within the arc.
    middle
        The direction in its middle.
    """

    arc: int
    spans: Int64[np.ndarray, " _"]
    middle: Beam


def sectors(arcs: Sequence[Arc]) -> list[Sector]:
    """The sectors of all arcs, one after another.

    Raises
    ------
    ValueError
        If there is no arc, or one does not turn.
    """
    if not arcs:
        raise ValueError("expected at least one arc, got none; give its gantry angles")
    found = []
    for n, arc in enumerate(arcs):
        spans = arc.spans()
        n_sectors = max(1, round(len(spans) * arc.spacing / _SECTOR))
        for own in np.array_split(np.arange(len(spans)), n_sectors):
            first, last = spans[own[0]].gantry, spans[own[-1]].gantry
            middle = (first + ((last - first + 180) % 360 - 180) / 2) % 360
            found.append(Sector(n, own, replace(spans[own[0]], gantry=middle)))
    return found


def modulated(
    arcs: Sequence[Arc],
    fluence: Float64[np.ndarray, " bixels"],
    coarse: Window,
    window: Window,
    uncertain: Uncertain,
    objective: Callable[[Tensor], tuple[float, Tensor]],
    machine: Machine,
    *,
    max_iterations: int = 150,
    progress: Progress | None = None,
) -> tuple[Apertures, tuple[float, ...]]:
    """Leaves and weights of arcs whose dose has the least objective; and how it fell.

    Leaves sweep over the fluence of sectors, all spans at one level, then leaves and weights are shaped
    together by gradient (:func:`planning.optimise.shaping.shape`). The gantry turns as slowly as leaves and
    dose rate need (:func:`planning.motion.schedule`), so that every limit of the machine is kept.

    Parameters
    ----------
    arcs
        Where the gantry turns.
    fluence
        What the middle of each sector would best give by itself: weight of its bixels on the coarse
        window, sector after sector. It has to be smooth, the result of some 20 iterations: leaves that sweep
        over a steeper one are closed most of the time.
    coarse, window
        The bixels that the fluence is on, and those that leaves are shaped over.
    uncertain
        Influence of the window's bixels for each span of each arc, one after another.
    objective
        Value and gradient of the doses of all scenarios in one fraction.
    machine
        The linac.
    max_iterations
        Iterations of the leaves' search at most.
    progress
        Told the share of it that is done.

    Raises
    ------
    ValueError
        If there is no arc, an arc does not turn, or leaves may not interdigitate.
    """
    expect_free_leaves(machine)
    parts = sectors(arcs)
    maps = _refined(fluence.reshape(len(parts), len(coarse.rows), len(coarse.columns)), coarse, window)
    reach = furthest(arcs, machine)
    starts = []
    for n in range(len(arcs)):
        own = [(part.spans, map_) for part, map_ in zip(parts, maps, strict=True) if part.arc == n]
        shared = np.stack([(map_ / len(spans)).ravel() for spans, map_ in own])
        starts.append(swept(shared, [spans for spans, _ in own], window, reach, machine.mlc.min_gap))
    start = levelled(_joined(starts), window, uncertain, objective, machine)
    found = shape(
        start,
        window,
        uncertain,
        objective,
        machine,
        furthest=reach,
        max_iterations=max_iterations,
        progress=progress,
    )
    return with_best_weights(found.apertures, window, uncertain, objective, machine), found.history


def furthest(arcs: Sequence[Arc], machine: Machine) -> float:
    """How far leaves may travel in a span (mm), so that the gantry need not turn slower for them."""
    step = min(arc.spacing for arc in arcs)
    return machine.limits.max_leaf_speed * step / min(_TURN, machine.limits.max_gantry_speed)


def _refined(
    maps: Float64[np.ndarray, "maps rows columns"], coarse: Window, window: Window
) -> Float64[np.ndarray, "maps rows2 columns2"]:
    """Maps on the bixels of another window: each takes what lies at its middle."""
    rows = np.abs(window.rows[:, None] - coarse.rows).argmin(axis=1)
    columns = np.abs(window.columns[:, None] - coarse.columns).argmin(axis=1)
    return maps[:, rows][:, :, columns]


def _joined(parts: Sequence[Apertures]) -> Apertures:
    """The apertures of all arcs, counted through."""
    n_points = np.cumsum([0, *(len(part.leaves) for part in parts)])
    n_spans = np.cumsum([0, *(len(part.weights) for part in parts)])
    return Apertures(
        np.concatenate([part.leaves for part in parts]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.first + n for part, n in zip(parts, n_points, strict=False)]),
        np.concatenate([part.last + n for part, n in zip(parts, n_points, strict=False)]),
        np.concatenate([part.beam + n for part, n in zip(parts, n_spans, strict=False)]),
    )


def delivered_arcs(
    arcs: Sequence[Arc], apertures: Apertures, window: Window, machine: Machine
) -> tuple[Beam, ...]:
    """One beam for each arc, with control points and monitor units."""
    beams, point, span = [], 0, 0
    jaws = jaws_around(machine, window.jaws_x, window.jaws_y)
    for arc in arcs:
        angles = arc.angles
        own = apertures.weights[span : span + len(angles) - 1]
        reached = np.concatenate([[0.0], np.cumsum(own)])
        points = tuple(
            ControlPoint(float(share), float(angle), *jaws, leaves)
            for share, angle, leaves in zip(
                reached / reached[-1],
                angles,
                all_pairs(apertures.leaves[point : point + len(angles)], window, machine),
                strict=True,
            )
        )
        mu = float(reached[-1]) / machine.fluence_per_mu
        beams.append(Beam(float(angles[0]), arc.couch, arc.collimator, arc.isocenter, arc.name, mu, points))
        point, span = point + len(angles), span + len(own)
    return tuple(beams)
