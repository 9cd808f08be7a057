"""A fine lattice read by a coarser one, axis after axis: averages over voxels and slices, interpolation.

What a scanner measures in a voxel is the mean of the signal over it, so labels are turned into
signal first and averaged after. Voxels are boxes, therefore each axis has weights of its own
(`Taps`), and a look-up table per contrast is all that differs between images of one head.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from imaging.grid import Grid

_OUT_AT_ONCE = 8  # planes of the result computed together, so that they stay in the cache

Cells = UInt8[Tensor, "_ _ _"]
Image = Float[Tensor, "i j k"]
Resized = Float[Tensor, "_ _ _"]
Places = Float64[np.ndarray, " _"]


@dataclass(frozen=True, eq=False)
class Taps:
    """What each sample along one axis takes from the samples of another lattice.

    Parameters
    ----------
    index
        Where it reads, shape ``(taps, n)``.
    weight
        How much each reading counts, same shape.
    """

    index: Int64[np.ndarray, "taps n"]
    weight: Float[np.ndarray, "taps n"]


def box_taps(n_fine: int, step: float, centers: Places, width: float) -> Taps:
    """Mean over an interval of ``width`` about each centre: the share of each fine voxel that lies in it.

    What lies beyond the fine lattice counts as nothing, so weights there sum to less than 1.

    Parameters
    ----------
    n_fine
        Samples of the fine lattice.
    step
        Distance of the centres of neighbouring fine voxels, in the unit of ``centers``.
    centers
        Places of the results, counted from the centre of the first fine voxel.
    width
        Length of the interval.
    """
    first = np.floor((centers - width / 2) / step + 0.5 + 1e-9).astype(np.int64)
    n_taps = int(np.ceil(width / step - 1e-9)) + 1
    index = first + np.arange(n_taps)[:, None]
    low = np.maximum((index - 0.5) * step, centers - width / 2)
    high = np.minimum((index + 0.5) * step, centers + width / 2)
    weight = np.clip(high - low, 0, None) / width
    return _kept(index, weight, n_fine)


def profile_taps(n_fine: int, step: float, centers: Places, thickness: float, edge: float) -> Taps:
    """A slice: excited evenly over its thickness, with edges that fall off over a distance.

    The profile is a box convolved with a Gaussian, as that of a short selective pulse.

    Parameters
    ----------
    n_fine, step, centers
        As in `box_taps`.
    thickness
        Full width at half maximum of the slice.
    edge
        Standard deviation of the Gaussian; 0 is an ideal slice.
    """
    if edge <= 0:
        return box_taps(n_fine, step, centers, thickness)
    reach = thickness / 2 + 3 * edge
    n_taps = int(np.ceil(2 * reach / step)) + 1
    index = np.round((centers - reach) / step).astype(np.int64) + np.arange(n_taps)[:, None]
    away = index * step - centers
    inner, outer = (away + thickness / 2) / edge, (away - thickness / 2) / edge
    weight = np.clip(_normal(inner) - _normal(outer), 1e-12, None)
    return _kept(index, weight / weight.sum(axis=0), n_fine)


def linear_taps(n_fine: int, step: float, centers: Places) -> Taps:
    """Linear interpolation between samples; beyond the last one its value holds."""
    at = np.clip(centers / step, 0, n_fine - 1)
    low = np.minimum(np.floor(at), max(n_fine - 2, 0)).astype(np.int64)
    share = at - low
    return _kept(np.stack([low, low + 1]), np.stack([1 - share, share]), n_fine)


def _kept(index: np.ndarray, weight: np.ndarray, n_fine: int) -> Taps:
    inside = (index >= 0) & (index < n_fine)
    weight = np.where(inside, weight, 0.0)
    used = np.flatnonzero(weight.sum(axis=1) > 0)
    used = used if len(used) else np.array([0])
    return Taps(np.clip(index, 0, n_fine - 1)[used], weight[used].astype(np.float32))


def _normal(z: np.ndarray) -> np.ndarray:
    return np.asarray(torch.special.ndtr(torch.from_numpy(z)).numpy())


def offsets(fine: Grid, grid: Grid) -> tuple[Places, Places, Places]:
    """Centres of a grid's voxels along each axis, in mm from the first voxel of a fine grid.

    Raises
    ------
    ValueError
        If the axes of the grids are not parallel and of one sense.
    """
    turn = fine.affine[:3, :3] / fine.spacing, grid.affine[:3, :3] / grid.spacing
    if np.abs(turn[0] - turn[1]).max() > 1e-6:
        raise ValueError(
            "expected the scanner's grid to be parallel to the subject's, got one that is turned; "
            "resample the image afterwards"
        )
    origin = turn[0].T @ (grid.affine[:3, 3] - fine.affine[:3, 3])
    i, j, k = (origin[a] + grid.spacing[a] * np.arange(grid.shape[a]) for a in range(3))
    return i, j, k


def voxel_taps(fine: Grid, grid: Grid) -> tuple[Taps, Taps, Taps]:
    """Means over the voxels of a grid, for each axis.

    Raises
    ------
    ValueError
        If the axes of the grids are not parallel and of one sense.
    """
    i, j, k = (
        box_taps(fine.shape[a], float(fine.spacing[a]), centers, float(grid.spacing[a]))
        for a, centers in enumerate(offsets(fine, grid))
    )
    return i, j, k


def along(data: Float[Tensor, "..."], axis: int, taps: Taps) -> Float[Tensor, "..."]:
    """Weighted sums along one axis."""
    shape = [1] * data.ndim
    shape[axis] = taps.index.shape[1]
    out = torch.zeros(())
    for index, weight in zip(torch.from_numpy(taps.index), torch.from_numpy(taps.weight), strict=True):
        part = data.index_select(axis, index).mul_(weight.reshape(shape))
        out = part if out.ndim == 0 else out.add_(part)
    return out


def sampled(cells: Cells, table: Float[Tensor, " codes"], taps: tuple[Taps, Taps, Taps]) -> Image:
    """An image of a fine map of codes: each code's value, averaged over the voxels of a grid.

    Parameters
    ----------
    cells
        Codes on the fine lattice.
    table
        Value of each code.
    taps
        Weights along the three axes.
    """
    values, codes = table.numpy(), cells.numpy()
    i, j, k = taps
    n_out = (i.index.shape[1], j.index.shape[1], k.index.shape[1])
    out = torch.empty(n_out)
    for first in range(0, n_out[0], _OUT_AT_ONCE):
        piece = slice(first, min(first + _OUT_AT_ONCE, n_out[0]))
        index, weight = i.index[:, piece], i.weight[:, piece]
        low, high = int(index.min()), int(index.max()) + 1
        planes = torch.from_numpy(np.take(values, codes[low:high], mode="clip"))
        part = along(planes, 0, Taps(index - low, weight))
        out[piece] = along(along(part, 1, j), 2, k)
    return out


def interpolated(data: Resized, coarse: Grid, grid: Grid) -> Image:
    """Values of a coarse lattice at the voxels of a finer one, linear along each axis.

    Raises
    ------
    ValueError
        If the axes of the grids are not parallel and of one sense.
    """
    out = data
    for axis in (2, 1, 0):
        taps = linear_taps(coarse.shape[axis], float(coarse.spacing[axis]), offsets(coarse, grid)[axis])
        out = along(out, axis, taps)
    return out


def lattice_like(grid: Grid, step: float, margin: float = 0.0) -> Grid:
    """A lattice parallel to a grid, about ``step`` mm apart, that reaches ``margin`` mm beyond it."""
    size = grid.spacing * np.array(grid.shape)
    counts = np.maximum(np.ceil((size + 2 * margin) / step), 2).astype(int)
    affine = np.array(grid.affine)
    affine[:3, :3] = affine[:3, :3] / grid.spacing * step
    affine[:3, 3] = grid.center - affine[:3, :3] @ ((counts - 1) / 2)
    return Grid((int(counts[0]), int(counts[1]), int(counts[2])), affine)
