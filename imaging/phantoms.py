"""Bodies whose answers are known: water boxes, slabs, spheres and ellipsoids."""

from collections.abc import Sequence

import numpy as np
import torch

from .grid import Grid, axial
from .shapes import Mask, Point
from .volume import Quantity, Volume

_INSIDE = 1e-6  # a voxel centre that lies on the surface to rounding belongs to the body


def water_box(size_mm: float, spacing: float, hu_outside: float = -1000.0) -> Volume:
    """A cube of water (0 HU) centred on the origin, with three voxels of surroundings on every side.

    Parameters
    ----------
    size_mm
        Edge of the cube (mm); a whole number of voxels fills it exactly.
    spacing
        Voxel size (mm).
    hu_outside
        Value around the cube (HU).

    Raises
    ------
    ValueError
        If the size or the spacing is not positive.
    """
    _positive(size_mm=size_mm, spacing=spacing)
    n = max(round(size_mm / spacing), 1)
    data = torch.full((1, n + 6, n + 6, n + 6), float(hu_outside))
    data[:, 3:-3, 3:-3, 3:-3] = 0.0
    edge = np.full(3, (n + 6) * spacing / 2)
    return Volume(data, axial(-edge, edge, (spacing, spacing, spacing)), Quantity.HU)


def slabs(layers: Sequence[tuple[float, float]], width_mm: float, spacing: float) -> Volume:
    """Layers stacked along +y from y = 0, each with its own HU; x and z centred on 0.

    Parameters
    ----------
    layers
        Thickness (mm) and value (HU) of each layer, in the order of rising y.
    width_mm
        Extent of the stack along x and z (mm).
    spacing
        Voxel size (mm).

    Raises
    ------
    ValueError
        If there is no layer, or a thickness, the width or the spacing is not positive.
    """
    _positive(width_mm=width_mm, spacing=spacing)
    if not layers:
        raise ValueError("expected at least one layer as (thickness in mm, HU), got none")
    for thickness, _ in layers:
        _positive(thickness=thickness)
    ends = np.cumsum([thickness for thickness, _ in layers])
    half = width_mm / 2
    grid = axial(np.array([-half, 0.0, -half]), np.array([half, ends[-1], half]), (spacing, spacing, spacing))
    y = grid.affine[1, 3] + spacing * np.arange(grid.shape[1])
    values = np.array([hu for _, hu in layers], dtype=np.float32)
    profile = values[np.minimum(np.searchsorted(ends, y), len(values) - 1)]
    data = torch.from_numpy(profile)[None, None, :, None].expand(1, *grid.shape).clone()
    return Volume(data, grid, Quantity.HU)


def ellipsoid(grid: Grid, center: Point, radii: Point) -> Mask:
    """True where a voxel centre lies inside an upright ellipsoid.

    Parameters
    ----------
    grid
        Lattice of the mask.
    center
        Centre (LPS, mm).
    radii
        Half axes along x, y, z (mm).

    Raises
    ------
    ValueError
        If a half axis is not positive.
    """
    for radius in radii:
        _positive(radius=float(radius))
    axes = [torch.arange(n, dtype=torch.float64) for n in grid.shape]
    affine = torch.from_numpy(grid.affine.copy())
    distance = torch.zeros(grid.shape, dtype=torch.float64)
    for row, c, radius in zip(affine, center, radii, strict=False):
        x = row[0] * axes[0][:, None, None] + row[1] * axes[1][None, :, None] + row[2] * axes[2] + row[3]
        distance += ((x - float(c)) / float(radius)) ** 2
    return distance <= 1 + _INSIDE


def sphere(grid: Grid, center: Point, radius: float) -> Mask:
    """True where a voxel centre lies within ``radius`` mm of ``center`` (LPS, mm)."""
    return ellipsoid(grid, center, np.full(3, float(radius)))


def _positive(**lengths: float) -> None:
    for name, length in lengths.items():
        if not length > 0:
            raise ValueError(f"expected {name} > 0 mm, got {length}")
