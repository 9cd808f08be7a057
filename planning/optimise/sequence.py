"""From a fluence map to shapes of the leaves that deliver it, step and shoot."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64

from planning.beams import Beam, ControlPoint
from planning.dose.bixels import Bixels
from planning.machine import Machine, Mlc

from .engel import beam_on_time, engel
from .openings import Decompose, Opening, clash
from .xia_verhey import xia_verhey

__all__ = [
    "Decompose",
    "Opening",
    "Segment",
    "beam_on_time",
    "decompose",
    "engel",
    "quantise",
    "sequence",
    "settle",
    "to_beam",
    "xia_verhey",
]

# What cuts a map where nothing else is asked for.
decompose = engel

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
        Positions of bank A and bank B, shape ``(2, n)`` (mm at the isocentre); equal where a pair is closed.
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
        Where the bixels are: one row for each leaf pair, evenly spaced columns.
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
        If the leaves cannot open as little as a bixel, or do not reach one.
    """
    lattice = lattice_of(bixels, mlc)
    whole, step = quantise(weights, n_levels)
    levels = np.zeros(lattice.shape, dtype=np.int64)
    levels[lattice.rows, lattice.columns] = whole
    cut = [segment_of(opening, step, lattice, mlc) for opening in decompose(levels, mlc.interdigitation)]
    return [segment for segment in cut if area(segment, mlc) >= min_area] or cut


@dataclass(frozen=True, eq=False)
class Lattice:
    """Where the bixels of a beam are among its leaves.

    Parameters
    ----------
    rows, columns
        Of each bixel, from the first leaf pair and the first column that have one.
    shape
        Number of rows and columns.
    first_pair
        The leaf pair of row 0.
    edge, width
        Where column 0 begins and how wide columns are (mm at the isocentre).
    """

    rows: Int64[np.ndarray, " n"]
    columns: Int64[np.ndarray, " n"]
    shape: tuple[int, int]
    first_pair: int
    edge: float
    width: float


def lattice_of(bixels: Bixels, mlc: Mlc) -> Lattice:
    """The rows and columns of bixels, one row for each leaf pair.

    Raises
    ------
    ValueError
        If the leaves cannot open as little as a bixel, or do not reach one.
    """
    width = bixels.width[0]
    x, y = bixels.positions.T
    if width < mlc.min_gap:
        raise ValueError(f"expected bixels wider than the leaf gap of {mlc.min_gap:g} mm, got {width:g} mm")
    if np.abs(x).max() + width / 2 > mlc.max_position + 1e-6:
        raise ValueError(
            f"expected bixels within {mlc.max_position:g} mm of the axis, got one at {np.abs(x).max():g} mm; "
            "move the isocentre into the target"
        )
    edge = float(x.min()) - width / 2
    columns = np.rint((x - edge) / width - 0.5).astype(np.int64)
    pairs = np.searchsorted(mlc.boundaries, y) - 1
    if pairs.min() < 0 or pairs.max() >= len(mlc.boundaries) - 1:
        raise ValueError("expected every row of bixels behind a leaf pair; take a smaller target")
    first = int(pairs.min())
    shape = (int(pairs.max()) - first + 1, int(columns.max()) + 1)
    return Lattice(pairs - first, columns, shape, first, edge, width)


def segment_of(opening: Opening, step: float, lattice: Lattice, mlc: Mlc) -> Segment:
    """The leaves of an opening, whose levels weigh ``step``; pairs without bixels stay closed."""
    after = len(mlc.boundaries) - 1 - lattice.first_pair - lattice.shape[0]
    # Their leaves meet where those of the outermost row allow.
    left = np.pad(opening.left, (lattice.first_pair, after), mode="edge")
    right = left.copy()
    right[lattice.first_pair : lattice.first_pair + lattice.shape[0]] = opening.right
    return Segment(lattice.edge + lattice.width * np.stack([left, right]), opening.weight * step)


def area(segment: Segment, mlc: Mlc) -> float:
    """How large a segment's opening is (mm² at the isocentre)."""
    return float(((segment.leaves[1] - segment.leaves[0]) * np.diff(mlc.boundaries)).sum())


def settle(
    segments: Sequence[Segment], machine: Machine
) -> tuple[Float64[np.ndarray, "segments 2 n"], tuple[float, float], tuple[float, float]]:
    """Leaves of each segment with the closed pairs put away, and the jaws along x and y of the beam.

    The jaws stand around all openings of the beam. Closed pairs wait under the jaw, with the smallest
    gap, so that no closed leaf ends meet in the field. Where leaves may not interdigitate, a closed pair
    between open ones must stay where it is; only those behind the jaws across the leaves open their gap.

    Raises
    ------
    ValueError
        If there is no segment, one without an opening, or one in which leaves pass the opposite leaves of
        their neighbours on a machine that forbids it.
    """
    shapes = np.array([segment.leaves for segment in segments])
    is_open = shapes[:, 1] > shapes[:, 0] if len(segments) else np.zeros((1, 1), dtype=bool)
    if not is_open.any(axis=1).all():
        raise ValueError("expected segments that are open somewhere; leave empty beams out of the plan")
    mlc = machine.mlc
    pairs = np.flatnonzero(is_open.any(axis=0))
    jaws_x = (float(shapes[:, 0][is_open].min()), float(shapes[:, 1][is_open].max()))
    jaws_y = (float(mlc.boundaries[pairs[0]]), float(mlc.boundaries[pairs[-1] + 1]))
    if mlc.interdigitation:
        parked = max(jaws_x[0] - _UNDER_JAW, mlc.min_gap - mlc.max_position)
        shapes[:, 0][~is_open], shapes[:, 1][~is_open] = parked - mlc.min_gap, parked
        return shapes, jaws_x, jaws_y
    if any(clash(left, right, _TOUCH) for left, right in shapes):
        raise ValueError(
            f"expected leaves that do not pass the opposite leaves of their neighbours on {machine.name}, "
            "got a segment in which they do; sequence the fluence for this machine"
        )
    behind = np.delete(np.arange(shapes.shape[2]), np.arange(pairs[0], pairs[-1] + 1))
    middle = np.clip(
        shapes[:, 0, behind], mlc.min_gap / 2 - mlc.max_position, mlc.max_position - mlc.min_gap / 2
    )
    shapes[:, 0, behind], shapes[:, 1, behind] = middle - mlc.min_gap / 2, middle + mlc.min_gap / 2
    return shapes, jaws_x, jaws_y


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
