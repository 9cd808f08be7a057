"""CT numbers of a head from one to four MRI of any contrast, each with how far it may be off.

A U-Net answers two numbers a voxel: the CT number, which an absolute error teaches to be the median of what
such an MRI may hide, and the scale of a Laplace distribution about it (Kendall and Gal, NeurIPS 2017), which
learns from that error alone and cannot excuse it. Samples are pairs of synthetic heads
(:class:`synth.paired.Pairs`), so that contrasts are as many as there are steps (Billot et al., Med. Image
Anal. 86, 102789 (2023)).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.utils.data import Dataset

from models.fit import Fit, fit
from models.unet import UNetConfig, unet
from models.weights import start_from

UNIT = 1000.0  # HU in one unit of what the network answers
LEAST_SCALE = 2.0  # HU: no voxel is known better
_OUTSIDE = 0.1  # weight of a voxel outside the body, which must come out as air
_SCALE_WEIGHT = 0.03  # of the likelihood that the scales learn from, beside the absolute error

Batch5 = Float[Tensor, "b _ i j k"]


@dataclass(frozen=True)
class RegressionNet:
    """Config of the network and of its training.

    Parameters
    ----------
    spacing
        Voxels that it works on (mm).
    shape
        Voxels of a training sample and of each window that a scan is looked at through.
    net
        Size of the U-Net; its inputs are contrasts in any order, the first ones filled, the others 0.
    fit
        Budget and rates.
    """

    spacing: float = 1.2
    shape: tuple[int, int, int] = (96, 96, 96)
    net: UNetConfig = field(
        default_factory=lambda: UNetConfig(inputs=4, outputs=2, features=(32, 48, 96, 120, 120, 48))
    )
    fit: Fit = field(default_factory=lambda: Fit(budget_s=3600.0))


def answer(net: nn.Module, image: Batch5) -> tuple[Float[Tensor, "b i j k"], Float[Tensor, "b i j k"]]:
    """CT number and its Laplace scale (both HU) of every voxel; air where no contrast was given.

    Parameters
    ----------
    net
        The U-Net, two outputs.
    image
        Contrasts, scaled by :func:`imaging.brightness.scaled`.
    """
    with torch.autocast(image.device.type, torch.bfloat16):
        said = net(image)
    value, scale = said.float().unbind(dim=1)
    return UNIT * value, UNIT * softplus(scale) + LEAST_SCALE


def loss_of(net: nn.Module, batch: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """Absolute error in units of 1000 HU, the body counting most, and the likelihood of the scales.

    Parameters
    ----------
    net
        Takes ``image``, shape ``(b, c, i, j, k)``.
    batch
        ``image``, and ``ct`` (HU) and ``body`` (0 or 1), shape ``(b, 1, i, j, k)``.
    """
    value, scale = answer(net, batch["image"])
    error = (value - batch["ct"][:, 0]).abs()
    weight = batch["body"][:, 0] * (1 - _OUTSIDE) + _OUTSIDE
    surprise = error.detach() / scale + scale.log()
    return (weight * (error / UNIT + _SCALE_WEIGHT * surprise)).sum() / weight.sum()


def _losses(
    nets: Mapping[str, nn.Module], batch: Mapping[str, Tensor], _: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    yield "net", loss_of(nets["net"], batch)


def train(
    config: RegressionNet,
    samples: Dataset[dict[str, Tensor]],
    folder: Path,
    progress: Callable[[str, float], None],
    device: str = "cpu",
    seed: int = 0,
    start: Path | None = None,
) -> tuple[nn.Module, Mapping[str, Any]]:
    """A network trained on pairs, and what training took; goes on with what ``folder`` holds.

    Parameters
    ----------
    config
        Network and training.
    samples
        Gives ``image``, ``ct`` and ``body`` at ``config.spacing``.
    folder
        Keeps checkpoints.
    progress
        Called with what happens and the share that is done.
    device
        Where it trains.
    seed
        Of the first weights.
    start
        Weights to start from, of such a network or of one of tissues, which sees alike.
    """
    torch.manual_seed(seed)
    net = unet(config.net)
    if start is not None:
        start_from(net, start, partly=True)
    net = net.to(device)
    took = fit({"net": net}, samples, _losses, config.fit, folder, progress, seed)
    return net, took
