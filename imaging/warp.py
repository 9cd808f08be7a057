"""Values of a volume read through a displacement field."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from .grid import Grid
from .shapes import Floats
from .volume import Quantity, Volume

_PLANES_AT_ONCE = 2_000_000


def sample(data: Floats, grid: Grid, points: Float[Tensor, "n 3"]) -> Float[Tensor, "c n"]:
    """Trilinear values at any points, differentiable in the points.

    Beyond the lattice the nearest value at its edge holds.

    Parameters
    ----------
    data
        Values, shape ``(c, i, j, k)``, on ``grid``.
    grid
        Where the values lie.
    points
        Positions (LPS, mm).
    """
    to_index = torch.from_numpy(np.linalg.inv(grid.affine)).to(points.dtype)
    index = points @ to_index[:3, :3].T + to_index[:3, 3]
    n = torch.tensor(grid.shape, dtype=points.dtype)
    unit = 2 * index / (n - 1).clamp(min=1) - 1
    return grid_sample(
        data[None], unit.flip(-1)[None, None, None], padding_mode="border", align_corners=True
    )[0, :, 0, 0]


def lattice(grid: Grid, first: int = 0, last: int | None = None) -> Float[Tensor, "n 3"]:
    """Positions (LPS, mm) of the voxels of planes ``first`` to ``last`` along i, k running fastest."""
    ranges = (range(grid.shape[0])[first:last], range(grid.shape[1]), range(grid.shape[2]))
    index = torch.cartesian_prod(*(torch.tensor(list(r), dtype=torch.float64) for r in ranges))
    affine = torch.from_numpy(grid.affine.copy())
    return (index @ affine[:3, :3].T + affine[:3, 3]).float()


def warp(volume: Volume, field: Volume, grid: Grid) -> Volume:
    """A volume in the space of a field: the value at x is the volume's at x + u(x).

    Trilinear; turn labels into a probability per class first.

    Parameters
    ----------
    volume
        Values, shape ``(c, i, j, k)``; beyond their edge the nearest value holds.
    field
        Displacement u in mm, shape ``(3, i, j, k)``.
    grid
        Where to read.
    """
    field.expect(Quantity.DISPLACEMENT)
    if volume.quantity is Quantity.LABEL:
        raise ValueError("expected values that can be mixed, got labels; pass a probability per class")
    data = volume.data.float()
    out = torch.empty((data.shape[0], *grid.shape))
    step = max(1, _PLANES_AT_ONCE // (grid.shape[1] * grid.shape[2]))
    for first in range(0, grid.shape[0], step):
        points = lattice(grid, first, first + step)
        moved = points + sample(field.data, field.grid, points).T
        out[:, first : first + step] = sample(data, volume.grid, moved).reshape(
            data.shape[0], -1, *grid.shape[1:]
        )
    return Volume(out, grid, volume.quantity, field.frame)
