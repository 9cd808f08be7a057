"""The part of a grid that a mask lies in."""

from itertools import product

import numpy as np

from .grid import Grid, indices, positions
from .shapes import Mask

Box = tuple[slice, slice, slice]


def box_of(mask: Mask, beside: tuple[int, int, int] = (0, 0, 0)) -> Box:
    """The smallest box that holds a mask.

    Parameters
    ----------
    mask
        Voxels, shape ``(i, j, k)``.
    beside
        Voxels more at both ends of each axis, as far as there are any.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    if not bool(mask.any()):
        raise ValueError("expected a mask with voxels inside to find its box, got an empty one")
    sides = []
    for axis, more in enumerate(beside):
        found = mask.any(dim=(axis + 1) % 3, keepdim=True).any(dim=(axis + 2) % 3, keepdim=True)
        own = found.flatten().nonzero()[:, 0]
        sides.append(slice(max(int(own[0]) - more, 0), min(int(own[-1]) + 1 + more, mask.shape[axis])))
    return sides[0], sides[1], sides[2]


def part_of(grid: Grid, box: Box) -> Grid:
    """The voxels of a grid in a box; every side has a start and a stop."""
    affine = grid.affine.copy()
    affine[:3, 3] = positions(grid, np.array([[float(side.start) for side in box]]))[0]
    i, j, k = (side.stop - side.start for side in box)
    return Grid((i, j, k), affine)


def box_there(box: Box, own: Grid, grid: Grid) -> Box | None:
    """The box of another grid whose voxels' middles may lie in a box of one's own; None where there are none.

    Parameters
    ----------
    box
        Voxels of ``own``; every side has a start and a stop.
    own, grid
        The two grids, any way round.
    """
    ends = [(side.start - 0.5, side.stop - 0.5) for side in box]
    corners = indices(grid, positions(own, np.array(list(product(*ends)))))
    first = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, None)
    last = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, grid.shape)
    if (last <= first).any():
        return None
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return i, j, k
