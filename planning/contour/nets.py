"""The networks that contour: one of whole heads with their tumours, one of small organs.

U-Nets on any subset of four contrasts, trained on heads that are deformed and rendered anew for every step
(Billot et al., Med. Image Anal. 86, 102789 (2023)) with deep supervision (Lee et al., AISTATS 2015), and on
contours of a clinic's own where it has some.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import GeneralTracker
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from imaging.brightness import scaled
from imaging.grid import Grid
from imaging.resample import on_voxels
from imaging.volume import Quantity, Volume, expect_finite
from models.fit import Fit, Watch, fit
from models.partly import marginal_loss
from models.segmentation import deep_loss
from models.unet import CellUNet, UNetConfig, unet
from models.weights import start_from
from models.windows import through_windows

from .classes import CONTRASTS, HEAD, ORGANS, Classes

_FEATURES = (32, 48, 96, 112, 112, 80)


@dataclass(frozen=True)
class ContourNet:
    """Config of a network and of its training.

    Parameters
    ----------
    classes
        What it tells apart.
    spacing
        Voxels that it works on (mm).
    net
        Size of the U-Net; its inputs are :data:`CONTRASTS`.
    shape
        Voxels of a training sample.
    window
        Voxels of each window that a scan is looked at through.
    fit
        Budget and rates.
    """

    classes: Classes
    spacing: float
    net: UNetConfig
    shape: tuple[int, int, int] = (64, 64, 64)
    window: tuple[int, int, int] = (96, 96, 96)
    fit: Fit = field(default_factory=lambda: Fit(budget_s=3600.0, muon=True))


def _unet(classes: Classes) -> UNetConfig:
    return UNetConfig(len(CONTRASTS), len(classes.names), _FEATURES, sharp=16, deep=2)


HEAD_NET = ContourNet(HEAD, 1.5, _unet(HEAD))
ORGAN_NET = ContourNet(ORGANS, 1.0, _unet(ORGANS))


def loss_of(config: ContourNet, net: nn.Module, batch: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """What a network learns from: :func:`models.segmentation.deep_loss`.

    Where a batch tells sets of classes instead, :func:`models.partly.marginal_loss`.

    Parameters
    ----------
    config
        Whose classes.
    net
        Takes ``image``, shape ``(b, c, i, j, k)``.
    batch
        ``image``, ``labels`` of tissues and, where classes are organs, ``organs``: uint8, ``(b, i, j, k)``;
        or ``image`` and ``allowed``, bits of the classes that a voxel may be of, of the same shape.
    """
    image, weight = batch["image"], torch.tensor(config.classes.weight)
    assert isinstance(net, CellUNet)  # noqa: S101 - networks of `unet` are
    with torch.autocast(image.device.type, torch.bfloat16):
        levels = net.levels(image)
    if "allowed" in batch:
        return marginal_loss(levels, batch["allowed"], weight, config.classes.least)
    wanted = config.classes.wanted(batch["labels"], batch.get("organs"))
    return deep_loss(levels, wanted, weight, config.classes.least)


def train(
    config: ContourNet,
    samples: Dataset[dict[str, Tensor]],
    folder: Path,
    progress: Callable[[str, float], None],
    device: str = "cpu",
    seed: int = 0,
    start: Path | None = None,
    watch: Watch | None = None,
    trackers: Sequence[GeneralTracker] = (),
) -> tuple[nn.Module, Mapping[str, Any]]:
    """A network trained on samples, and what training took; goes on with what ``folder`` holds.

    Parameters
    ----------
    config
        Network and training.
    samples
        Gives ``image``, scaled, ``labels`` and ``organs`` at ``config.spacing``.
    folder
        Keeps checkpoints.
    progress
        Called with what happens and the share that is done.
    device
        Where it trains.
    seed
        Of the first weights.
    start
        Weights of such a network, or of one that answers another question of the same contrasts.
    watch, trackers
        Look at the network now and then, and are told losses (:func:`models.fit.fit`).
    """
    torch.manual_seed(seed)
    net = unet(config.net)
    if start is not None:
        start_from(net, start, partly=True)
    net = net.to(device)

    def losses(
        nets: Mapping[str, nn.Module], batch: Mapping[str, Tensor], _: torch.Generator
    ) -> Iterator[tuple[str, Tensor]]:
        yield "net", loss_of(config, nets["net"], batch)

    took = fit({"net": net}, samples, losses, config.fit, folder, progress, seed, watch, trackers)
    return net, took


def shares(
    mr: Volume, net: nn.Module, config: ContourNet, within: Grid | None = None
) -> tuple[Volume, Volume]:
    """Probability of each class on voxels of the network, of the head as it is and as its mirror shows it.

    How far the two differ is what a contour may be off by; their mean is what to contour.

    Parameters
    ----------
    mr
        MR signal, any orientation, shape ``(c, i, j, k)``: :data:`CONTRASTS`, 0 where one was not taken.
    net
        A trained network.
    config
        What it was trained with.
    within
        Where to look; everywhere with none.

    Raises
    ------
    ValueError
        If the volume is not finite MR signal, or has another number of channels than the network.
    """
    expect_finite(mr.expect(Quantity.MR))
    if len(mr.data) != config.net.inputs:
        raise ValueError(f"expected MR signal of {config.net.inputs} contrasts, got {len(mr.data)} channels")
    image, grid = on_voxels(mr, config.spacing, within)

    def answered(window: Tensor) -> Tensor:
        there = net(window).float().softmax(dim=1)
        back = net(window.flip(2)).float().softmax(dim=1).flip(2)
        return torch.cat([there, back], dim=1)

    both = through_windows(image, net, answered, config.window, scaled)
    n = len(config.classes.names)
    there, back = (Volume(part, grid, Quantity.PROBABILITY, mr.frame) for part in (both[:n], both[n:]))
    return there, back
