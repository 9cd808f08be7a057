"""Equal parts of a structure that is a mask: no voxel counts whole.

A mask says of every voxel's centre whether it lies inside. Counted whole, voxels give a structure stairs, and
read the extremes of a dose that rises across it half a voxel too far out. Here its slices are cross-sections
like drawn ones (:mod:`planning.check.parts`), with the area of their voxels.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float64
from scipy.ndimage import distance_transform_edt

from imaging.grid import Grid, positions
from imaging.shapes import Mask, Point

from .layers import layers_through
from .parts import Parts, Section, part_volume, points_in

# A structure has as many parts as voxels, within these.
_PARTS_AT_LEAST, _PARTS_AT_MOST = 40_000, 1_000_000
_AROUND = 2  # voxels around the structure that distances are told for


def masked_parts(mask: Mask, grid: Grid) -> Parts:
    """Equal parts of a structure.

    Across the slices areas and shapes are interpolated as in :func:`.contoured.contoured_histogram`, but an
    end that closes may do so anywhere before the next slice. In the slices the surface runs midway between
    the centres of voxels inside and outside, so that no area is lost.

    Parameters
    ----------
    mask
        The structure, shape ``(i, j, k)`` of ``grid``.
    grid
        Where the mask lies.

    Raises
    ------
    ValueError
        If the structure is empty or does not fit the grid.
    """
    if tuple(mask.shape) != grid.shape:
        raise ValueError(f"expected a mask on the grid {grid.shape}, got {tuple(mask.shape)}")
    if not bool(mask.any()):
        raise ValueError("expected a structure with at least one voxel, got an empty one; contour it again")
    inside, first = _cropped(mask)
    step, slice_mm = grid.spacing[:2], float(grid.spacing[2])
    planes = np.flatnonzero(inside.any(axis=(0, 1)))
    n_parts = int(np.clip(inside.sum(), _PARTS_AT_LEAST, _PARTS_AT_MOST))
    areas = inside.sum(axis=(0, 1))[planes] * float(step.prod())
    layers = list(layers_through(planes * slice_mm, areas, slice_mm, n_cubes=n_parts, closes=True))
    volume = sum(layer.area * layer.thickness for layer in layers)
    low, high = np.zeros(2), (np.array(inside.shape[:2]) - 1) * step
    thickest = max(layer.thickness for layer in layers)

    def section(n: int) -> Section:
        plane = int(planes[n])
        return Section(plane * slice_mm, low, step, _distances(inside[:, :, plane], step))

    part = part_volume(volume, float((high - low).prod()), thickest, n_parts)
    points = points_in(layers, section, low, high, part) / grid.spacing
    return Parts(positions(grid, points + first), volume / 1000)


def _cropped(mask: Mask) -> tuple[Bool[np.ndarray, "a b c"], Point]:
    """The box around a structure with some voxels more in the plane, and the index it begins at."""
    found = torch.nonzero(mask)
    low, high = found.amin(0).tolist(), found.amax(0).tolist()
    box = tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))
    around = ((_AROUND, _AROUND), (_AROUND, _AROUND), (0, 0))
    return np.pad(mask[box].cpu().numpy(), around), np.array(low, dtype=np.float64) - [_AROUND, _AROUND, 0]


def _distances(inside: Bool[np.ndarray, "i j"], step: Float64[np.ndarray, "2"]) -> Float64[np.ndarray, "i j"]:
    """Signed distance (mm, positive inside) of voxel centres to the surface midway to the next ones."""
    half = float(step.min()) / 2
    within = distance_transform_edt(inside, sampling=step) - half
    outside = distance_transform_edt(~inside, sampling=step) - half
    return np.where(inside, within, -outside)
