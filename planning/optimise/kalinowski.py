"""A fluence map as openings of least beam-on time for leaves that may not interdigitate."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from .engel_rows import Rows, rows_of, worth
from .openings import Levels, Opening, Scores, best_side_by_side, opened

# How often rows are chosen anew before a weight is given up, and what a path that is too long costs then.
_N_TRIES = 16
_PENALTY = 8.0


def constrained(levels: Levels) -> list[Opening]:
    """Openings in which no leaf passes the opposite one of its neighbours, in the least beam-on time.

    Kalinowski, Discrete Appl. Math. 152, 52 (2005): the least time is the length of the longest path
    through a digraph of the bixels (:func:`earliest`). As in Engel's algorithm each step takes the
    greatest weight for which an opening is found that leaves a map that needs so much less. The rows of
    the opening are chosen by dynamic programming instead of the paper's search: where a path stays too
    long, what lengthens it is made dearer and rows are chosen again. Where nothing is found for a greater
    weight, the first shape of the sweep of least time is taken, which always fits. So the time is the
    least, always; the weights are not proven to be the greatest, but in 41 steps of random 10x10 maps with
    levels up to 10 a mixed-integer programme found no greater one.

    Parameters
    ----------
    levels
        The map, shape ``(rows, columns)``, none negative; leaves travel along the columns.
    """
    lit = np.flatnonzero(levels.any(axis=1))
    if len(lit) == 0:
        return []
    first, end = int(lit[0]), int(lit[-1]) + 1
    rest = levels[first:end].copy()
    openings: list[Opening] = []
    while rest.any():
        opening = _greatest(rest, openings[-1].weight if openings else int(rest.max()))
        rest -= opening.weight * opened(opening, rest.shape[1])
        openings.append(opening)
    return [_beside(o, first, len(levels) - end) for o in openings]


def constrained_time(levels: Levels) -> int:
    """The least sum of weights of openings that make up a map, without interdigitation."""
    return int(earliest(levels)[:, -1].max(initial=0)) if levels.size else 0


def earliest(levels: Levels) -> Int64[np.ndarray, "rows columns"]:
    """When the left leaf may have passed each bixel, at the earliest, as leaves sweep to the right.

    The longest paths of Kalinowski's digraph: a bixel is passed later than the one before it by the rise
    of the level between them, and no earlier than the right leaf of the sweep has passed the same column
    in the neighbouring rows: their own time less their level. Kamath et al., Phys. Med. Biol. 48, 307
    (2003) sweep like this; no other openings need less time (Kalinowski).
    """
    rise = np.maximum(np.diff(levels, axis=1, prepend=0), 0)
    above = np.cumsum(levels, axis=0) - levels
    below = np.cumsum(levels[::-1], axis=0)[::-1] - levels
    times = np.zeros_like(levels)
    now = np.zeros(len(levels), dtype=np.int64)
    for j in range(levels.shape[1]):
        now = now + rise[:, j]
        down = np.maximum.accumulate(now + above[:, j]) - above[:, j]
        up = np.maximum.accumulate((now + below[:, j])[::-1])[::-1] - below[:, j]
        now = np.maximum(down, up)
        times[:, j] = now
    return times


def _beside(opening: Opening, before: int, after: int) -> Opening:
    """The same opening between rows that stay closed, their leaves where the outermost rows allow."""
    left = np.pad(opening.left, (before, after), mode="edge")
    right = left.copy()
    right[before : len(left) - after] = opening.right
    return Opening(opening.weight, left, right)


def _greatest(rest: Levels, most: int) -> Opening:
    rows, time, safe = rows_of(rest), constrained_time(rest), _first_of_sweep(rest)
    for u in range(min(most, int(rest.max())), safe.weight - 1, -1):
        opening = _found(rest, rows, time, u)
        if opening is not None:
            return opening
    return safe


def _first_of_sweep(rest: Levels) -> Opening:
    """What the sweep of least time begins with, as long as its leaves stand still."""
    passed = earliest(rest)
    reached = passed - rest
    times = np.concatenate([passed.ravel(), reached.ravel()])
    return Opening(int(times[times > 0].min()), (passed <= 0).sum(axis=1), (reached <= 0).sum(axis=1))


def _found(rest: Levels, rows: Rows, time: int, u: int) -> Opening | None:
    """An opening of weight u after which u less time is needed, if one is found."""
    scores = worth(rows, time, u)
    if not np.isfinite(scores.max(axis=(1, 2))).all():
        return None
    for _ in range(_N_TRIES):
        chosen = best_side_by_side(scores)
        if chosen is None:
            return None
        opening = Opening(u, *chosen)
        left_over = rest - u * opened(opening, rest.shape[1])
        passed = earliest(left_over)
        if passed[:, -1].max() <= time - u:
            return opening
        for step in _longest(left_over, passed):
            _make_dearer(scores, step, rows, u)
    return None


@dataclass(frozen=True)
class _Step:
    """What a path does in one column of one row: come in from the column before, or leave for a neighbour."""

    row: int
    column: int
    leaves: bool


def _longest(levels: Levels, passed: Int64[np.ndarray, "rows columns"]) -> Iterator[_Step]:
    """The steps of a longest path, from its end."""
    before = np.pad(passed, ((0, 0), (1, 0)))[:, :-1]
    here = before + np.maximum(np.diff(levels, axis=1, prepend=0), 0)
    above = np.cumsum(levels, axis=0) - levels
    below = np.cumsum(levels[::-1], axis=0)[::-1] - levels
    row = int(passed[:, -1].argmax())
    for j in range(levels.shape[1] - 1, -1, -1):
        way = np.where(
            np.arange(len(levels)) <= row, above[row, j] - above[:, j], below[row, j] - below[:, j]
        )
        sources = np.flatnonzero(here[:, j] - way == passed[row, j])
        source = int(sources[np.abs(sources - row).argmin()])
        step = 1 if source < row else -1
        yield from (_Step(i, j, True) for i in range(source, row, step))
        yield _Step(source, j, False)
        row = source


def _make_dearer(scores: Scores, step: _Step, rows: Rows, u: int) -> None:
    """Takes from each interval's score what a step of a longest path is longer by it, after weight u.

    What a step is for every interval of its row alike changes no choice, and is left out.
    """
    j, own, price = step.column, scores[step.row], _PENALTY * scores.shape[1]
    if step.leaves:
        # Its length is less the level that is left.
        own[: j + 1, j + 1 :] -= price * u
        return
    rise = rows.jumps[step.row, j]
    own[j, j + 1 :] += price * (max(rise, 0) - max(rise - u, 0))
    own[:j, j] -= price * (max(rise + u, 0) - max(rise, 0))
