"""Margins around a structure, in mm, on any grid: the same in every direction, or another towards each side.

Margins reach from the surface that lies halfway between voxels inside and outside, as marching cubes would
draw it (Lorensen and Cline, SIGGRAPH 1987): about one voxel alone it is an octahedron. What is grown comes to
lie within half a voxel of where it should, however thick slices are, and on average where it should.
"""

from dataclasses import astuple, dataclass

import numpy as np
import torch
from scipy.signal import oaconvolve

from imaging.boxes import Box, box_of
from imaging.grid import Grid
from imaging.shapes import Mask

# A thousandth of a mm, so that a margin of whole voxels does not hang on rounding.
_TINY = 1e-3
_GREATEST = 100.0  # mm
Ways = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Margin:
    """How far a structure grows towards each side of the patient (mm).

    Raises
    ------
    ValueError
        If one is negative or above 100 mm.
    """

    left: float = 0.0
    right: float = 0.0
    anterior: float = 0.0
    posterior: float = 0.0
    superior: float = 0.0
    inferior: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= mm <= _GREATEST for mm in astuple(self)):
            raise ValueError(f"expected margins of 0 to {_GREATEST:g} mm, got {astuple(self)}")


def expand(mask: Mask, grid: Grid, margin_mm: float) -> Mask:
    """A structure and every voxel whose centre lies within a margin of its surface.

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
    return _grown(mask, grid, ((margin_mm, margin_mm),) * 3)


def expand_sides(mask: Mask, grid: Grid, margin: Margin) -> Mask:
    """A structure grown by another margin towards each side of the patient.

    Between two sides the margin runs along an ellipse, as in planning systems. Growth ends at the edge of the
    grid.

    Parameters
    ----------
    mask
        True inside, shape ``(i, j, k)``.
    grid
        Where the mask lies, any orientation.
    margin
        How far.
    """
    # LPS: left, posterior and superior are positive.
    ways = (
        (margin.right, margin.left),
        (margin.anterior, margin.posterior),
        (margin.inferior, margin.superior),
    )
    return _grown(mask, grid, ways)


def _grown(mask: Mask, grid: Grid, ways: Ways) -> Mask:
    """A mask grown so far (mm) towards both sides of each axis: convolved with what a voxel becomes."""
    most = max(mm for way in ways for mm in way)
    if most == 0 or not mask.any():
        return mask.clone()
    box = reached(mask, grid, most)
    grown = oaconvolve(mask.numpy()[box].astype(np.float32), _of_a_voxel(grid, ways, most), mode="same") > 0.5
    out = np.zeros(grid.shape, dtype=bool)
    out[box] = grown
    return torch.from_numpy(out)


def _of_a_voxel(grid: Grid, ways: Ways, most: float) -> np.ndarray:
    """1 where a voxel in the middle grows to, else 0."""
    half = [int(np.ceil(most / step)) + 1 for step in grid.spacing]
    offsets = np.stack(np.meshgrid(*(np.arange(-n, n + 1.0) for n in half), indexing="ij"), axis=-1)
    way = offsets @ grid.affine[:3, :3].T
    away = np.linalg.norm(way, axis=-1)
    square = np.zeros(away.shape)
    for axis, (negative, positive) in enumerate(ways):
        radius = np.where(way[..., axis] > 0, positive, negative)
        square += (way[..., axis] / np.maximum(radius, _TINY)) ** 2
    # How far the ellipse reaches in this direction.
    reach = away / np.sqrt(np.maximum(square, _TINY**2))
    half_voxel = _half(away, np.abs(offsets).sum(axis=-1))
    return ((away == 0) | (away - half_voxel <= reach + _TINY)).astype(np.float32)


def _half(away: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """How far a voxel's octahedron reaches (mm) towards places so far away, and so many voxels over all axes.

    Its corners lie half a voxel from the centre along each axis: in a direction it ends where the steps along
    all axes sum to a half.
    """
    return np.divide(away, 2 * steps, out=np.zeros_like(away), where=steps > 0)


def reached(mask: Mask, grid: Grid, margin_mm: float) -> Box:
    """The box of voxels that a margin can reach: distances elsewhere need no work."""
    i, j, k = (int(np.ceil(margin_mm / step)) + 1 for step in grid.spacing)
    return box_of(mask, (i, j, k))
