"""CT numbers of a head from one to four MRI of any contrast, each with how far it may be off.

A U-Net says of each voxel how likely the CT number lies near each of ten levels, and the scale of a Laplace
distribution about the mean of them (Kendall and Gal, NeurIPS 2017). Levels are learnt by cross-entropy, a
number between two of them sharing itself between both (Hafner et al., Nature 640, 647 (2025), do so with
rewards): an absolute error alone says soft tissue of thin bone and stays there, since that is the median
until a network is sure. The absolute error then moves the mean, and a feature loss asks that a segmenter
of CTs sees in it what it sees in the true one (Johnson et al., ECCV 2016). The scale learns from the error
alone and cannot excuse it. Samples are pairs of synthetic heads (:class:`synth.paired.Pairs`), so that
contrasts are as many as there are steps (Billot et al., Med. Image Anal. 86, 102789 (2023)).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import GeneralTracker
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.utils.data import Dataset

from models.fit import Fit, fit
from models.unet import UNetConfig, unet
from models.weights import start_from

from .ct_features import CtFeatures

UNIT = 1000.0  # HU in one unit of what the network answers
LEAST_SCALE = 2.0  # HU: no voxel is known better
LEVELS = (-1000.0, -400.0, -100.0, 0.0, 50.0, 200.0, 500.0, 900.0, 1400.0, 2400.0)  # HU
N_OUTPUTS = 1 + len(LEVELS)  # the scale, then how likely each level is
_OUTSIDE = 0.3  # weight of a voxel outside the body, which must come out as air
_SCALE_WEIGHT = 0.03  # of the likelihood that the scales learn from, beside the absolute error
_LEVEL_WEIGHT = 0.1  # of the cross-entropy of levels
_FEATURE_WEIGHT = 0.1
_RARE_WEIGHT = 2.0  # more that bone and air in the body weigh in the cross-entropy
_FAT, _BONE = -200.0, 150.0  # HU: below and above lies what is rare

Batch5 = Float[Tensor, "b _ i j k"]
Loss = Float[Tensor, ""]


@dataclass(frozen=True)
class RegressionNet:
    """Config of the network and of its training.

    Parameters
    ----------
    spacing
        Voxels that it works on (mm).
    shape
        Voxels of a training sample.
    net
        Size of the U-Net; its inputs are contrasts in any order, the first ones filled, the others 0.
    fit
        Budget and rates.
    window
        Voxels of each window that a scan is looked at through: wider than samples, since windows at a corner
        of the scan that see little but air go wrong.
    """

    spacing: float = 1.5
    shape: tuple[int, int, int] = (64, 64, 64)
    net: UNetConfig = field(
        default_factory=lambda: UNetConfig(4, N_OUTPUTS, (32, 48, 96, 112, 112, 80), sharp=16)
    )
    fit: Fit = field(default_factory=lambda: Fit(budget_s=3600.0, muon=True))
    window: tuple[int, int, int] = (96, 96, 96)


def answer(net: nn.Module, image: Batch5) -> tuple[Float[Tensor, "b i j k"], Float[Tensor, "b i j k"]]:
    """CT number and its Laplace scale (both HU) of every voxel; air where no contrast was given.

    Parameters
    ----------
    net
        The U-Net, `N_OUTPUTS` outputs.
    image
        Contrasts, scaled by :func:`imaging.brightness.scaled`.
    """
    scale, logits = _said(net, image)
    return _mean(logits.softmax(dim=1)), scale


def loss_of(net: nn.Module, batch: Mapping[str, Tensor], features: CtFeatures | None = None) -> Loss:
    """Cross-entropy of levels, absolute error in units of 1000 HU, likelihood of the scales, and of features.

    Parameters
    ----------
    net
        Takes ``image``, shape ``(b, c, i, j, k)``.
    batch
        ``image``, and ``ct`` (HU) and ``body`` (0 or 1), shape ``(b, 1, i, j, k)``.
    features
        What a segmenter of CTs sees; None leaves it out.
    """
    scale, logits = _said(net, batch["image"])
    ct, body = batch["ct"][:, 0], batch["body"][:, 0]
    log_share = logits.log_softmax(dim=1)
    value = _mean(log_share.exp())
    error = (value - ct).abs()
    surprise = error.detach() / scale + scale.log()
    weight = body * (1 - _OUTSIDE) + _OUTSIDE
    loss = (weight * (error / UNIT + _SCALE_WEIGHT * surprise)).sum() / weight.sum()
    rare = weight * (1 + _RARE_WEIGHT * body * ((ct < _FAT) | (ct > _BONE)))
    loss = loss + _LEVEL_WEIGHT * (rare * _surprise(log_share, ct)).sum() / rare.sum()
    if features is not None:
        loss = loss + _FEATURE_WEIGHT * features.apart(value[:, None], batch["ct"])
    return loss


def _said(net: nn.Module, image: Batch5) -> tuple[Float[Tensor, "b i j k"], Float[Tensor, "b levels i j k"]]:
    with torch.autocast(image.device.type, torch.bfloat16):
        said = net(image)
    said = said.float()
    return UNIT * softplus(said[:, 0]) + LEAST_SCALE, said[:, 1:]


def _mean(share: Float[Tensor, "b levels i j k"]) -> Float[Tensor, "b i j k"]:
    # Not as a matrix product, which autocast would round to a few HU.
    return (share * share.new_tensor(LEVELS)[:, None, None, None]).sum(dim=1)


def _surprise(
    log_share: Float[Tensor, "b levels i j k"], ct: Float[Tensor, "b i j k"]
) -> Float[Tensor, "b i j k"]:
    """Cross-entropy of shares with a CT number that the two levels about it share by how near they are."""
    levels = ct.new_tensor(LEVELS)
    ct = ct.clamp(LEVELS[0], LEVELS[-1])
    upper = torch.bucketize(ct, levels).clamp(1, len(LEVELS) - 1)
    low, high = levels[upper - 1], levels[upper]
    part = (ct - low) / (high - low)
    below, above = (log_share.gather(1, index[:, None])[:, 0] for index in (upper - 1, upper))
    return -((1 - part) * below + part * above)


def train(
    config: RegressionNet,
    samples: Dataset[dict[str, Tensor]],
    folder: Path,
    progress: Callable[[str, float], None],
    device: str = "cpu",
    seed: int = 0,
    start: Path | None = None,
    features: CtFeatures | None = None,
    trackers: Sequence[GeneralTracker] = (),
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
    features
        What a segmenter of CTs sees, on the same device; None trains without.
    trackers
        Accelerate's, told every loss (:func:`models.fit.fit`).
    """
    torch.manual_seed(seed)
    net = unet(config.net)
    if start is not None:
        start_from(net, start, partly=True)
    net = net.to(device)

    def losses(
        nets: Mapping[str, nn.Module], batch: Mapping[str, Tensor], _: torch.Generator
    ) -> Iterator[tuple[str, Tensor]]:
        yield "net", loss_of(nets["net"], batch, features)

    took = fit({"net": net}, samples, losses, config.fit, folder, progress, seed, trackers=trackers)
    return net, took
