"""How near networks come to the CTs of held-out real patients, beside water everywhere."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from imaging.intensity import head_mask
from imaging.resample import resample
from imaging.volume import Quantity, Volume
from mr2ct.baselines import water
from mr2ct.convert import convert
from mr2ct.quality import BONE_LEVELS, Quality, quality
from mr2ct.regression import RegressionNet

from .console import Progress
from .examined import without_bias
from .paired_cases import read_pair
from .paired_material import Ready


def scored(
    pairs: Sequence[Ready], nets: Sequence[nn.Module], config: RegressionNet, progress: Progress
) -> dict[str, Any]:
    """Means over held-out pairs: of the networks' CT, and of water in the body, which needs no network.

    Each pair is converted as ``spindose mr2ct`` does it: without bias, all its contrasts at once, on the grid
    of the first.

    Parameters
    ----------
    pairs
        Of patients that no step has seen.
    nets, config
        As :func:`mr2ct.convert.convert` takes them.
    progress
        Called with what happens and the share that is done.

    Returns
    -------
    dict
        ``pairs``, and ``mae`` (HU, in the body) and ``bone_dice`` (above 150 HU) for the networks and for
        ``all water``.
    """
    own, plain = [], []
    for n, pair in enumerate(pairs):
        ours, waters = _one(pair, nets, config)
        own.append(ours)
        plain.append(waters)
        progress("Scoring held-out pairs", (n + 1) / len(pairs))
    return {"pairs": len(pairs), **_means(own), "all water": _means(plain)}


def _one(pair: Ready, nets: Sequence[nn.Module], config: RegressionNet) -> tuple[Quality, Quality]:
    read = read_pair(pair.files)
    first, *others = (read.mr[c] for c in pair.contrasts[: config.net.inputs])
    data = torch.cat([first.data, *(resample(mr, first.grid).data for mr in others)]).float()
    truth = resample(read.ct, first.grid)
    inside = Volume(read.body[None].byte(), read.ct.grid, Quantity.LABEL)
    body = resample(inside, first.grid).data[0] > 0
    mr = without_bias(replace(first, data=data), head_mask(first))
    found = convert(mr, nets, config).ct
    return quality(found, truth, body), quality(water(body, truth), truth, body)


def _means(figures: Sequence[Quality]) -> dict[str, float]:
    level = f"{BONE_LEVELS[0]:g} HU"
    return {
        "mae": sum(f.mae for f in figures) / len(figures),
        "bone_dice": sum(f.bone_dice[level] for f in figures) / len(figures),
    }
