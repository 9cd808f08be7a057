"""Values of one grid, read at the voxels of another."""

import dataclasses

import numpy as np
import torch
from jaxtyping import Bool, Float64, Shaped
from torch import Tensor
from torch.nn.functional import avg_pool3d, grid_sample

from .boxes import box_of, box_there, part_of
from .grid import Grid, around
from .shapes import Floats, Mask, Voxels
from .structures import StructureSet
from .volume import Quantity, Volume

_OUTSIDE = {Quantity.HU: -1000.0}
# Small pieces stay in the cache: twice as fast as pieces of millions.
_VOXELS_AT_ONCE = 200_000

Indices = Float64[Tensor, "planes points 3"]
Read = Shaped[Tensor, "c planes points"]


def on_voxels(mr: Volume, spacing: float, within: Grid | None = None) -> tuple[Floats, Grid]:
    """MR signal on an upright grid of cubes that covers it, each the mean of its eight parts.

    Parameters
    ----------
    mr
        MR signal, any orientation, shape ``(c, i, j, k)``.
    spacing
        Side of a cube (mm).
    within
        What the cubes shall cover instead.
    """
    fine = around(within or mr.grid, (spacing / 2,) * 3)
    image = avg_pool3d(resample(mr, fine).data.float().clamp(min=0)[None], 2, ceil_mode=True)[0]
    affine = fine.affine.copy()
    affine[:3, 3] += spacing / 4
    affine[:3, :3] *= 2
    return image, Grid((image.shape[1], image.shape[2], image.shape[3]), affine)


def resample(volume: Volume, grid: Grid) -> Volume:
    """A volume on another grid, trilinear; labels take their nearest voxel.

    Beyond the outer faces of the volume's voxels the result is air in HU and 0 otherwise.

    Parameters
    ----------
    volume
        Values to read, shape ``(c, i, j, k)``; the computation runs where they lie.
    grid
        Where to read them.
    """
    if volume.grid == grid:
        return volume
    device = volume.data.device
    nearest = volume.quantity is Quantity.LABEL
    data = volume.data if nearest else volume.data.float()
    read = _nearest if nearest else _trilinear
    outside = torch.tensor(_OUTSIDE.get(volume.quantity, 0.0), dtype=data.dtype, device=device)
    n = torch.tensor(volume.grid.shape, dtype=torch.float64, device=device)
    # Index in the volume of each index in the grid, as one affine map.
    to_volume = torch.from_numpy(np.linalg.inv(volume.grid.affine) @ grid.affine).to(device)
    axes = [torch.arange(size, dtype=torch.float64, device=device) for size in grid.shape]
    jk = torch.cartesian_prod(*axes[1:])
    out = torch.empty((data.shape[0], *grid.shape), dtype=data.dtype, device=device)
    n_planes = max(1, _VOXELS_AT_ONCE // jk.shape[0])
    for first in range(0, grid.shape[0], n_planes):
        i = axes[0][first : first + n_planes]
        index = i[:, None, None] * to_volume[:3, 0] + (jk @ to_volume[:3, 1:3].T)[None] + to_volume[:3, 3]
        inside = ((index > -0.5 - 1e-6) & (index < n - 0.5 + 1e-6)).all(dim=-1)
        values = torch.where(inside, read(data, index), outside)
        out[:, first : first + len(i)] = values.reshape(-1, len(i), *grid.shape[1:])
    return Volume(out, grid, volume.quantity, volume.frame)


def averaged(volume: Volume, grid: Grid, step: float) -> Volume:
    """A volume on a coarser grid, each voxel the mean of what lies in it, as slices of scanners are.

    Voxels are read at the middles of equal parts; along axes where they are no longer than one and a half
    steps they are read at their own middles alone, as :func:`resample` does.

    Parameters
    ----------
    volume
        Values to read, no labels, shape ``(c, i, j, k)``.
    grid
        Where to read them.
    step
        About how long a part is (mm).
    """
    i, j, k = parts = [max(1, round(float(size) / step)) for size in grid.spacing]
    if max(parts) == 1:
        return resample(volume, grid)
    affine = grid.affine.copy()
    affine[:3, :3] /= parts
    affine[:3, 3] += (affine[:3, :3] - grid.affine[:3, :3]) @ np.full(3, 0.5)
    fine = Grid((i * grid.shape[0], j * grid.shape[1], k * grid.shape[2]), affine)
    data = avg_pool3d(resample(volume, fine).data.float()[None], (i, j, k))[0]
    return dataclasses.replace(volume, data=data, grid=grid)


def _trilinear(data: Floats, index: Indices) -> Read:
    n = torch.tensor(data.shape[1:], dtype=torch.float64, device=data.device)
    # Border padding makes the outer half voxel constant, so an empty axis still has a value.
    unit = (2 * index / (n - 1).clamp(min=1) - 1).float()
    values = grid_sample(
        data[None],
        unit.flip(-1)[None, :, :, None, :],
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return values[0, :, :, :, 0]


def _nearest(data: Voxels, index: Indices) -> Read:
    # Looked up whole: passing through float32 would change labels above 2**24.
    last = torch.tensor(data.shape[1:], device=data.device) - 1
    i, j, k = (index + 0.5).floor().long().clamp(min=torch.zeros_like(last), max=last).unbind(-1)
    return data[:, i, j, k]


def resample_structures(structures: StructureSet, grid: Grid) -> StructureSet:
    """Structures on another grid: a voxel belongs to a structure that fills at least half of it.

    The share is interpolated, so thin structures keep their volume on average; for histograms
    on a coarse grid resample the dose to the structures instead.
    """
    if structures.grid == grid:
        return structures
    moved = {
        name: dataclasses.replace(s, mask=_moved(s.mask, structures.grid, grid))
        for name, s in structures.structures.items()
    }
    return StructureSet(grid, moved, structures.frame)


def _moved(mask: Mask, own: Grid, grid: Grid) -> Bool[Tensor, "a b d"]:
    """A mask on another grid, which is read only where it may be."""
    out = torch.zeros(grid.shape, dtype=torch.bool, device=mask.device)
    if not bool(mask.any()):
        return out
    box = box_of(mask, (1, 1, 1))
    there = box_there(box, own, grid)
    if there is not None:
        share = Volume(mask[box][None].float(), part_of(own, box), Quantity.PROBABILITY)
        out[there] = resample(share, part_of(grid, there)).data[0] >= 0.5
    return out
