"""Connected pieces of what a network found: the one that is meant, whole and without islands."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from imaging.grid import Grid, indices, positions
from imaging.shapes import Mask, Point

from .margins import expand


@dataclass(frozen=True, eq=False)
class Piece:
    """One connected piece of a mask.

    Parameters
    ----------
    mask
        True inside.
    cc
        Its volume (cm³).
    middle
        Its centroid (LPS, mm).
    """

    mask: Mask
    cc: float
    middle: Point


def pieces(mask: Mask, grid: Grid, bridged_mm: float = 0.0) -> Iterator[Piece]:
    """Connected pieces, the largest first.

    Parameters
    ----------
    mask
        What was found.
    grid
        Where.
    bridged_mm
        Gaps of up to twice this wide (mm) that do not part a piece: thin nerves break for a voxel.
    """
    near = expand(mask, grid, bridged_mm) if bridged_mm else mask
    # Diagonal neighbours belong together: a tube of a voxel's width may run that way.
    labels, _ = ndimage.label(near.numpy(), structure=np.ones((3, 3, 3), dtype=bool))
    labels = np.where(mask.numpy(), labels, 0)
    sizes = np.bincount(labels.ravel())[1:]
    for n in 1 + np.argsort(sizes, kind="stable")[::-1]:
        if sizes[n - 1] == 0:
            continue
        own = labels == n
        middle = np.array(np.nonzero(own), dtype=np.float64).mean(axis=1, keepdims=True).T
        cc = float(sizes[n - 1]) * grid.voxel_volume / 1000
        yield Piece(torch.from_numpy(own), cc, positions(grid, middle)[0])


def seen_from(mask: Mask, of: Grid, grid: Grid) -> tuple[tuple[slice, slice, slice], Grid] | None:
    """The part of a grid in which a mask of another lies, with two voxels about it; None where none does.

    Parameters
    ----------
    mask
        True somewhere, on ``of``.
    of, grid
        The mask's grid, and the one whose part is wanted.
    """
    inside = mask.nonzero()
    low, high = inside.amin(dim=0).numpy() - 2.0, inside.amax(dim=0).numpy() + 2.0
    ends = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T
    places = indices(grid, positions(of, ends))
    first = np.clip(np.floor(places.min(axis=0)) - 1, 0, grid.shape).astype(int)
    last = np.clip(np.ceil(places.max(axis=0)) + 2, 0, grid.shape).astype(int)
    if (last <= first).any():
        return None
    a, b, c = (slice(int(x), int(y)) for x, y in zip(first, last, strict=True))
    affine = grid.affine.copy()
    affine[:3, 3] = positions(grid, first[None].astype(np.float64))[0]
    i, j, k = (int(n) for n in last - first)
    return (a, b, c), Grid((i, j, k), affine)


def without_holes(mask: Mask) -> Mask:
    """The mask with what it encloses on all sides."""
    return torch.from_numpy(ndimage.binary_fill_holes(mask.numpy()))
