"""A head drawn onto a grid, block by block.

Places are worked out at every few voxels and read linearly in between; a block that no skin comes near is
left to the air. Small blocks stay in the cache and meet few of the solids.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from imaging.grid import Grid
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume

from .deform import moved
from .labelling import VENTRICLE, Head, skin, tissues
from .threads import one_thread

_CELL_MM = 6.5  # between places that are worked out, at the most
_BLOCK = 48  # voxels along each axis of a block, a multiple of every cell
_SIZES = (8, 6, 4, 3, 2, 1)  # voxels of a cell along an axis

Nodes = Float[Tensor, "3 _ _ _"]
Here = tuple[slice, slice, slice]
Between = Callable[[], Nodes]
Done = TypeVar("Done")


@dataclass(frozen=True, eq=False)
class Pose:
    """From the grid to the mean head: a deformation, then a turn and a shift, then sizes.

    Parameters
    ----------
    turn
        Rotation from the patient to the upright head.
    shift
        Where the upright head's anterior commissure lies (LPS, mm).
    scale
        Size along x, y, z relative to the mean head.
    field
        Displacement (mm) at places of the grid; None for none.
    """

    turn: Float[np.ndarray, "3 3"]
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    field: Volume | None = None


def straight(scale: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Pose:
    """A head that lies as the grid does."""
    return Pose(np.eye(3), scale=scale)


def expect_upright(grid: Grid) -> None:
    """Nothing, if the grid's axes are the patient's.

    Raises
    ------
    ValueError
        If they are not.
    """
    directions = grid.affine[:3, :3] / grid.spacing
    if np.abs(directions - np.eye(3)).max() > 1e-6:
        raise ValueError("expected an upright grid (i, j, k along x, y, z), got a turned one; make it axial")


def drawn(head: Head, pose: Pose, grid: Grid) -> tuple[Volume, Volume, int]:
    """Tissues and organs of a head on an upright grid, and the number of voxels in its ventricles."""
    labels = torch.full(grid.shape, int(Tissue.OUTSIDE), dtype=torch.uint8)
    organs = torch.zeros(grid.shape, dtype=torch.uint8)
    reach = 2.0 * max(_CELL_MM, float(grid.spacing.max())) / min(pose.scale)

    def work(here: Here, nodes: Nodes, between: Between) -> int:
        if float(skin(head.shape, *nodes).min()) > reach:
            return 0
        label, organ = tissues(head, *between())
        ventricle = label == VENTRICLE
        labels[here] = label.masked_fill_(ventricle, int(Tissue.CSF))
        organs[here] = organ
        return int(ventricle.sum())

    n_ventricle = sum(by_blocks(pose, grid, work))
    return Volume(labels[None], grid, Quantity.LABEL), Volume(organs[None], grid, Quantity.LABEL), n_ventricle


def by_blocks(pose: Pose, grid: Grid, work: Callable[[Here, Nodes, Between], Done]) -> list[Done]:
    """What ``work`` makes of each block of an upright grid.

    Parameters
    ----------
    pose
        From the grid to the mean head.
    grid
        Where voxels lie.
    work
        Takes the block's voxels, the places of a few of them in the mean head, and a function that gives the
        places of all.
    """
    expect_upright(grid)
    steps = [next((n for n in _SIZES if n * s <= _CELL_MM), 1) for s in grid.spacing]
    cells = [_BLOCK // s for s in steps]
    blocks = [math.ceil(n / _BLOCK) for n in grid.shape]

    def block(number: tuple[int, ...]) -> Done:
        i, j, k = (
            slice(b * _BLOCK, min((b + 1) * _BLOCK, n)) for b, n in zip(number, grid.shape, strict=True)
        )
        nodes = places[
            :, *(slice(b * c, (b + 1) * c + 1) for b, c in zip(number, cells, strict=True))
        ].contiguous()
        kept = [s.stop - s.start for s in (i, j, k)]
        return work((i, j, k), nodes, lambda: _between(nodes, kept))

    with one_thread() as n_cores:
        places = _places(pose, grid, steps, [c * b + 1 for c, b in zip(cells, blocks, strict=True)])
        numbers = list(product(*(range(b) for b in blocks)))
        # A core for each block: blocks are too small to share between cores.
        with ThreadPoolExecutor(n_cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(block, numbers))


def _places(pose: Pose, grid: Grid, steps: list[int], counts: list[int]) -> Float[Tensor, "3 a b c"]:
    """Places in the mean head (mm) of every few voxels."""
    axes = [
        torch.from_numpy(grid.affine[a, 3] + grid.spacing[a] * steps[a] * np.arange(counts[a]))
        for a in range(3)
    ]
    points = torch.cartesian_prod(*axes)
    if pose.field is not None:
        points = moved(pose.field, points)
    turned = (points - torch.tensor(pose.shift, dtype=torch.float64)) @ torch.from_numpy(pose.turn.T.copy())
    sized = turned / torch.tensor(pose.scale, dtype=torch.float64)
    return sized.T.reshape(3, *counts).float().contiguous()


def _between(nodes: Nodes, kept: list[int]) -> Nodes:
    size = (_BLOCK + 1,) * 3
    fine = interpolate(nodes[None], size=size, mode="trilinear", align_corners=True)[0]
    return fine[:, : kept[0], : kept[1], : kept[2]].contiguous()
