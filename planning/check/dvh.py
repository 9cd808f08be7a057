"""Dose–volume histograms."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor
from torch.nn.functional import grid_sample

from imaging.grid import Grid, indices
from imaging.shapes import Mask
from imaging.structures import StructureSet
from imaging.volume import Quantity, Volume, expect_finite

from .masked import masked_parts
from .parts import Parts


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

    The dose is read, trilinear, at points that are equal parts of the structure
    (:func:`.masked.masked_parts`): neither a coarse dose grid nor the structure's own voxels blur its edge.

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
        If the structure is empty, or the volume is not a finite dose.
    """
    return histogram_at(dose, masked_parts(mask, grid))


def histograms(dose: Volume, structures: StructureSet) -> dict[str, Dvh]:
    """The histogram of every structure that is not empty, by name.

    Raises
    ------
    ValueError
        If the structures lie in another frame of reference, or the volume is not a finite dose.
    """
    expect_frame(dose, structures.frame)
    return histograms_at(dose, parts_of(structures))


def expect_frame(dose: Volume, frame: str) -> None:
    """Refuses structures in another frame of reference than the dose, where both name one."""
    if dose.frame and frame and dose.frame != frame:
        raise ValueError(
            "expected structures in the dose's frame of reference, got another one; give the dose that was "
            "computed on the scan that they were drawn on"
        )


@lru_cache(maxsize=1)  # a walk asks for the same ones at every step
def parts_of(structures: StructureSet) -> Mapping[str, Parts]:
    """The parts of every structure that is not empty, by name: once for many doses."""
    return {
        name: masked_parts(structure.mask, structures.grid)
        for name, structure in structures.structures.items()
        if bool(structure.mask.any())
    }


def histograms_at(dose: Volume, parts: Mapping[str, Parts]) -> dict[str, Dvh]:
    """The histogram of every structure by its parts; refuses as :func:`histogram` does."""
    expect_finite(dose.expect(Quantity.DOSE))
    return {name: _histogram(dose, one) for name, one in parts.items()}


def histogram_at(dose: Volume, parts: Parts) -> Dvh:
    """The dose–volume histogram of a structure by its parts; refuses as :func:`histogram` does."""
    expect_finite(dose.expect(Quantity.DOSE))
    return _histogram(dose, parts)


def _histogram(dose: Volume, parts: Parts) -> Dvh:
    index = torch.from_numpy(indices(dose.grid, parts.points)).float()
    doses, n_inside = read_dose(dose, index)
    return Dvh(np.sort(doses), parts.volume_cc, n_inside / len(doses))


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
