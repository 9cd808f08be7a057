"""Apertures to start from: leaves that sweep over each sector of an arc and deliver its fluence."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from .apertures import Apertures, Window, of_pairs

# The share of a sweep that leaves may spend on crossing the field at full speed, at most.
_MOST_CROSSING = 0.8


def swept(
    fluence: Float64[np.ndarray, "sectors bixels"],
    spans: Sequence[Int64[np.ndarray, " _"]],
    window: Window,
    furthest: float,
    min_gap: float,
) -> Apertures:
    """Leaves that sweep to and fro, once in each sector of an arc.

    A sliding window delivers a row of fluence exactly: the leading leaf opens each place, the trailing
    leaf closes it once it has had its fluence, and one of the two always goes at full speed (Convery,
    Rosenbloom, Phys. Med. Biol. 37, 1359 (1992)). One sweep for each sector: Craft, McQuaid, Wala, Chen,
    Salari, Bortfeld, Med. Phys. 39, 686 (2012). Between control points leaves move evenly, so that what
    few spans deliver is near to the fluence, and a search is to follow.

    Parameters
    ----------
    fluence
        Of each sector, in every one of its directions (pencil-beam weight).
    spans
        Which spans of the arc belong to each sector, in order.
    window
        The bixels.
    furthest
        How far a leaf may travel in one span (mm at the isocentre).
    min_gap
        Smallest opening of a leaf pair (mm at the isocentre).
    """
    states, weights = [], []
    for n, (map_, own) in enumerate(zip(fluence, spans, strict=True)):
        wanted = len(own) * map_.reshape(len(window.rows), -1)
        backward = bool(n % 2)
        leaves, weight = _sweep(wanted[:, ::-1] if backward else wanted, window, len(own), furthest)
        low, high = window.jaws_x
        if backward:
            leaves = low + high - leaves[:, ::-1]
        states.append(leaves if n == 0 else leaves[1:])
        weights.append(np.full(len(own), weight))
    leaves = of_pairs(np.concatenate(states), window)
    leaves[:, 1] = np.maximum(leaves[:, 1], leaves[:, 0] + min_gap)
    span = np.arange(len(leaves) - 1)
    return Apertures(leaves, np.concatenate(weights), span, span + 1, span)


def _sweep(
    wanted: Float64[np.ndarray, "rows columns"], window: Window, n_spans: int, furthest: float
) -> tuple[Float64[np.ndarray, "states 2 rows"], float]:
    """Positions at the ends of spans, left to right, and the weight of each span."""
    low, high = window.jaws_x
    falls = np.maximum(wanted - np.pad(wanted, ((0, 0), (0, 1)))[:, 1:], 0)
    needed = float(falls.sum(axis=1).max())
    crossing = min((high - low) / (furthest * n_spans), _MOST_CROSSING)
    whole = needed / (1 - crossing)
    # When each column is opened and closed: full speed, and the wait for what its neighbour has too much.
    step = crossing * whole / wanted.shape[1]
    waits = np.pad(falls[:, :-1], ((0, 0), (1, 0)))
    opened = np.cumsum(step + waits, axis=1) - step / 2
    closed = opened + wanted
    times = np.linspace(0, whole, n_spans + 1)
    places = np.r_[low, window.columns, high]
    leaves = np.empty((n_spans + 1, 2, len(wanted)))
    for bank, event in enumerate((closed, opened)):
        for row, when in enumerate(event):
            leaves[:, bank, row] = np.interp(times, np.r_[0.0, when, when[-1] + step / 2], places)
    return leaves, whole / n_spans
