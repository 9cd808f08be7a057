"""Falx, tentorium and ventricles of the mean head, wherever an alignment brings them."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from imaging.grid import Grid
from imaging.partition import Partition
from imaging.volume import Quantity, Volume
from imaging.warp import lattice, sample

from .brain import NOTCH_FRONT, falx_region, tent_notch, tentorium, ventricles

_NEAR = 8.0  # mm from falx or tentorium in which sides are told apart by it
_PLANES_AT_ONCE = 2_000_000


def partitions(field: Volume, grid: Grid) -> Volume:
    """Flags of :class:`imaging.partition.Partition` for each voxel of a grid, shape ``(1, i, j, k)``.

    Parameters
    ----------
    field
        Displacement (mm) that takes each place of a scan to its place in the mean head, as
        :func:`imaging.register.align` gives it for :func:`synth.anatomy.anatomy`.
    grid
        Where they are wanted.

    Raises
    ------
    ValueError
        If the field is no displacement.
    """
    field.expect(Quantity.DISPLACEMENT)
    out = torch.empty((1, *grid.shape), dtype=torch.uint8)
    step = max(1, _PLANES_AT_ONCE // (grid.shape[1] * grid.shape[2]))
    for first in range(0, grid.shape[0], step):
        points = lattice(grid, first, first + step)
        there = points + sample(field.data, field.grid, points).T
        out[0, first : first + step] = flags(there).reshape(-1, *grid.shape[1:])
    return Volume(out, grid, Quantity.LABEL, field.frame)


def flags(places: Float[Tensor, "n 3"]) -> UInt8[Tensor, " n"]:
    """The flags of places in the mean head (LPS mm from its anterior commissure)."""
    x, y, z = places.unbind(dim=1)
    ax = x.abs()
    over = z - tentorium(ax, y)
    behind = y > NOTCH_FRONT
    told = {
        Partition.LEFT: x > 0,
        Partition.BELOW: behind & (over < 0),
        Partition.BY_FALX: falx_region(y, z) & (ax < _NEAR) & ~(behind & (over < 0)),
        Partition.BY_TENTORIUM: behind & tent_notch(ax, y) & (over.abs() < _NEAR),
        Partition.VENTRICLE: ventricles(ax, y, z) < 0,
    }
    out = torch.zeros(len(places), dtype=torch.uint8)
    for flag, here in told.items():
        out |= here.to(torch.uint8) * int(flag)
    return out
