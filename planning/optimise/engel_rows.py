"""What one row of a fluence map may do in one opening, after Engel."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from .openings import Columns, Levels, Scores

Jumps = Int64[np.ndarray, "rows edges"]
Intervals = Int64[np.ndarray, "rows edges edges"]


@dataclass(frozen=True, eq=False)
class Rows:
    """What is asked of the rows of a map.

    Parameters
    ----------
    jumps
        Differences d_j along each row, from and to closed leaves at its ends: one more than columns.
    lowest
        Least level of every interval [l, r) of every row; -1 where r <= l.
    """

    jumps: Jumps
    lowest: Intervals

    def need(self) -> Columns:
        """The least time c = Σ max(0, d_j) that each row needs."""
        return np.maximum(self.jumps, 0).sum(axis=1)


def rows_of(levels: Levels) -> Rows:
    """The rows of a map."""
    n_rows, n = levels.shape
    lowest = np.full((n_rows, n + 1, n + 1), -1, dtype=np.int64)
    for start in range(n):
        lowest[:, start, start + 1 :] = np.minimum.accumulate(levels[:, start:], axis=1)
    return Rows(np.diff(levels, axis=1, prepend=0, append=0), lowest)


def worth(rows: Rows, time: int, u: int) -> Scores:
    """How good each interval of each row is in an opening of weight u; -inf where it may not be.

    Engel, Discrete Appl. Math. 152, 35 (2005): after it, the row must be able to end in ``time - u``.
    An interval takes u off the row's need where both its ends have a jump of at least u to take it from;
    a row that has time left may lose less, or stay closed. Best is what removes most jumps, because the
    jumps that are left bound the number of openings; of those the longest.
    """
    n = rows.jumps.shape[1]
    slack = time - rows.need()
    rise, fall = rows.jumps[:, :, None], -rows.jumps[:, None, :]
    saved = np.clip(rise, 0, u) + np.clip(fall, 0, u) - u
    fits = (rows.lowest >= u) & (saved >= (u - slack)[:, None, None])
    fewer = 1 * (rise == u) - 1 * (rise == 0) + 1 * (fall == u) - 1 * (fall == 0)
    length = np.arange(n)[None, :] - np.arange(n)[:, None]
    scores = np.where(fits, fewer * 2.0 * n + length, -np.inf)
    closed = np.arange(n)
    # A closed row removes no jump and has no length.
    scores[:, closed, closed] = np.where(slack >= u, 0.0, -np.inf)[:, None]
    return scores
