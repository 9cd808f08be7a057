"""From a fluence map to shapes of the leaves that deliver it, step and shoot."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64

from planning.beams import Beam, ControlPoint
from planning.dose.bixels import Bixels
from planning.machine import Machine, Mlc
from planning.parking import closed, jaws_around
from planning.rows import left_open, rows_of

from .engel import engel
from .openings import Decompose, clash
from .raster import area, leaves_of, raster_of

# Closed pairs wait this far under the jaw of bank A (mm at the isocentre).
_UNDER_JAW = 5.0
# Leaf ends of neighbouring rows so near each other (mm) touch.
_TOUCH = 1e-6


@dataclass(frozen=True, eq=False)
class Segment:
    """One shape of the leaves and how long it is held.

    Parameters
    ----------
    leaves
        Positions of bank A and bank B, shape ``(2, n)`` (mm at the isocentre), of the upper layer, then of
        the lower one where there are two; equal where a pair is closed.
    weight
        Fluence that it adds where it is open (pencil-beam weight in one fraction).
    """

    leaves: Float64[np.ndarray, "2 n"]
    weight: float


def quantise(fluence: Float64[np.ndarray, "..."], n_levels: int) -> tuple[Int64[np.ndarray, "..."], float]:
    """Fluence in whole levels of its maximum, and the fluence of one level."""
    step = float(fluence.max(initial=0.0)) / n_levels
    if step <= 0:
        return np.zeros(fluence.shape, dtype=np.int64), 0.0
    return np.rint(fluence / step).astype(np.int64), step


def sequence(
    weights: Float64[np.ndarray, " n"],
    bixels: Bixels,
    mlc: Mlc,
    n_levels: int = 8,
    min_area: float = 0.0,
    decompose: Decompose = engel,
) -> list[Segment]:
    """Segments of one beam that deliver its bixel weights, rounded to levels.

    Parameters
    ----------
    weights
        Pencil-beam weight of each bixel in one fraction, shape ``(n,)``.
    bixels
        Where the bixels are: one row for each leaf pair (of one of two layers), evenly spaced columns.
    mlc
        The leaves. Where they may not interdigitate, no leaf of a segment passes the opposite leaf of a
        neighbouring pair.
    n_levels
        Levels that the greatest weight is rounded to.
    min_area
        Openings smaller than this are left out (mm² at the isocentre), unless all are: a small target
        needs small openings.
    decompose
        Cuts the levels: :func:`planning.optimise.engel.engel` in the least beam-on time,
        :func:`planning.optimise.xia_verhey.xia_verhey` in powers of two.

    Raises
    ------
    ValueError
        If the leaves cannot open as little as a bixel or do not reach one, or rows of bixels are not leaf
        pairs.
    """
    raster = raster_of(bixels, mlc)
    whole, step = quantise(weights, n_levels)
    levels = np.zeros(raster.shape, dtype=np.int64)
    levels[raster.rows, raster.columns] = whole
    cut = [
        Segment(leaves_of(o, raster, mlc), o.weight * step) for o in decompose(levels, mlc.interdigitation)
    ]
    return [segment for segment in cut if area(segment.leaves, mlc) >= min_area] or cut


def settle(
    segments: Sequence[Segment], machine: Machine
) -> tuple[Float64[np.ndarray, "segments 2 n"], tuple[float, float], tuple[float, float]]:
    """Leaves of each segment with the closed pairs put away, and the jaws along x and y of the beam.

    The jaws, if there are any, stand around all openings of the beam, and closed pairs wait as
    :func:`planning.parking.closed` says. Where leaves may not interdigitate, closed pairs stay where their
    neighbours allow: those between open ones meet in the field, those behind jaws open the smallest gap.

    Raises
    ------
    ValueError
        If there is no segment, one without an opening, or one in which leaves pass the opposite leaves of
        their neighbours on a machine that forbids it.
    """
    if not segments:
        raise ValueError("expected segments that are open somewhere, got none; leave empty beams out")
    shapes = np.array([segment.leaves for segment in segments])
    rows = rows_of(machine.mlc)
    left, right = left_open(shapes, rows).transpose(1, 0, 2)
    is_open = right > left
    if not is_open.any(axis=1).all():
        raise ValueError("expected segments that are open somewhere, got a closed one; leave it out")
    lit = np.flatnonzero(is_open.any(axis=0))
    field_x = (float(left[is_open].min()), float(right[is_open].max()))
    jaws_x, jaws_y = jaws_around(
        machine, field_x, (float(rows.edges[lit[0]]), float(rows.edges[lit[-1] + 1]))
    )
    shut = shapes[:, 1] <= shapes[:, 0]
    if machine.mlc.interdigitation:
        return np.where(shut[:, None], closed(machine, field_x, _UNDER_JAW), shapes), jaws_x, jaws_y
    _expect_apart(shapes, machine)
    if "y" in machine.jaws:
        behind = np.ones(machine.mlc.n_pairs, dtype=bool)
        behind[rows.pairs[:, lit[0] : lit[-1] + 1]] = False
        shapes = np.where((shut & behind)[:, None], _ajar(shapes, machine.mlc), shapes)
    return shapes, jaws_x, jaws_y


def _expect_apart(shapes: Float64[np.ndarray, "segments 2 pairs"], machine: Machine) -> None:
    counts = np.cumsum([len(edges) - 1 for edges in machine.mlc.layers])[:-1]
    for layer in np.split(shapes, counts, axis=2):
        if any(clash(left, right, _TOUCH) for left, right in layer):
            raise ValueError(
                f"expected leaves that do not pass the opposite ones of their neighbours on {machine.name}, "
                "got a segment in which they do; sequence the fluence for this machine"
            )


def _ajar(
    shapes: Float64[np.ndarray, "segments 2 pairs"], mlc: Mlc
) -> Float64[np.ndarray, "segments 2 pairs"]:
    """Closed pairs with the smallest gap, where they stand: no neighbour is the worse for it."""
    half = mlc.min_gap / 2
    middle = np.clip(shapes.mean(axis=1), half - mlc.max_position, mlc.max_position - half)
    return np.stack([middle - half, middle + half], axis=1)


def to_beam(beam: Beam, segments: Sequence[Segment], machine: Machine) -> Beam:
    """A beam that delivers its segments one after another, the beam off between them.

    Each segment is two control points with the same leaves.

    Parameters
    ----------
    beam
        Its direction and isocentre.
    segments
        What to deliver; at least one pair of each is open.
    machine
        Gives the leaf gap and the fluence of one monitor unit.

    Raises
    ------
    ValueError
        If there is no segment, or one without an opening.
    """
    shapes, jaws_x, jaws_y = settle(segments, machine)
    meterset = np.cumsum([0.0, *(segment.weight for segment in segments)])
    mu = float(meterset[-1]) / machine.fluence_per_mu
    points = tuple(
        ControlPoint(float(reached / meterset[-1]), beam.gantry, jaws_x, jaws_y, leaves)
        for leaves, span in zip(shapes, pairwise(meterset), strict=True)
        for reached in span
    )
    return replace(beam, mu=mu, control_points=points)
