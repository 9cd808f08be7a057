"""Where the leaves of a window may stand, and where all others do meanwhile."""

import numpy as np
from jaxtyping import Bool, Float64

from planning.machine import Machine
from planning.parking import Span, closed, jaws_around

from .apertures import UNDER_JAW, Window

Rows = Float64[np.ndarray, "points 2 rows"]
Pairs = Float64[np.ndarray, "points 2 pairs"]


def leaf_reach(window: Window, machine: Machine) -> Span:
    """The furthest positions of leaves over a window (mm at the isocentre).

    From under one jaw to under the other, as far as leaves of one bank may stand apart. Without jaws
    along x leaves stay over the window's bixels, so that whatever they leave open is seen.
    """
    (low, high), mlc = window.jaws_x, machine.mlc
    room = min(UNDER_JAW, (mlc.max_span - (high - low)) / 2)
    under = room if "x" in machine.jaws else -mlc.dosimetric_gap / 2
    return max(low - under, -mlc.max_position), min(high + under, mlc.max_position)


def onto_pairs(
    leaves: Rows, window: Window, is_closed: Bool[np.ndarray, "points rows"] | None = None
) -> Pairs:
    """Leaf pairs that leave open what rows are to be open, and as little else as they can.

    Each pair reaches around all rows that it lies over, but those that are closed, if others are not.
    Behind two layers a row is open where both of its pairs are, and so no wider than its neighbours.

    Parameters
    ----------
    leaves
        Where each row begins and ends to be open (mm at the isocentre).
    window
        Which pairs lie over which rows.
    is_closed
        Rows whose positions do not count.
    """
    counts = np.zeros_like(leaves[:, 0], dtype=bool) if is_closed is None else is_closed
    found = np.empty((len(leaves), 2, len(window.pairs)))
    for n in range(len(window.pairs)):
        own = (window.over == n).any(axis=0)
        # Where all of a pair's rows are closed, so is the pair: around wherever they wait.
        skip = counts[:, own] & ~counts[:, own].all(axis=1, keepdims=True)
        found[:, 0, n] = np.where(skip, np.inf, leaves[:, 0, own]).min(axis=1)
        found[:, 1, n] = np.where(skip, -np.inf, leaves[:, 1, own]).max(axis=1)
    return found


def all_pairs(leaves: Pairs, window: Window, machine: Machine) -> Float64[np.ndarray, "points 2 all"]:
    """Positions of every pair of the machine; those that are not over the window wait closed beside it."""
    low = leaf_reach(window, machine)[0]
    found = np.repeat(
        closed(machine, window.jaws_x, max(window.jaws_x[0] - low, 0.0))[None], len(leaves), axis=0
    )
    found[:, :, window.pairs] = leaves
    return found


def jaws_of(window: Window, machine: Machine) -> tuple[Span, Span]:
    """Jaws along x and y around a window, or the full opening where there are none."""
    return jaws_around(machine, window.jaws_x, window.jaws_y)


def open_area(leaves: Pairs, window: Window) -> Float64[np.ndarray, " points"]:
    """Area that leaves open within a window (mm² at the isocentre)."""
    left, right = leaves[:, 0][:, window.over].max(axis=1), leaves[:, 1][:, window.over].min(axis=1)
    low, high = window.jaws_x
    wide = np.minimum(right, high) - np.maximum(left, low)
    return np.asarray(np.clip(wide, 0, None).sum(axis=1) * window.size[1])
