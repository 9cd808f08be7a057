"""What passes one layer of leaves or two: at every point the product of what passes each."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

from planning.machine import Mlc
from planning.rows import rows_of

# Shares of areas, in torch or NumPy.
Share = TypeVar("Share", Tensor, np.ndarray)
# Openings side by side: where each begins and ends along the leaves, shape (apertures, n), and their n + 1
# edges across them.
Strips = tuple[Tensor, Tensor, np.ndarray]


def strips(left: Tensor, right: Tensor, mlc: Mlc) -> tuple[Strips, list[Strips]]:
    """What all layers leave open together, and what each of them does where there are two.

    Parameters
    ----------
    left, right
        Where the leaf pairs begin and end to be open (mm at the isocentre), shape ``(apertures, pairs)``.
    mlc
        Its layers.
    """
    if len(mlc.layers) == 1:
        return (left, right, mlc.boundaries), []
    rows = rows_of(mlc)
    counts = [len(edges) - 1 for edges in mlc.layers]
    each = list(zip(left.split(counts, dim=1), right.split(counts, dim=1), mlc.layers, strict=True))
    return (left[:, rows.pairs].amax(dim=1), right[:, rows.pairs].amin(dim=1), rows.edges), each


def passed(inside: Share, together: Share, each: Sequence[Share], mlc: Mlc) -> Share:
    """Mean share of the open fluence that passes leaves, from the shares of areas that are open.

    With T = t + (1 - t)·open for each layer, the mean over an area of the product of two is
    t² + t (1 - t) (open in the one + open in the other) + (1 - t)² (open in both).

    Parameters
    ----------
    inside
        Share of each area between the jaws.
    together
        Share between them that all layers leave open.
    each
        Share between them that each layer leaves open; empty where there is one layer.
    mlc
        Its transmission.
    """
    t = mlc.transmission
    if not each:
        return t * inside + (1 - t) * together
    return t**2 * inside + t * (1 - t) * (each[0] + each[1]) + (1 - t) ** 2 * together
