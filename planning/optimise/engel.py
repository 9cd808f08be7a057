"""A fluence map as openings of least total beam-on time, and few of them."""

import numpy as np

from .engel_rows import rows_of, worth
from .kalinowski import constrained, constrained_time
from .openings import Levels, Opening, expect_levels, opened


def engel(levels: Levels, interdigitation: bool = True) -> list[Opening]:
    """Openings whose weighted sum is a map of whole numbers, in the least possible beam-on time.

    Engel, Discrete Appl. Math. 152, 35 (2005). With d_j = a_j - a_(j-1) along a row, a row needs the
    time c = Σ max(0, d_j) and the map the greatest c of its rows. Each step takes the greatest weight u
    for which an opening exists that leaves a map that needs u less, and among those openings one that
    removes most jumps d_j (:func:`planning.optimise.engel_rows.worth`). Where leaves may not pass the
    opposite leaves of their neighbours, :func:`planning.optimise.kalinowski.constrained`.

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
    if not interdigitation:
        return constrained(rest)
    openings: list[Opening] = []
    while rest.any():
        # The greatest weight never grows: what fits later would have fitted before.
        opening = _greatest(rest, openings[-1].weight if openings else int(rest.max()))
        rest -= opening.weight * opened(opening, rest.shape[1])
        openings.append(opening)
    return openings


def beam_on_time(levels: Levels, interdigitation: bool = True) -> int:
    """The least sum of weights of any openings that make up a map."""
    if not interdigitation:
        return constrained_time(levels)
    return int(rows_of(levels).need().max(initial=0))


def _greatest(rest: Levels, most: int) -> Opening:
    """The opening of greatest weight, up to ``most``, that shortens the time left by its weight."""
    rows = rows_of(rest)
    time = int(rows.need().max())
    for u in range(min(most, int(rest.max())), 0, -1):
        scores = worth(rows, time, u).reshape(len(rest), -1)
        if np.isfinite(scores.max(axis=1)).all():
            left, right = np.divmod(scores.argmax(axis=1), rows.jumps.shape[1])
            return Opening(u, left, right)
    raise AssertionError("a weight of 1 always fits")
