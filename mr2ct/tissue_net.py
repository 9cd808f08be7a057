"""Tissue classes of a head from MRI of any contrast, by a network trained on synthetic heads alone.

A recipe after SynthSeg (Billot et al., Med. Image Anal. 86, 102789 (2023)): labels deformed and given
contrasts anew for every step, so that the network meets every contrast and no scanner twice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import GeneralTracker
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.data import Dataset

from imaging.brightness import scaled
from imaging.grid import Grid
from imaging.resample import on_voxels, resample
from imaging.tissue import BONE, Tissue
from imaging.volume import Quantity, Volume, expect_finite
from models.fit import Fit, fit
from models.segmentation import segmentation_loss
from models.unet import UNetConfig, unet
from models.weights import start_from
from models.windows import through_windows


class TissueClass(IntEnum):
    """What the network tells apart."""

    OUTSIDE = 0
    SOFT = 1
    BONE = 2
    CSF = 3
    GREY = 4
    WHITE = 5
    AIR = 6
    EYE = 7
    TUMOUR = 8  # necrotic or enhancing core
    OEDEMA = 9  # or infiltration


# The class of each tissue, and the tissue that stands for each class.
CLASS_OF: dict[Tissue, TissueClass] = {
    **dict.fromkeys((Tissue.SCALP, Tissue.FAT, Tissue.GLAND, Tissue.FLUID), TissueClass.SOFT),
    **dict.fromkeys((*BONE, Tissue.METAL), TissueClass.BONE),
    **dict.fromkeys((Tissue.CSF, Tissue.DURA, Tissue.CAVITY, Tissue.SHUNT), TissueClass.CSF),
    **dict.fromkeys((Tissue.WHITE, Tissue.BRAINSTEM, Tissue.NERVE), TissueClass.WHITE),
    **dict.fromkeys((Tissue.EYE, Tissue.LENS), TissueClass.EYE),
    **dict.fromkeys((Tissue.NECROSIS, Tissue.ENHANCING), TissueClass.TUMOUR),
    **dict.fromkeys((Tissue.OEDEMA, Tissue.INFILTRATION), TissueClass.OEDEMA),
    Tissue.OUTSIDE: TissueClass.OUTSIDE,
    Tissue.GREY: TissueClass.GREY,
    Tissue.AIR: TissueClass.AIR,
}
TISSUE_OF: dict[TissueClass, Tissue] = {
    TissueClass.OUTSIDE: Tissue.OUTSIDE,
    TissueClass.SOFT: Tissue.SCALP,
    TissueClass.BONE: Tissue.SKULL,
    TissueClass.CSF: Tissue.CSF,
    TissueClass.GREY: Tissue.GREY,
    TissueClass.WHITE: Tissue.WHITE,
    TissueClass.AIR: Tissue.AIR,
    TissueClass.EYE: Tissue.EYE,
    TissueClass.TUMOUR: Tissue.ENHANCING,
    TissueClass.OEDEMA: Tissue.OEDEMA,
}
# Bone, fluid, cavities and tumour are few voxels and what a plan depends on.
_WEIGHT = torch.tensor([0.5, 1.0, 2.0, 1.5, 1.0, 1.0, 2.0, 2.0, 2.0, 1.5])
_RARE = 0.005


@dataclass(frozen=True)
class TissueNet:
    """Config of the network and of its training.

    Parameters
    ----------
    spacing
        Voxels that it works on (mm).
    shape
        Voxels of a training sample and of each window that a scan is looked at through: many small samples
        show the network more contrasts in the same time than few whole heads do.
    net
        Size of the U-Net.
    fit
        Budget and rates.
    """

    spacing: float = 2.0
    shape: tuple[int, int, int] = (64, 64, 64)
    net: UNetConfig = field(default_factory=lambda: UNetConfig(outputs=len(TissueClass)))
    fit: Fit = field(default_factory=lambda: Fit(budget_s=2400.0))


def class_table(device: str = "cpu") -> Int64[Tensor, " tissues"]:
    """Class of each tissue, indexed by label."""
    return torch.tensor([int(CLASS_OF[t]) for t in Tissue], device=device)


def loss_of(net: nn.Module, batch: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """Weighted cross-entropy plus soft Dice (Milletari et al., 3DV 2016) over classes that are not rare.

    Parameters
    ----------
    net
        Takes ``image``, shape ``(b, c, i, j, k)``.
    batch
        ``image``, and ``labels`` of tissues, uint8, shape ``(b, i, j, k)``.
    """
    image = batch["image"]
    wanted = class_table(str(image.device))[batch["labels"].long()]
    with torch.autocast(image.device.type, torch.bfloat16):
        logits = net(image)
    return segmentation_loss(logits, wanted, _WEIGHT, _RARE * wanted.numel())


def _losses(
    nets: Mapping[str, nn.Module], batch: Mapping[str, Tensor], _: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    yield "net", loss_of(nets["net"], batch)


def train(
    config: TissueNet,
    samples: Dataset[dict[str, Tensor]],
    folder: Path,
    progress: Callable[[str, float], None],
    device: str = "cpu",
    seed: int = 0,
    start: Path | None = None,
    trackers: Sequence[GeneralTracker] = (),
) -> tuple[nn.Module, Mapping[str, Any]]:
    """A network trained on samples, and what training took; goes on with what ``folder`` holds.

    Parameters
    ----------
    config
        Network and training.
    samples
        Gives ``image`` (c, i, j, k), scaled, and ``labels`` of tissues (i, j, k) at ``config.spacing``.
    folder
        Keeps checkpoints.
    progress
        Called with what happens and the share that is done.
    device
        Where it trains.
    seed
        Of the first weights.
    start
        Weights of such a network, perhaps of one contrast, to start from.
    trackers
        Accelerate's, told every loss (:func:`models.fit.fit`).
    """
    torch.manual_seed(seed)
    net = unet(config.net)
    if start is not None:
        start_from(net, start)
    net = net.to(device)
    took = fit({"net": net}, samples, _losses, config.fit, folder, progress, seed, trackers=trackers)
    return net, took


def probabilities(mr: Volume, net: nn.Module, config: TissueNet | None = None, flips: bool = True) -> Volume:
    """Probability of each class (channel c for ``TissueClass(c)``) on voxels of the network.

    Parameters
    ----------
    mr
        MR signal, any orientation, shape ``(c, i, j, k)``: the channels that the network was trained with,
        those of contrasts that were not taken filled with 0.
    net
        A trained network.
    config
        What it was trained with.
    flips
        Whether the mirrored head is looked at too, and the mean taken.

    Raises
    ------
    ValueError
        If the volume is not finite MR signal, or has another number of channels than the network.
    """
    expect_finite(mr.expect(Quantity.MR))
    config = config or TissueNet()
    if len(mr.data) != config.net.inputs:
        raise ValueError(
            f"expected MR signal of {config.net.inputs} channels for this network, got {len(mr.data)}"
        )
    image, grid = on_voxels(mr, config.spacing)

    def shares(window: Tensor) -> Tensor:
        found = net(window).float().softmax(dim=1)
        return (found + net(window.flip(2)).float().softmax(dim=1).flip(2)) / 2 if flips else found

    share = through_windows(image, net, shares, config.shape, scaled, overlap=0.5)
    return Volume(share, grid, Quantity.PROBABILITY, mr.frame)


def segment(mr: Volume, net: nn.Module, config: TissueNet | None = None) -> Volume:
    """Tissue of each voxel of an MRI (:class:`imaging.tissue.Tissue`), on its own grid.

    Parameters and errors are those of :func:`probabilities`.
    """
    return likeliest(probabilities(mr, net, config), mr.grid)


def likeliest(found: Volume, grid: Grid) -> Volume:
    """Tissue of the likeliest class at each voxel of a grid; probabilities are interpolated, not labels."""
    best = torch.full((1, *grid.shape), -1.0)
    labels = torch.zeros((1, *grid.shape), dtype=torch.uint8)
    for c, share in enumerate(found.data):
        here = resample(Volume(share[None], found.grid, Quantity.PROBABILITY), grid).data
        labels[here > best] = int(TISSUE_OF[TissueClass(c)])
        best = torch.maximum(best, here)
    return Volume(labels, grid, Quantity.LABEL, found.frame)
