"""How far voxels lie from a surface."""

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from imaging.grid import Grid
from imaging.shapes import Mask


def signed_distance(mask: Mask, grid: Grid) -> Float[Tensor, "i j k"]:
    """Euclidean distance (mm) of voxel centres from a structure's surface, negative inside it.

    The exact transform of Maurer et al., IEEE Trans. Pattern Anal. Mach. Intell. 25, 265 (2003), measures to
    the next voxel on the other side; the surface is half a voxel nearer, taken of the smallest side.

    Parameters
    ----------
    mask
        True inside, shape ``(i, j, k)``; not empty.
    grid
        Where it lies.

    Raises
    ------
    ValueError
        If the structure has no voxel.
    """
    if not bool(mask.any()):
        raise ValueError("expected a structure with voxels to measure from, got an empty one")
    inside = np.pad(mask.numpy(), 1)  # a structure that fills the grid ends with it
    sides = [float(mm) for mm in grid.spacing]
    half = min(sides) / 2
    away = ndimage.distance_transform_edt(~inside, sampling=sides)
    within = ndimage.distance_transform_edt(inside, sampling=sides)
    signed = np.where(inside, half - within, away - half)[1:-1, 1:-1, 1:-1]
    return torch.from_numpy(np.ascontiguousarray(signed, dtype=np.float32))
