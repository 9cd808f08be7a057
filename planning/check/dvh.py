"""Dose–volume histograms."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor
from torch.nn.functional import grid_sample

from imaging.grid import Grid
from imaging.shapes import Mask
from imaging.structures import StructureSet
from imaging.volume import Quantity, Volume

# A structure of fewer voxels is sampled more finely, up to 8³ points in a voxel.
_SAMPLES_AT_LEAST = 40_000
_MOST_PER_AXIS = 8
# Of more voxels, evenly spread ones are read: a body of millions on a dose grid of hundred thousands.
_VOXELS_AT_MOST = 1_000_000
_VOXELS_AT_ONCE = 500_000
# Steps of the R3 sequence: powers of the inverse of g, g⁴ = g + 1 (Roberts, 2018).
_STEPS = 1.22074408460575947536 ** -np.array([1.0, 2.0, 3.0])


@dataclass(frozen=True, eq=False)
class Dvh:
    """The doses of equal parts of a structure.

    Keeping the parts, not bins, leaves no bin width to choose. Part k of n, from the hottest,
    stands for the volume up to (k - 1/2)/n and the dose is linear between parts, as in
    ``np.percentile(doses, 100 - x, method="hazen")``; its default method calls the hottest part D0%
    and the coldest D100%, which differs in organs of few parts.

    Parameters
    ----------
    doses
        Dose of each part (Gy), ascending, shape ``(n,)``.
    volume_cc
        Volume of the structure (cm³).
    share_inside
        Share of the structure that lies on the dose grid; the rest counts as 0 Gy.
    """

    doses: Float32[np.ndarray, " n"]
    volume_cc: float
    share_inside: float = 1.0


def histogram(dose: Volume, mask: Mask, grid: Grid) -> Dvh:
    """The dose–volume histogram of one structure.

    The dose is read, trilinear, on the structure's own grid: a coarse dose grid does not blur the
    structure's edge. Small structures are sampled at several points in each voxel. The points are
    shifted within their cell by a low-discrepancy sequence: a plain lattice along a gradient would
    see only as many doses as it has planes.

    Parameters
    ----------
    dose
        Dose (Gy), one channel.
    mask
        The structure, shape ``(i, j, k)`` of ``grid``.
    grid
        Where the mask lies.

    Raises
    ------
    ValueError
        If the structure is empty, or the volume is not a dose.
    """
    dose.expect(Quantity.DOSE)
    if tuple(mask.shape) != grid.shape:
        raise ValueError(f"expected a mask on the grid {grid.shape}, got {tuple(mask.shape)}")
    voxels = torch.nonzero(mask).cpu().numpy().astype(np.float64)
    if len(voxels) == 0:
        raise ValueError("expected a structure with at least one voxel, got an empty one; contour it again")
    volume_cc = len(voxels) * grid.voxel_volume / 1000
    voxels = voxels[:: -(-len(voxels) // _VOXELS_AT_MOST)]
    n_axis = int(np.clip(np.ceil((_SAMPLES_AT_LEAST / len(voxels)) ** (1 / 3)), 1, _MOST_PER_AXIS))
    steps = (np.arange(n_axis) + 0.5) / n_axis - 0.5
    # Indices of the dose grid from indices of the structure's.
    to_dose = np.linalg.inv(dose.grid.affine) @ grid.affine
    shift = (np.arange(len(voxels))[:, None] * _STEPS % 1 - 0.5) / n_axis
    doses = np.empty((n_axis**3, len(voxels)), dtype=np.float32)
    n_inside = 0
    for first in range(0, len(voxels), _VOXELS_AT_ONCE):
        part = slice(first, first + _VOXELS_AT_ONCE)
        shifted = voxels[part] + shift[part]
        for row, offset in enumerate(np.array(np.meshgrid(steps, steps, steps)).reshape(3, -1).T):
            index = (shifted + offset) @ to_dose[:3, :3].T + to_dose[:3, 3]
            doses[row, part], inside = read_dose(dose, torch.from_numpy(index).float())
            n_inside += inside
    return Dvh(np.sort(doses, axis=None), volume_cc, n_inside / doses.size)


def histograms(dose: Volume, structures: StructureSet) -> dict[str, Dvh]:
    """The histogram of every structure that is not empty, by name."""
    return {
        name: histogram(dose, structure.mask, structures.grid)
        for name, structure in structures.structures.items()
        if bool(structure.mask.any())
    }


def dose_at_share(dvh: Dvh, percent: float) -> float:
    """D_x%: the dose (Gy) that ``percent`` of the volume receives at least."""
    return _quantile(dvh, percent / 100)


def dose_at_cc(dvh: Dvh, cc: float) -> float:
    """D_xcc: the dose (Gy) that the hottest ``cc`` receive at least; the maximum in a smaller structure."""
    return _quantile(dvh, cc / dvh.volume_cc) if cc < dvh.volume_cc else maximum(dvh)


def share_at_dose(dvh: Dvh, dose_gy: float) -> float:
    """V_d: the share of the volume (%) that receives at least ``dose_gy``."""
    n = len(dvh.doses)
    return 100.0 * float(n - np.searchsorted(dvh.doses, np.float32(dose_gy), side="left")) / n


def mean(dvh: Dvh) -> float:
    """Mean dose (Gy)."""
    return float(dvh.doses.mean(dtype=np.float64))


def maximum(dvh: Dvh) -> float:
    """Greatest dose (Gy) of any part."""
    return float(dvh.doses[-1])


def minimum(dvh: Dvh) -> float:
    """Least dose (Gy) of any part."""
    return float(dvh.doses[0])


def curve(dvh: Dvh, doses_gy: Float64[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
    """The cumulative histogram: share of the volume (%) that receives at least each dose (Gy)."""
    below = np.searchsorted(dvh.doses, doses_gy.astype(np.float32), side="left")
    return 100.0 * (1 - below / len(dvh.doses))


def numbers(dvhs: Mapping[str, Dvh]) -> dict[str, dict[str, float]]:
    """D98%, D95%, D50%, D2%, mean and maximum (Gy) and volume of every structure, for JSON."""
    return {
        name: {
            "volume_cc": round(dvh.volume_cc, 3),
            **{f"d{x:g}_gy": round(dose_at_share(dvh, x), 3) for x in (98.0, 95.0, 50.0, 2.0)},
            "mean_gy": round(mean(dvh), 3),
            "max_gy": round(maximum(dvh), 3),
        }
        for name, dvh in dvhs.items()
    }


def _quantile(dvh: Dvh, share_above: float) -> float:
    return float(np.quantile(dvh.doses, np.clip(1 - share_above, 0, 1), method="hazen"))


def read_dose(dose: Volume, index: Float32[Tensor, "n 3"]) -> tuple[Float32[np.ndarray, " n"], int]:
    """Dose at fractional voxel indices, 0 outside the dose grid, and how many are inside."""
    index = index.to(dose.data.device)
    n = torch.tensor(dose.grid.shape, dtype=torch.float32, device=index.device)
    inside = ((index >= -0.5 - 1e-4) & (index <= n - 0.5 + 1e-4)).all(dim=1)
    unit = 2 * index / (n - 1).clamp(min=1) - 1
    values = grid_sample(
        dose.data[:1][None].float(),
        unit.flip(-1)[None, None, None],
        padding_mode="border",
        align_corners=True,
    )[0, 0, 0, 0]
    return (values * inside).cpu().numpy(), int(inside.sum())
