"""What synthetic volumes are worth: a segmenter trained on real ones, on synthetic ones, on both.

As :mod:`synth.augmented` does for slices: equal steps of equal batches for every arm, the same test cases.
Trained on real volumes alone, it is also who says whether a generator drew what it was asked for
(:mod:`synth.fidelity.obedience`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from monai.losses.dice import DiceCELoss
from torch import Tensor
from torch.utils.data import Dataset

from models.fit import Batch, Fit, Nets, fit
from models.unet import CellUNet, UNetConfig, unet

from .augmented import Arm
from .conditions import TUMOUR
from .on_the_fly import generator_of

Images = Float[Tensor, "b c *space"]
Labels = Int64[Tensor, "b *space"]


@dataclass(frozen=True)
class SegmenterConfig:
    """The segmenter and its training.

    Parameters
    ----------
    net
        Its U-Net; outputs are the rest and the parts.
    parts
        Classes of :class:`synth.conditions.ConditionClass` that it tells from the rest and from each other.
    crop
        Voxels that a sample is cut to; as a rule the whole breadth of a head, so that sides can be compared.
    fit
        Steps, batch and rates, the same for all arms.

    Raises
    ------
    ValueError
        If the training is not counted in steps, or the network has other outputs.
    """

    net: UNetConfig = field(
        default_factory=lambda: UNetConfig(4, 1 + len(TUMOUR), features=(16, 32, 48, 64, 64, 64))
    )
    parts: tuple[int, ...] = TUMOUR
    crop: tuple[int, int, int] = (64, 32, 32)
    fit: Fit = field(default_factory=lambda: Fit(steps=400, batch=4, learning_rate=2e-3))

    def __post_init__(self) -> None:
        if self.fit.steps == 0:
            raise ValueError(
                "expected a number of steps, the same for all arms, got a budget of time; set steps"
            )
        if self.net.outputs != 1 + len(self.parts):
            raise ValueError(f"expected {1 + len(self.parts)} outputs, got {self.net.outputs}")


class MixedVolumes(Dataset[Batch]):
    """Real and synthetic samples as an arm mixes them; sample n is the same for any worker.

    Parameters
    ----------
    arm
        Share of real samples as training goes on.
    real, synthetic
        Endless supplies of ``image`` (c, i, j, k) and ``condition`` (K, i, j, k).
    length
        Samples of the whole training.
    seed
        Which mixture.
    """

    def __init__(
        self, arm: Arm, real: Dataset[Batch], synthetic: Dataset[Batch], length: int, seed: int
    ) -> None:
        self.arm, self.sets, self.length, self.seed = arm, (real, synthetic), length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        """``image`` and ``condition`` of sample ``index``."""
        share = self.arm.real(index / self.length)
        chance = float(torch.rand(1, generator=generator_of(self.seed, index)))
        found = self.sets[0 if chance < share else 1][self.seed * self.length + index]
        return {name: found[name] for name in ("image", "condition")}


class Crops(Dataset[Batch]):
    """Samples cut to one shape, every other one about a voxel of a part, as nnU-Net does.

    Parameters
    ----------
    samples
        ``image`` (c, i, j, k) and ``condition`` (K, i, j, k), no smaller than ``shape``.
    parts
        Planes of the condition that crops are centred in.
    shape
        Voxels along each axis.
    seed
        Which crops.
    """

    def __init__(
        self, samples: MixedVolumes, parts: tuple[int, ...], shape: tuple[int, int, int], seed: int
    ) -> None:
        self.samples, self.parts, self.shape, self.seed = samples, parts, shape, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Batch:
        """The crop of sample ``index``; a sample that is smaller raises ValueError."""
        whole = self.samples[index]
        generator = generator_of(~self.seed, index)  # not the stream that mixes arms
        where = torch.nonzero(whole["condition"][list(self.parts)].sum(0))
        room = torch.tensor(whole["image"].shape[1:]) - torch.tensor(self.shape)
        if bool((room < 0).any()):
            raise ValueError(
                f"expected samples of {self.shape} voxels or more, got {tuple(whole['image'].shape[1:])}; "
                "take a smaller crop"
            )
        if index % 2 and len(where):
            at = where[int(torch.randint(len(where), (1,), generator=generator))]
            low = (at - torch.tensor(self.shape) // 2).clamp(min=torch.zeros(3).long(), max=room)
        else:
            low = (torch.rand(3, generator=generator) * (room + 1)).long()
        box = (slice(None), *(slice(a, a + n) for a, n in zip(low.tolist(), self.shape, strict=True)))
        return {name: values[box] for name, values in whole.items()}


def train_segmenter(
    arm: Arm,
    real: Dataset[Batch],
    synthetic: Dataset[Batch],
    config: SegmenterConfig,
    folder: Path,
    seed: int,
) -> CellUNet:
    """A segmenter trained as an arm says, by cross-entropy and Dice; goes on with what ``folder`` holds.

    Parameters
    ----------
    arm, real, synthetic
        As :class:`MixedVolumes` takes them.
    config
        Network and training.
    folder
        Keeps checkpoints.
    seed
        Of first weights and mixture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = unet(config.net)
    off = DiceCELoss(softmax=True, batch=True)
    parts = list(config.parts)

    def losses(nets: Nets, batch: Batch, _: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        with torch.autocast(batch["image"].device.type, torch.bfloat16):
            said = nets["net"](batch["image"])
        told = batch["condition"][:, parts]
        yield "net", off(said.float(), torch.cat([1 - told.sum(1, keepdim=True), told], dim=1))

    mixed = MixedVolumes(arm, real, synthetic, config.fit.steps * config.fit.batch, seed)
    samples = Crops(mixed, config.parts, config.crop, seed)
    fit({"net": net}, samples, losses, config.fit, folder, _quiet, seed)
    return net.eval()


@torch.no_grad()
def segment(net: CellUNet, images: Images, parts: tuple[int, ...] = TUMOUR) -> Labels:
    """The part that every voxel belongs to, by its class, and 0 for the rest."""
    with torch.autocast(images.device.type, torch.bfloat16):
        said = net(images)
    return torch.tensor([0, *parts], device=images.device)[said.argmax(dim=1)]


def _quiet(_title: str, _share: float) -> None:
    """Arms report when they are done."""
