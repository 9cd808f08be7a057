"""From a fluence map to shapes of the leaves that deliver it, step and shoot."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64

from planning.beams import Beam, ControlPoint
from planning.dose.bixels import Bixels
from planning.machine import Machine, Mlc

Levels = Int64[np.ndarray, "rows columns"]
Columns = Int64[np.ndarray, " rows"]

# Closed pairs wait this far under the jaw of bank A (mm at the isocentre).
_UNDER_JAW = 5.0


@dataclass(frozen=True, eq=False)
class Opening:
    """One shape on a lattice of bixels: in each row the columns from ``left`` up to ``right`` are open.

    Parameters
    ----------
    weight
        How long it is held, in levels.
    left, right
        First open column and first closed one after it, shape ``(rows,)``; equal where a row is closed.
    """

    weight: int
    left: Columns
    right: Columns


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


def decompose(levels: Levels) -> list[Opening]:
    """Openings whose weighted sum is a map of whole numbers, in the least possible beam-on time.

    Engel, Discrete Appl. Math. 152, 35 (2005). With d_j = a_j - a_(j-1) along a row, a row needs the
    time c = Σ max(0, d_j) and the map the greatest c of its rows. Each step takes the greatest weight u
    for which an opening exists that leaves a map that needs u less; among those a row takes the interval
    that removes most jumps d_j, because the jumps that are left bound the number of openings.

    Parameters
    ----------
    levels
        The map, shape ``(rows, columns)``, none negative; leaves travel along the columns.

    Raises
    ------
    ValueError
        If a level is negative.
    """
    if (levels < 0).any():
        raise ValueError("expected a fluence map without negative levels")
    rest = levels.copy()
    columns = np.arange(levels.shape[1])
    openings = []
    while rest.any():
        opening = _greatest(rest)
        is_open = (columns >= opening.left[:, None]) & (columns < opening.right[:, None])
        rest -= opening.weight * is_open
        openings.append(opening)
    return openings


def beam_on_time(levels: Levels) -> int:
    """The least sum of weights of any openings that make up a map."""
    return int(np.maximum(_jumps(levels), 0).sum(axis=1).max(initial=0))


def quantise(fluence: Float64[np.ndarray, "..."], n_levels: int) -> tuple[Int64[np.ndarray, "..."], float]:
    """Fluence in whole levels of its maximum, and the fluence of one level."""
    step = float(fluence.max(initial=0.0)) / n_levels
    if step <= 0:
        return np.zeros(fluence.shape, dtype=np.int64), 0.0
    return np.rint(fluence / step).astype(np.int64), step


def sequence(
    weights: Float64[np.ndarray, " n"], bixels: Bixels, mlc: Mlc, n_levels: int = 8, min_area: float = 0.0
) -> list[Segment]:
    """Segments of one beam that deliver its bixel weights, rounded to levels.

    Parameters
    ----------
    weights
        Pencil-beam weight of each bixel in one fraction, shape ``(n,)``.
    bixels
        Where the bixels are: one row for each leaf pair, evenly spaced columns.
    mlc
        The leaves.
    n_levels
        Levels that the greatest weight is rounded to.
    min_area
        Openings smaller than this are left out (mm² at the isocentre), unless all are: a small target
        needs small openings.

    Raises
    ------
    ValueError
        If the leaves may not pass each other, cannot open as little as a bixel, or do not reach one.
    """
    width = bixels.width[0]
    x, y = bixels.positions.T
    if not mlc.interdigitation:
        raise ValueError(
            "expected leaves that may pass the opposite leaves of their neighbours, got a machine that "
            "forbids it; choose another machine"
        )
    if width < mlc.min_gap:
        raise ValueError(f"expected bixels wider than the leaf gap of {mlc.min_gap:g} mm, got {width:g} mm")
    if np.abs(x).max() + width / 2 > mlc.max_position + 1e-6:
        raise ValueError(
            f"expected bixels within {mlc.max_position:g} mm of the axis, got one at {np.abs(x).max():g} mm; "
            "move the isocentre into the target"
        )
    first = float(x.min()) - width / 2
    columns = np.rint((x - first) / width - 0.5).astype(np.int64)
    pairs = np.searchsorted(mlc.boundaries, y) - 1
    if pairs.min() < 0 or pairs.max() >= len(mlc.boundaries) - 1:
        raise ValueError("expected every row of bixels behind a leaf pair; take a smaller target")
    whole, step = quantise(weights, n_levels)
    levels = np.zeros((len(mlc.boundaries) - 1, int(columns.max()) + 1), dtype=np.int64)
    levels[pairs, columns] = whole
    heights = np.diff(mlc.boundaries)
    openings = decompose(levels)
    large = [o for o in openings if float(((o.right - o.left) * width * heights).sum()) >= min_area]
    return [Segment(first + width * np.stack([o.left, o.right]), o.weight * step) for o in large or openings]


def settle(
    segments: Sequence[Segment], machine: Machine
) -> tuple[Float64[np.ndarray, "segments 2 n"], tuple[float, float], tuple[float, float]]:
    """Leaves of each segment with the closed pairs put away, and the jaws along x and y of the beam.

    The jaws stand around all openings of the beam; closed pairs wait under the jaw, with the smallest
    gap, so that no closed leaf ends meet in the field.

    Raises
    ------
    ValueError
        If there is no segment, or one without an opening.
    """
    shapes = np.array([segment.leaves for segment in segments])
    is_open = shapes[:, 1] > shapes[:, 0] if len(segments) else np.zeros((1, 1), dtype=bool)
    if not is_open.any(axis=1).all():
        raise ValueError("expected segments that are open somewhere; leave empty beams out of the plan")
    mlc = machine.mlc
    pairs = np.flatnonzero(is_open.any(axis=0))
    jaws_x = (float(shapes[:, 0][is_open].min()), float(shapes[:, 1][is_open].max()))
    jaws_y = (float(mlc.boundaries[pairs[0]]), float(mlc.boundaries[pairs[-1] + 1]))
    parked = max(jaws_x[0] - _UNDER_JAW, mlc.min_gap - mlc.max_position)
    shapes[:, 0][~is_open], shapes[:, 1][~is_open] = parked - mlc.min_gap, parked
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


def _jumps(levels: Levels) -> Int64[np.ndarray, "rows ends"]:
    """Differences along each row, from and to closed leaves at its ends: one more than columns."""
    return np.diff(levels, axis=1, prepend=0, append=0)


def _greatest(rest: Levels) -> Opening:
    """The opening of greatest weight that shortens the time left by its weight."""
    jumps = _jumps(rest)
    need = np.maximum(jumps, 0).sum(axis=1)
    slack = need.max() - need
    lowest = _lowest(rest)
    rise, fall = jumps[:, :, None], -jumps[:, None, :]
    for u in range(int(min(rest.max(), need.max())), 0, -1):
        # The row's need falls by u where both ends have a jump of at least u to take it from.
        saved = np.clip(rise, 0, u) + np.clip(fall, 0, u) - u
        fits = (lowest >= u) & (saved >= (u - slack)[:, None, None])
        may_close = slack >= u
        if not (fits.any(axis=(1, 2)) | may_close).all():
            continue
        fewer = 1 * (rise == u) - 1 * (rise == 0) + 1 * (fall == u) - 1 * (fall == 0)
        return _choose(u, fits, fewer, may_close)
    raise AssertionError("a weight of 1 always fits")


def _choose(u: int, fits: np.ndarray, fewer: np.ndarray, may_close: np.ndarray) -> Opening:
    """In each row the fitting interval that removes most jumps, and of those the longest."""
    n_rows, n = fits.shape[0], fits.shape[1]
    length = np.arange(n)[None, :] - np.arange(n)[:, None]
    score = np.where(fits, fewer * 2 * n + length, np.iinfo(np.int64).min).reshape(n_rows, -1)
    best = score.argmax(axis=1)
    # A closed row removes no jump and has no length: its score is zero.
    closed = may_close & (score[np.arange(n_rows), best] <= 0)
    left, right = np.unravel_index(best, (n, n))
    return Opening(u, np.where(closed, 0, left), np.where(closed, 0, right))


def _lowest(rest: Levels) -> Int64[np.ndarray, "rows ends ends"]:
    """Least level of every interval [l, r) of every row; -1 where r <= l."""
    n_rows, n = rest.shape
    lowest = np.full((n_rows, n + 1, n + 1), -1, dtype=np.int64)
    for start in range(n):
        lowest[:, start, start + 1 :] = np.minimum.accumulate(rest[:, start:], axis=1)
    return lowest
