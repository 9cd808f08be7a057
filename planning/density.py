"""From Hounsfield units to electron density relative to water."""

import math

import numpy as np
import torch

from imaging.grid import Grid, corners, indices, positions
from imaging.shapes import Mask
from imaging.volume import Quantity, Volume, expect_finite

# Hounsfield units and relative electron density, joined by straight lines: the table that matRad
# and pyRadPlan use by default (matRad_default.hlut).
HU_TABLE = (
    (-1024.0, 0.001),
    (-999.0, 0.001),
    (-90.0, 0.95),
    (-45.0, 0.99),
    (0.0, 1.0),
    (100.0, 1.095),
    (350.0, 1.199),
    (3000.0, 2.505),
)


def relative_electron_density(
    ct: Volume, body: Mask | None = None, table: tuple[tuple[float, float], ...] = HU_TABLE
) -> Volume:
    """Electron density relative to water of a CT.

    Parameters
    ----------
    ct
        Hounsfield units.
    body
        The external contour on the CT's grid; outside it (couch, air, mask) the density is 0.
    table
        Pairs of HU and density, HU ascending; beyond its ends the density stays constant.

    Raises
    ------
    ValueError
        If the volume is not in HU, holds NaN or infinity, or the body does not fit or is empty.
    """
    expect_finite(ct.expect(Quantity.HU))
    hu, density = np.array(table, dtype=np.float64).T
    values = torch.from_numpy(np.interp(ct.data.numpy(), hu, density).astype(np.float32))
    if body is not None:
        if tuple(body.shape) != ct.grid.shape:
            raise ValueError(f"expected a body on the CT's grid {ct.grid.shape}, got {tuple(body.shape)}")
        if not bool(body.any()):
            raise ValueError("expected a body contour with voxels in it, got an empty one; contour the body")
        values = values * body
    return Volume(values, ct.grid, Quantity.DENSITY, ct.frame)


def covering(grid: Grid, other: Grid) -> Grid:
    """The lattice of ``grid``, longer or shorter by whole voxels so that it just covers ``other``.

    Depths are traced on it: tissue beyond a cropped dose grid still attenuates.
    """
    index = indices(grid, corners(other))
    # A hundredth of a voxel of overhang is rounding, not tissue.
    low = [math.floor(v) for v in index.min(axis=0) + 0.51]
    high = [math.ceil(v) for v in index.max(axis=0) - 0.51]
    affine = np.array(grid.affine)
    affine[:3, 3] = positions(grid, np.array([low], dtype=np.float64))[0]
    a, b, c = (max(h - n + 1, 1) for h, n in zip(high, low, strict=True))
    return Grid((a, b, c), affine)
