"""Shapes of the leaves on a lattice of bixels, and which rows of them may stand side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, Real

Levels = Int64[np.ndarray, "rows columns"]
Columns = Int64[np.ndarray, " rows"]
Scores = Float64[np.ndarray, "rows edges edges"]


@dataclass(frozen=True, eq=False)
class Opening:
    """One shape on a lattice of bixels: in each row the columns from ``left`` up to ``right`` are open.

    Parameters
    ----------
    weight
        How long it is held, in levels.
    left, right
        First open column and first closed one after it, shape ``(rows,)``; equal where a row is closed,
        and then where its leaves meet.
    """

    weight: int
    left: Columns
    right: Columns


# Openings whose weighted sum is a map of whole levels, none negative; told whether leaves may interdigitate.
Decompose = Callable[[Levels, bool], list[Opening]]


def opened(opening: Opening, n_columns: int) -> Bool[np.ndarray, "rows columns"]:
    """Which bixels an opening lets through."""
    columns = np.arange(n_columns)
    return (columns >= opening.left[:, None]) & (columns < opening.right[:, None])


def together(openings: Sequence[Opening], n_rows: int, n_columns: int) -> Levels:
    """The map that openings deliver one after another."""
    total = np.zeros((n_rows, n_columns), dtype=np.int64)
    for opening in openings:
        total += opening.weight * opened(opening, n_columns)
    return total


def expect_levels(levels: Levels) -> Levels:
    """This map, if it can be delivered.

    Raises
    ------
    ValueError
        If a level is negative.
    """
    if (levels < 0).any():
        raise ValueError("expected a fluence map without negative levels, got one; round it up to zero")
    return levels


def clash(left: Real[np.ndarray, " rows"], right: Real[np.ndarray, " rows"], slack: float = 0.0) -> bool:
    """Whether a leaf passes the opposite leaf of a neighbouring row by more than ``slack``."""
    return bool((left[:-1] > right[1:] + slack).any() or (left[1:] > right[:-1] + slack).any())


def best_side_by_side(scores: Scores) -> tuple[Columns, Columns] | None:
    """An interval for each row, with the greatest sum of scores of all that leaves can take at once.

    No leaf passes the opposite leaf of a neighbouring row: with row i open from l to r, row i + 1 may be
    open from l' <= r to r' >= l. The best of these is a greatest value over a corner of the table (l, r),
    so that a row costs as much as its table (dynamic programming, exact).

    Parameters
    ----------
    scores
        What the interval from l up to r of a row is worth, ``[row, l, r]``; -inf where it may not be, and
        so where r < l; on the diagonal the row is closed.

    Returns
    -------
        Left and right of each row, or None where no choice is possible.
    """
    sums = [scores[0]]
    for own in scores[1:]:
        corner = np.maximum.accumulate(np.maximum.accumulate(sums[-1], axis=0)[:, ::-1], axis=1)[:, ::-1]
        sums.append(own + corner.T)
    if not np.isfinite(sums[-1].max()):
        return None
    left, right = np.zeros((2, len(scores)), dtype=np.int64)
    low, high = 0, scores.shape[1] - 1
    for i in range(len(scores) - 1, -1, -1):
        corner = sums[i][: high + 1, low:]
        row, column = divmod(int(corner.argmax()), corner.shape[1])
        left[i], right[i] = low, high = row, low + column
    return left, right
