"""Where jaws and closed leaf pairs stand around a field."""

import numpy as np
from jaxtyping import Float64

from .machine import Machine

Span = tuple[float, float]


def jaws_around(machine: Machine, x: Span, y: Span) -> tuple[Span, Span]:
    """Jaws along x and y of a field that reaches over two spans (mm at the isocentre).

    At the field's edges; where there are no jaws along an axis, the full opening.
    """
    full = (-machine.max_jaw, machine.max_jaw)
    return x if "x" in machine.jaws else full, y if "y" in machine.jaws else full


def closed(machine: Machine, x: Span, under: float) -> Float64[np.ndarray, "2 pairs"]:
    """Positions of all leaf pairs when they wait beside a field (mm at the isocentre).

    Under the jaw of bank A with the smallest gap, so that no closed leaf ends meet. Where no jaw would
    hide the gap they meet, at the ends of the field: the layers at opposite ends, so that each covers the
    leaf ends of the other.

    Parameters
    ----------
    machine
        Its jaws and leaves.
    x
        From where to where the field reaches along the leaves (mm at the isocentre).
    under
        How far under the jaw they wait (mm at the isocentre).
    """
    mlc = machine.mlc
    if "x" in machine.jaws:
        at = max(x[0] - under, mlc.min_gap - mlc.max_position)
        return np.stack([np.full(mlc.n_pairs, at - mlc.min_gap), np.full(mlc.n_pairs, at)])
    ends = [np.full(len(edges) - 1, end) for edges, end in zip(mlc.layers, x, strict=False)]
    return np.stack([np.concatenate(ends)] * 2)
