"""Margins around a structure, in mm, on any grid."""

import numpy as np
import torch
from scipy import ndimage

from imaging.grid import Grid
from imaging.shapes import Mask


def expand(mask: Mask, grid: Grid, margin_mm: float) -> Mask:
    """Every voxel whose centre lies within a margin of a voxel centre of the mask.

    Exact Euclidean distance with the grid's own spacing; a negative margin shrinks. Growth ends
    at the edge of the grid, and shrinking treats what lies beyond that edge as inside.

    Parameters
    ----------
    mask
        True inside, shape ``(i, j, k)``.
    grid
        Where the mask lies.
    margin_mm
        How far to grow (mm).
    """
    if margin_mm < 0:
        return ~expand(~mask, grid, -margin_mm)
    if margin_mm == 0 or not mask.any():
        return mask.clone()
    low, high = _reach(mask.numpy(), grid, margin_mm)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    away = ndimage.distance_transform_edt(~mask.numpy()[box], sampling=grid.spacing)
    out = np.zeros(grid.shape, dtype=bool)
    # A thousandth of a mm, so that a margin of whole voxels does not hang on rounding.
    out[box] = away <= margin_mm + 1e-3
    return torch.from_numpy(out)


def _reach(mask: np.ndarray, grid: Grid, margin_mm: float) -> tuple[list[int], list[int]]:
    """The box of voxels that the margin can reach: distances elsewhere need no work."""
    low, high = [], []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        used = np.flatnonzero(mask.any(axis=others))
        steps = int(np.ceil(margin_mm / grid.spacing[axis])) + 1
        low.append(max(0, int(used[0]) - steps))
        high.append(min(grid.shape[axis], int(used[-1]) + steps + 1))
    return low, high
