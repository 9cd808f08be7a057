"""A fluence map as openings whose weights are powers of two."""

import numpy as np

from .engel_rows import rows_of
from .openings import Levels, Opening, Scores, best_side_by_side, expect_levels, opened


def xia_verhey(levels: Levels, interdigitation: bool = True) -> list[Opening]:
    """Openings of weights 1, 2, 4, ... whose weighted sum is a map of whole numbers, few of them.

    Xia, Verhey, Med. Phys. 25, 1424 (1998), with their technique of reducing levels. Each step takes the
    weight d = 2^(m-1), m = log2 of the greatest level, rounded: about half of it, so that few steps end
    it. In each row the leaves open on the run of bixels of at least d that holds the row's greatest
    level. (That m is rounded to the nearest, we have from memory; matRad rounds it down, which takes a
    little less time and more openings.) The time is longer than the least.

    Where leaves may not pass the opposite leaves of their neighbours, rows open on those intervals of at
    least d that together reach furthest above it, an extension of ours; where all rows may have what they
    want, it is the paper's choice.

    Parameters
    ----------
    levels
        The map, shape ``(rows, columns)``, none negative; leaves travel along the columns.
    interdigitation
        Whether a leaf may pass the opposite leaf of a neighbouring row.

    Raises
    ------
    ValueError
        If a level is negative.
    """
    rest = expect_levels(levels).copy()
    openings = []
    while rest.any():
        d = 2 ** max(round(float(np.log2(rest.max()))) - 1, 0)
        opening = Opening(d, *_chosen(_worth(rest, d), interdigitation))
        rest -= d * opened(opening, rest.shape[1])
        openings.append(opening)
    return openings


def _chosen(scores: Scores, interdigitation: bool) -> tuple[np.ndarray, np.ndarray]:
    if interdigitation:
        left, right = np.divmod(scores.reshape(len(scores), -1).argmax(axis=1), scores.shape[2])
        return left, right
    found = best_side_by_side(scores)
    if found is None:
        raise AssertionError("closed leaves can always meet within a neighbour's opening")
    return found


def _worth(rest: Levels, d: int) -> Scores:
    """For each interval of at least d how far its greatest level is above d, then how long it is."""
    n = rest.shape[1]
    edges = np.arange(n + 1)
    greatest = np.zeros((len(rest), n + 1, n + 1), dtype=np.int64)
    for start in range(n):
        greatest[:, start, start + 1 :] = np.maximum.accumulate(rest[:, start:], axis=1)
    scores = np.where(
        rows_of(rest).lowest >= d, (greatest - d) * (n + 1.0) + edges[None, :] - edges[:, None], -np.inf
    )
    # Closed leaves may meet anywhere.
    scores[:, edges, edges] = 0.0
    return scores
