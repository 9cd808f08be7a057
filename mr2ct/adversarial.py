"""CT numbers of a head learnt against a judge of CTs: from pairs, or from MRI and CT of different heads.

With pairs a patch discriminator sees the MRI beside the CT (Isola et al., CVPR 2017) and its verdict joins
the loss of :mod:`.regression`, whose network and answer stay as they are. Without, it sees a CT alone, and
what keeps the head where it is, is directional total variation (Ehrhardt and Betcke, SIAM J. Imaging Sci. 9,
1084 (2016)): an edge of the CT costs nothing where the MRI has one along it, bright to dark or dark to
bright. A cycle back to the MRI (Zhu et al., ICCV 2017) is no choice here: contrasts are any, a CT does not
tell them, and networks then hide in it what they need (Chu et al., "CycleGAN, a master of steganography",
2017).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import GeneralTracker
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.discriminator import (
    DiscriminatorConfig,
    Discriminators,
    Logits,
    hinge_of_discriminator,
    hinge_of_generator,
    r1,
    views,
)
from models.fit import Fit, fit
from models.unet import unet
from models.wavelet import band_std
from models.weights import start_from

from .ct_features import CtFeatures
from .regression import LEVELS, UNIT, RegressionNet, answer, loss_of

NET, JUDGE = "net", "judge"
_MEASURED = 4  # samples that the spread of a CT's bands is measured on
_EDGE = 0.1  # change of scaled MR signal in a voxel that counts as an edge; noise of 3 % stays below
_SMOOTH = 1e-3  # of the root in total variation, 1 HU: its slope has no end at 0

Ct = Float[Tensor, "b 1 i j k"]
Images = Float[Tensor, "b _ i j k"]
Loss = Float[Tensor, ""]


@dataclass(frozen=True)
class AdversarialNet(RegressionNet):
    """Config of the network, of its judge and of their training; its weights are read as a regression's.

    Parameters
    ----------
    paired
        Whether each CT is that of the MRI. The scale is learnt from pairs alone: without, it stays what the
        first weights say.
    judge_features, judge_layers
        Size of the discriminators (:class:`models.discriminator.DiscriminatorConfig`): with two layers each
        judges patches of 34 voxels, 51 mm, which hold skin, skull and brain.
    adversarial
        Weight of the judge's verdict. Isola et al. weigh an absolute error in half our units 100 times more.
    structure, air
        Without pairs: weights of directional total variation, and of the absolute error of the air about
        the body that the MRI shows, which tells dark from bright.
    gamma, every
        R1 penalty of the judge, taken at one step in so many and then weighing as much more.
    pace
        How many times faster than the network the judge learns (Heusel et al., NIPS 2017).

    Raises
    ------
    ValueError
        If a weight is negative, or a count or the pace is not positive.
    """

    fit: Fit = field(default_factory=lambda: Fit(budget_s=3600.0, learning_rate=5e-4, momentum=0.5))
    paired: bool = True
    judge_features: int = 24
    judge_layers: int = 2
    adversarial: float = 0.01
    structure: float = 10.0
    air: float = 1.0
    gamma: float = 0.02
    every: int = 8
    pace: float = 2.0

    def __post_init__(self) -> None:
        least = min(self.adversarial, self.structure, self.air, self.gamma)
        if least < 0 or self.every < 1 or not self.pace > 0:
            raise ValueError(
                f"expected weights of 0 or more, a penalty at one step in 1 or more and a positive pace, "
                f"got {least}, {self.every} and {self.pace}"
            )

    @property
    def judge(self) -> DiscriminatorConfig:
        """Size of the judge: it sees the MRI too where CTs are theirs."""
        told = self.net.inputs if self.paired else 0
        return DiscriminatorConfig(3, 1, told, self.judge_features, self.judge_layers)


def without_pairs(config: AdversarialNet | None = None) -> AdversarialNet:
    """The same network trained without pairs: all it has is the judge, which must be well ahead of it."""
    config = config or AdversarialNet()
    return replace(
        config, paired=False, adversarial=1.0, pace=10.0, fit=replace(config.fit, learning_rate=1e-4)
    )


@dataclass(frozen=True, eq=False)
class Unpaired(Dataset[dict[str, Tensor]]):
    """MRI and CT of different samples of a dataset of pairs, each of which serves once, as one or the other.

    Parameters
    ----------
    pairs
        Gives ``image``, ``ct`` and ``body``; sample 2 n is an MRI here, sample 2 n + 1 a CT.
    """

    pairs: Dataset[dict[str, Tensor]]

    def __len__(self) -> int:
        return len(self.pairs) // 2  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``image`` and ``body`` of one head, and ``ct`` (HU) of another."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        seen, other = self.pairs[2 * index], self.pairs[2 * index + 1]
        return {"image": seen["image"], "body": seen["body"], "ct": other["ct"]}


class _Said(nn.Module):
    """What a network said of a batch, for losses that ask a network: it need not say it again."""

    def __init__(self, net: nn.Module, image: Images) -> None:
        super().__init__()
        with torch.autocast(image.device.type, torch.bfloat16):
            self.said: Tensor = net(image)

    def forward(self, _: Tensor) -> Tensor:
        return self.said


def structure(ct: Ct, image: Images) -> Loss:
    """Directional total variation of a CT, in units of 1000 HU a voxel: edges that no contrast shows.

    The mean of ``|∇CT - <ξ, ∇CT> ξ|`` with ``ξ = ∇MR / sqrt(|∇MR|² + η²)`` (Ehrhardt and Betcke),
    of the contrast that explains an edge best.

    Parameters
    ----------
    ct
        HU.
    image
        Contrasts of the same head, scaled by :func:`imaging.brightness.scaled`; those that are missing are 0.
    """
    own, theirs = _gradient(ct / UNIT), _gradient(image)
    along = theirs / (theirs.square().sum(dim=2, keepdim=True) + _EDGE**2).sqrt()
    left = own - (own * along).sum(dim=2, keepdim=True) * along
    size = (left.square().sum(dim=2) + _SMOOTH**2).sqrt() - _SMOOTH
    return size.amin(dim=1).mean()


def _gradient(x: Images) -> Float[Tensor, "b _ 3 _ _ _"]:
    """Forward differences along each axis (a voxel), where there are all three."""
    at = x[..., :-1, :-1, :-1]
    ahead = (x[..., 1:, :-1, :-1], x[..., :-1, 1:, :-1], x[..., :-1, :-1, 1:])
    return torch.stack([one - at for one in ahead], dim=2)


def losses(
    config: AdversarialNet,
    bands: Sequence[float],
    features: CtFeatures | None,
    nets: Mapping[str, nn.Module],
    batch: Mapping[str, Tensor],
    generator: torch.Generator,
) -> Iterator[tuple[str, Tensor]]:
    """The judge's loss, then the network's, for one batch; the training loop takes a ``partial`` of it.

    Parameters
    ----------
    config
        Weights of the losses.
    bands
        Standard deviations of a CT's bands in units of 1000 HU.
    features
        What a segmenter of CTs sees, with pairs; None leaves it out.
    nets
        ``net`` and ``judge``.
    batch
        ``image``, ``ct`` (HU) and ``body`` as :func:`.regression.loss_of` takes them, the CT of another head
        without pairs.
    generator
        Draws whether the penalty is taken.
    """
    image, judge = batch["image"], nets[JUDGE]
    said = _Said(nets[NET], image)
    drawn = answer(said, image)[0][:, None]
    told = image if config.paired else image[:, :0]
    yield JUDGE, _loss_of_judge(config, bands, judge, batch["ct"], drawn.detach(), told, generator)
    loss = config.adversarial * hinge_of_generator(_through(judge, drawn, told, bands))
    if config.paired:
        loss = loss + loss_of(said, batch, features)
    else:
        outside = 1 - batch["body"]
        off = (outside * (drawn - LEVELS[0]).abs()).sum() / outside.sum().clamp(min=1)
        loss = loss + config.structure * structure(drawn, image) + config.air * off / UNIT
    yield NET, loss


def _loss_of_judge(
    config: AdversarialNet,
    bands: Sequence[float],
    judge: nn.Module,
    ct: Ct,
    drawn: Ct,
    told: Images,
    generator: torch.Generator,
) -> Loss:
    with torch.autocast(ct.device.type, torch.bfloat16):
        said = judge(*views(torch.cat([ct, drawn]) / UNIT, bands), torch.cat([told, told]))
    n = len(ct)
    loss = hinge_of_discriminator(tuple(s[:n] for s in said), tuple(s[n:] for s in said))
    lucky = config.every * float(torch.rand(1, generator=generator, device=generator.device)) < 1
    if config.gamma > 0 and lucky:
        at = [view.detach().requires_grad_() for view in views(ct / UNIT, bands)]
        loss = loss + config.every * config.gamma / 2 * r1(judge(*at, told), at)
    return loss


def _through(judge: nn.Module, drawn: Ct, told: Images, bands: Sequence[float]) -> Logits:
    """What a judge says of a drawn CT; gradients go through it, not into it."""
    wanted = [p for p in judge.parameters() if p.requires_grad]
    for p in wanted:
        p.requires_grad_(False)
    try:
        with torch.autocast(drawn.device.type, torch.bfloat16):
            said: Logits = judge(*views(drawn / UNIT, bands), told)
    finally:
        for p in wanted:
            p.requires_grad_(True)
    return said


def train(
    config: AdversarialNet,
    samples: Dataset[dict[str, Tensor]],
    folder: Path,
    progress: Callable[[str, float], None],
    device: str = "cpu",
    seed: int = 0,
    start: Path | None = None,
    features: CtFeatures | None = None,
    trackers: Sequence[GeneralTracker] = (),
) -> tuple[nn.Module, Mapping[str, Any]]:
    """A network trained against a judge, and what training took; goes on with what ``folder`` holds.

    Parameters
    ----------
    config
        Networks and training.
    samples
        Gives ``image``, ``ct`` and ``body`` at ``config.spacing``, always as pairs: :class:`Unpaired` parts
        them where that is asked for.
    folder
        Keeps checkpoints.
    progress
        Called with what happens and the share that is done.
    device
        Where it trains.
    seed
        Of the first weights, and of the steps that take the penalty.
    start
        Weights to start from, such as those of a regression.
    features
        What a segmenter of CTs sees, on the same device; None trains without.
    trackers
        Accelerate's, told every loss (:func:`models.fit.fit`).

    Raises
    ------
    ValueError
        If features are to be compared without pairs.
    """
    if features is not None and not config.paired:
        raise ValueError(
            "expected no features of CTs where none is that of the MRI, got some; leave them out"
        )
    torch.manual_seed(seed)
    net = unet(config.net)
    if start is not None:
        start_from(net, start, partly=True)
    nets = {NET: net.to(device), JUDGE: Discriminators(config.judge).to(device)}
    bands = _ct_bands(samples)
    given = samples if config.paired else Unpaired(samples)
    each = partial(losses, config, bands, features)
    paces = {JUDGE: config.pace}
    took = fit(nets, given, each, config.fit, folder, progress, seed, trackers=trackers, paces=paces)
    return nets[NET], took


def _ct_bands(samples: Dataset[dict[str, Tensor]]) -> tuple[float, ...]:
    """Standard deviations of the bands of CTs, in units of 1000 HU."""
    cts = (samples[n]["ct"][None].cpu() / UNIT for n in range(_MEASURED))
    return band_std((ct, torch.ones(1, 1)) for ct in cts)
