"""How well a network contours held-out real patients, by structure."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import torch
from jaxtyping import Int32, Int64
from safetensors.torch import load_file
from torch import Tensor, nn

from imaging.brightness import scaled
from models.windows import through_windows
from planning.contour.classes import CONTRASTS
from planning.contour.nets import ContourNet

from .console import Progress
from .contour_material import ReadyCase


def scored(
    cases: Sequence[ReadyCase], net: nn.Module, config: ContourNet, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Dice of each structure that held-out cases have: the median, and of how many cases.

    Voxels of which a case says nothing count neither for nor against.

    Parameters
    ----------
    cases
        Of patients that no step has seen.
    net, config
        The network, in evaluation mode.
    progress
        Called with what happens and the share that is done.
    """
    found: dict[str, list[float]] = {}
    for n, case in enumerate(cases):
        tensors = load_file(case.path)
        image = torch.zeros(len(CONTRASTS), *tensors["allowed"].shape)
        for channel, name in zip(tensors["mr"], case.contrasts, strict=True):
            image[CONTRASTS.index(name)] = channel.float()
        best = through_windows(image, net, net, config.window, scaled).argmax(dim=0)
        for name, dice in dice_of(best, tensors["allowed"], case.structures).items():
            found.setdefault(name, []).append(dice)
        progress("Scoring held-out cases", (n + 1) / len(cases))
    return {name: {"dice": round(median(all_), 4), "cases": len(all_)} for name, all_ in found.items()}


def dice_of(
    best: Int64[Tensor, "i j k"], allowed: Int32[Tensor, "i j k"], structures: Mapping[str, int]
) -> dict[str, float]:
    """Dice of each structure that lies somewhere; a class found where it cannot be counts against it.

    Parameters
    ----------
    best
        Class of each voxel that a network found.
    allowed
        Classes that it may be of, as bits.
    structures
        Classes inside each structure, as bits.
    """
    found = 1 << best
    out = {}
    for name, may in structures.items():
        inside = (allowed & ~may) == 0
        told = (found & may) != 0
        wrong = told & ((found & allowed) == 0) & ~inside
        both, size = int((inside & told).sum()), int(inside.sum())
        if size:
            out[name] = 2 * both / (size + both + int(wrong.sum()))
    return out
