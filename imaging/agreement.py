"""How well two masks or two CTs agree, with the field's definitions."""

import numpy as np
import torch
from scipy import ndimage

from .grid import Grid
from .shapes import Mask
from .volume import Quantity, Volume


def dice(a: Mask, b: Mask) -> float:
    """Twice the overlap over the sum of both volumes (Dice, Ecology 26, 297 (1945)); empty masks agree."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def surface_distances(a: Mask, b: Mask, grid: Grid) -> np.ndarray:
    """Distance (mm) of each surface voxel of ``a`` to the surface of ``b``.

    A surface voxel touches the outside across a face. Not symmetric: call it both ways.

    Raises
    ------
    ValueError
        If one of the masks is empty.
    """
    if not a.any() or not b.any():
        raise ValueError("expected two masks with voxels inside, got an empty one; check the structures")
    away = ndimage.distance_transform_edt(~_surface(b), sampling=grid.spacing)
    return away[_surface(a)]


def mean_surface_distance(a: Mask, b: Mask, grid: Grid) -> float:
    """Mean distance (mm) between two surfaces, over the surface voxels of both."""
    both = np.concatenate([surface_distances(a, b, grid), surface_distances(b, a, grid)])
    return float(both.mean())


def hausdorff(a: Mask, b: Mask, grid: Grid, percentile: float = 95.0) -> float:
    """Hausdorff distance (mm): the greater percentile of both directed distances; 100 is the maximum."""
    there, back = surface_distances(a, b, grid), surface_distances(b, a, grid)
    return float(max(np.percentile(there, percentile), np.percentile(back, percentile)))


def hu_mae(ct: Volume, truth: Volume, body: Mask) -> float:
    """Mean absolute error (HU) inside the body, without clipping (SynthRAD 2023)."""
    return float(_difference(ct, truth, body).abs().mean())


def hu_bias(ct: Volume, truth: Volume, body: Mask) -> float:
    """Mean error (HU) inside the body; positive where the CT is too dense."""
    return float(_difference(ct, truth, body).mean())


def expect_comparable(ct: Volume, truth: Volume, body: Mask) -> None:
    """Refuses CTs that do not lie on one grid, and an empty body.

    Raises
    ------
    ValueError
        Saying which.
    """
    if ct.expect(Quantity.HU).grid != truth.expect(Quantity.HU).grid:
        raise ValueError("expected two CTs on one grid; resample one to the other first")
    if not body.any():
        raise ValueError("expected a body mask with voxels inside, got an empty one")


def _difference(ct: Volume, truth: Volume, body: Mask) -> torch.Tensor:
    expect_comparable(ct, truth, body)
    return (ct.data[0] - truth.data[0])[body]


def _surface(mask: Mask) -> np.ndarray:
    inside = mask.numpy()
    return inside & ~ndimage.binary_erosion(inside)
