"""Rows: the strips across the leaves that see one leaf pair of every layer."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from .machine import Mlc


@dataclass(frozen=True, eq=False)
class Rows:
    """The widest strips that no edge of a leaf cuts, where all layers have leaves.

    Parameters
    ----------
    edges
        Their edges along y, ascending (mm at the isocentre).
    pairs
        The leaf pair of each layer over each row, counted through all layers, shape ``(layers, rows)``.
    """

    edges: Float64[np.ndarray, " edges"]
    pairs: Int64[np.ndarray, "layers rows"]


def rows_of(mlc: Mlc) -> Rows:
    """The rows of a collimator; with one layer its leaf pairs.

    Layers that are shifted by half a leaf give rows of half a leaf: a point is open where both layers are,
    so that the opening of a row is what its two pairs leave open together.
    """
    low, high = max(e[0] for e in mlc.layers), min(e[-1] for e in mlc.layers)
    edges = np.unique(np.concatenate([e[(e >= low) & (e <= high)] for e in mlc.layers]))
    middles = (edges[:-1] + edges[1:]) / 2
    pairs, first = [], 0
    for own in mlc.layers:
        pairs.append(first + np.searchsorted(own, middles) - 1)
        first += len(own) - 1
    return Rows(edges, np.stack(pairs))


def left_open(
    leaves: Float64[np.ndarray, "*batch 2 pairs"], rows: Rows
) -> Float64[np.ndarray, "*batch 2 rows"]:
    """What the pairs over each row leave open together: where it begins and ends (mm), never ends first."""
    left = leaves[..., 0, :][..., rows.pairs].max(axis=-2)
    right = leaves[..., 1, :][..., rows.pairs].min(axis=-2)
    return np.stack([left, np.maximum(left, right)], axis=-2)
