"""The leaves of a window among all those of the machine."""

import numpy as np
from jaxtyping import Float64

from planning.machine import Machine
from planning.parking import closed

from .apertures import Window, room_beside

Pairs = Float64[np.ndarray, "points 2 pairs"]


def all_pairs(leaves: Pairs, window: Window, machine: Machine) -> Float64[np.ndarray, "points 2 all"]:
    """Positions of every pair of the machine; those that are not over the window wait closed beside it."""
    under = max(window.jaws_x[0] - room_beside(window, machine)[0], 0.0)
    found = np.repeat(closed(machine, window.jaws_x, under)[None], len(leaves), axis=0)
    found[:, :, window.pairs] = leaves
    return found


def aside(window: Window, machine: Machine) -> Float64[np.ndarray, "2 pairs"]:
    """Where the closed pairs of a window wait with the smallest gap (mm at the isocentre).

    Under the jaw of bank A. Without one the layers wait at opposite ends: each covers the other's gap.
    """
    (low, high), gap = room_beside(window, machine), machine.mlc.min_gap
    is_lower = window.pairs >= len(machine.mlc.boundaries) - 1
    left = np.where(is_lower & ("x" not in machine.jaws), high - gap, low)
    return np.stack([left, left + gap])


def as_segment(
    leaves: Float64[np.ndarray, "2 pairs"], window: Window, machine: Machine
) -> Float64[np.ndarray, "2 all"]:
    """Positions of all pairs of one standing shape (mm at the isocentre), equal where a pair is closed.

    Between jaws along x, pairs that are open by no more than the gap are closed: they can wait under one.
    Without these jaws they keep their gap where it was found to harm least.
    """
    found = np.zeros((2, machine.mlc.n_pairs))
    if "x" not in machine.jaws:
        found[:, window.pairs] = leaves
        return found
    left, right = np.clip(leaves, *window.jaws_x)
    found[:, window.pairs] = np.where(right - left > machine.mlc.min_gap + 1e-6, [left, right], 0.0)
    return found


def open_area(leaves: Pairs, window: Window) -> Float64[np.ndarray, " points"]:
    """Area that leaves open within a window (mm² at the isocentre); behind two layers where both do."""
    left, right = leaves[:, 0][:, window.over].max(axis=1), leaves[:, 1][:, window.over].min(axis=1)
    low, high = window.jaws_x
    wide = np.minimum(right, high) - np.maximum(left, low)
    return np.asarray(np.clip(wide, 0, None).sum(axis=1) * window.size[1])
