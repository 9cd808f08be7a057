"""How good a synthetic CT is beside the true CT of the same head, and beside what needs no network."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from imaging.agreement import dice, hu_bias, hu_mae, surface_distances
from imaging.shapes import Mask
from imaging.synthrad import ms_ssim, psnr, ssim
from imaging.volume import Quantity, Volume

from .baselines import AIR_BELOW, classes, four_classes, three_classes, water

BONE_LEVELS = (150.0, 300.0, 700.0)  # HU at which bone is compared; the first is where its surface lies


@dataclass(frozen=True)
class Quality:
    """Figures of one synthetic CT.

    Parameters
    ----------
    mae, bias
        Mean absolute and mean error in the body (HU), SynthRAD 2023's without clipping.
    psnr, ssim, ms_ssim
        As :mod:`imaging.synthrad` defines them.
    tissues
        Of air, fat, soft tissue and bone of the true CT: ``mae``, ``bias`` (HU) and ``share`` of the body.
    bone_dice
        Dice of what lies above each level of `BONE_LEVELS`.
    air_dice
        Dice of the cavities; None where there are none in either.
    bone_surface_mm, bone_surface_95_mm
        Mean and 95th percentile of the distance between bone surfaces, both ways; None where one has no bone.
    """

    mae: float
    bias: float
    psnr: float
    ssim: float
    ms_ssim: float
    tissues: dict[str, dict[str, float]]
    bone_dice: dict[str, float]
    air_dice: float | None
    bone_surface_mm: float | None
    bone_surface_95_mm: float | None

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return asdict(self)


def quality(ct: Volume, truth: Volume, body: Mask) -> Quality:
    """Figures of a synthetic CT.

    Parameters
    ----------
    ct, truth
        HU on one grid.
    body
        Inside the patient, of the true CT.

    Raises
    ------
    ValueError
        If the CTs lie on different grids, or the body is empty or lies at the edge alone.
    """
    n = int(body.sum())
    mae = hu_mae(ct, truth, body)  # refuses what does not go together
    tissues = {
        name: {
            "mae": hu_mae(ct, truth, part),
            "bias": hu_bias(ct, truth, part),
            "share": int(part.sum()) / n,
        }
        for name, part in classes(truth, body).items()
        if part.any()
    }
    a, b = ct.data[0], truth.data[0]
    air, their_air = body & (a < AIR_BELOW), body & (b < AIR_BELOW)
    bones = {level: (body & (a >= level), body & (b >= level)) for level in BONE_LEVELS}
    ours, theirs = bones[BONE_LEVELS[0]]
    away = _surfaces(ours, theirs, ct)
    return Quality(
        mae=mae,
        bias=hu_bias(ct, truth, body),
        psnr=psnr(ct, truth, body),
        ssim=ssim(ct, truth, body),
        ms_ssim=ms_ssim(ct, truth, body),
        tissues=tissues,
        bone_dice={f"{level:g} HU": dice(own, true) for level, (own, true) in bones.items()},
        air_dice=dice(air, their_air) if (air | their_air).any() else None,
        bone_surface_mm=None if away is None else float(away.mean()),
        bone_surface_95_mm=None if away is None else float(np.percentile(away, 95)),
    )


def baselines(truth: Volume, body: Mask) -> dict[str, Volume]:
    """What a synthetic CT is beside: all water, and the true CT with one number for each of its classes."""
    return {
        "all water": water(body, truth),
        "3 classes of the true CT": three_classes(truth, body),
        "4 classes of the true CT": four_classes(truth, body),
    }


def coverage(ct: Volume, deviation: Volume, truth: Volume, body: Mask, times: float) -> float:
    """Share of the body whose true CT number lies within so many of its own standard deviations.

    Parameters
    ----------
    ct, deviation
        A synthetic CT (HU) and what it may be off by.
    truth
        HU, on the same grid.
    body
        Inside the patient.
    times
        Half the interval's width, in standard deviations.
    """
    off = (ct.data[0] - truth.data[0]).abs()
    within = off <= times * deviation.expect(Quantity.HU_DEVIATION).data[0]
    return float(within[body].to(torch.float64).mean())


def _surfaces(a: Mask, b: Mask, like: Volume) -> np.ndarray | None:
    if not a.any() or not b.any():
        return None
    return np.concatenate([surface_distances(a, b, like.grid), surface_distances(b, a, like.grid)])
