"""The lattice that a dose predictor works on, and doses brought there and back.

Where a patient's voxels are of a size that the network knows, the lattice is theirs, cropped: nothing is
interpolated. Elsewhere voxels become the nearest size that it knows.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from imaging.grid import Grid, axial, positions
from imaging.resample import resample
from imaging.shapes import Mask, Voxels
from imaging.volume import Quantity, Volume
from models.dose_unet import whole

_LEAST = 1e-3  # share of what a voxel reads that must lie inside a mask
_UPRIGHT = 1e-6


@dataclass(frozen=True)
class Sizes:
    """Voxels that a network knows.

    Parameters
    ----------
    finest, coarsest
        Sides along x, y and z (mm); the same for one size alone.

    Raises
    ------
    ValueError
        If they are not positive, or the finest are not the smaller ones.
    """

    finest: tuple[float, float, float] = (3.0, 3.0, 2.0)
    coarsest: tuple[float, float, float] = (5.5, 5.5, 4.0)

    def __post_init__(self) -> None:
        sides = [*zip(self.finest, self.coarsest, strict=True)]
        if len(sides) != 3 or not all(0 < low <= high for low, high in sides):
            raise ValueError(
                f"expected voxels of three positive sides, the finest first, got {self.finest} and "
                f"{self.coarsest} mm"
            )


def lattice_of(possible: Volume, sizes: Sizes) -> Grid:
    """The grid of a patient that a network works on: about where dose may be, as many voxels as it takes.

    Raises
    ------
    ValueError
        If dose may be nowhere.
    """
    inside = possible.expect(Quantity.LABEL).data[0] > 0
    at = torch.nonzero(inside)
    if len(at) == 0:
        raise ValueError("expected voxels where dose may be, got none; check the body contour")
    low, high = at.amin(dim=0).numpy(), at.amax(dim=0).numpy()
    grid, own = possible.grid, possible.grid.spacing
    wanted = np.clip(own, sizes.finest, sizes.coarsest)
    upright = np.abs(grid.affine[:3, :3] - np.diag(own)).max() < _UPRIGHT
    if upright and np.allclose(wanted, own, rtol=1e-3):
        affine = grid.affine.copy()
        affine[:3, 3] = positions(grid, low[None].astype(np.float64))[0]
        i, j, k = (int(n) for n in high - low + 1)
        return _wider(Grid((i, j, k), affine))
    ends = np.array([low - 0.5, high + 0.5])
    corners = np.array([[ends[a, 0], ends[b, 1], ends[c, 2]] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    points = positions(grid, corners)
    x, y, z = (float(mm) for mm in (wanted if upright else _of_axes(grid, sizes)))
    return _wider(axial(points.min(axis=0), points.max(axis=0), (x, y, z)))


def brought(values: Volume, within: Volume, grid: Grid) -> tuple[Voxels, Mask]:
    """Values inside a mask on another grid, and where they are known.

    What lies outside the mask has no part in it: a dose that ends with the body is not halved at its surface.

    Parameters
    ----------
    values
        Shape ``(c, i, j, k)``.
    within
        Labels, 0 where the values mean nothing.
    grid
        Where they are wanted.
    """
    mask = (within.expect(Quantity.LABEL).data > 0).float()
    # A probability: what lies beyond the grid is 0 for values and mask alike.
    both = torch.cat([values.data.float() * mask, mask])
    read = resample(Volume(both, values.grid, Quantity.PROBABILITY), grid).data
    share = read[-1]
    known = share > _LEAST
    return torch.where(known, read[:-1] / share.clamp(min=_LEAST), 0.0), known


def returned(
    dose: Float[Tensor, "c i j k"], known: Mask, grid: Grid, possible: Volume
) -> Float[Tensor, "c a b d"]:
    """Values of a network's lattice on a patient's grid, 0 where no dose may be."""
    here = Volume(dose, grid, Quantity.DOSE)
    back, _ = brought(here, Volume(known[None].to(torch.uint8), grid, Quantity.LABEL), possible.grid)
    return back * (possible.data > 0)


def _wider(grid: Grid) -> Grid:
    """With voxels all around, so that a network need not make up what lies beyond."""
    i, j, k = (whole(n) for n in grid.shape)
    before = [(n - m) // 2 for n, m in zip((i, j, k), grid.shape, strict=True)]
    affine = grid.affine.copy()
    affine[:3, 3] = positions(grid, -np.array([before], dtype=np.float64))[0]
    return Grid((i, j, k), affine)


def _of_axes(grid: Grid, sizes: Sizes) -> np.ndarray:
    """Sides along x, y and z of a turned grid: of the voxel axis that follows each most closely."""
    turned = np.abs(grid.affine[:3, :3] / grid.spacing)
    return np.clip(grid.spacing[turned.argmax(axis=1)], sizes.finest, sizes.coarsest)
