"""The recipe of diffusion generators: flow matching with shortcuts, or a DDPM for comparison.

One set of weights learns to draw from a condition, to draw contrasts that are missing and to paint inside a
region, since each training sample is given other parts of its image.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import GeneralTracker
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.fit import Batch, Fit, Watch, fit
from models.flow import Net, cells, flow_loss, in_bf16, large_steps, source, times, weights
from models.generator import SLICES, Generator, GeneratorConfig, Hints, Predicts, build
from models.noising import noise_loss, steps
from models.wavelet import to_bands

from .conditions import Shares, drawn_known, told, tumour_mask


@dataclass(frozen=True)
class DiffusionConfig:
    """How a diffusion generator learns.

    Parameters
    ----------
    net
        Size of the network, what it answers, and how much of its source is a render of the labels.
    shares
        How often a sample is given contrasts, a region's surroundings, no condition.
    logit_mean, logit_std
        Of the times that are learnt, as logits; a deviation of 0 draws them evenly. More amid noise than
        Esser et al. take: there heads are settled, and there a condition is all that can be gone by.
    large_steps
        Share of samples that learn a shortcut's large step (Frans et al. take 1/4).
    band_power
        A band counts its standard deviation to this power: 0 for all alike, 2 for the image's squared error.
    known_floor
        What a voxel that is given counts, against 1.
    tumour
        How much more a voxel of the tumour that a condition shows counts: it is a small part of a volume.
    fit
        Rates and budget.

    Raises
    ------
    ValueError
        If a number is out of its range, or the network answers bands, which only a GAN's does.
    """

    net: GeneratorConfig = SLICES
    shares: Shares = field(default_factory=Shares)
    logit_mean: float = 0.8
    logit_std: float = 1.0
    large_steps: float = 0.25
    band_power: float = 0.5
    known_floor: float = 0.05
    tumour: float = 0.0
    fit: Fit = field(default_factory=lambda: Fit(budget_s=3600.0, batch=8, learning_rate=1e-3, average=0.999))

    def __post_init__(self) -> None:
        if self.net.predicts is Predicts.BANDS:
            raise ValueError("expected a network that answers velocity or noise, got bands; train a GAN")
        if not 0 <= self.large_steps <= 1 or not 0 <= self.known_floor <= 1:
            raise ValueError(
                f"expected shares from 0 to 1, got {self.large_steps} of large steps and a floor of "
                f"{self.known_floor}"
            )
        if not 0 <= self.tumour <= 1000:
            raise ValueError(f"expected a tumour to count 0 to 1000 times more, got {self.tumour}")
        if not 0 <= self.logit_std <= 10 or not abs(self.logit_mean) <= 10 or not 0 <= self.band_power <= 4:
            raise ValueError(
                f"expected logits of times within 10 and a power of bands from 0 to 4, got "
                f"{self.logit_mean} and {self.logit_std}, and {self.band_power}"
            )
        if self.net.predicts is Predicts.NOISE and (self.net.widths or self.net.render_share):
            raise ValueError("expected neither shortcuts nor a render with a DDPM; set widths and share to 0")


def networks(config: DiffusionConfig, seed: int = 0) -> dict[str, Generator]:
    """The recipe's network by its name, ``net``, with fresh weights."""
    return {"net": build(config.net, seed)}


def losses(
    config: DiffusionConfig,
    nets: Mapping[str, nn.Module],
    batch: Mapping[str, Tensor],
    generator: torch.Generator,
) -> Iterator[tuple[str, Float[Tensor, ""]]]:
    """The loss of the network ``net`` on a batch; the training loop takes ``partial(losses, config)``.

    Parameters
    ----------
    config
        The recipe.
    nets
        ``net``, on the batch's device.
    batch
        ``image`` (b, c, *s) about -1 to 1; ``condition`` (b, K, *s); ``present`` (b, c), 1 for contrasts that
        a case really has (all where it is left out): the others count nothing; ``render`` (b, c, *s) where
        the source has a share of it.
    generator
        Draws what is known, told, noised.

    Raises
    ------
    ValueError
        If the batch does not fit the network.
    """
    how, image = config.net, batch["image"]
    _check(how, image, batch["condition"])
    present = batch.get("present", torch.ones(image.shape[:2], device=image.device)).to(image.dtype)
    image = image * present.reshape(*present.shape, *[1] * how.space)
    tumour = tumour_mask(batch["condition"])
    known = drawn_known(present, tumour, config.shares, generator)
    hints = Hints(told(batch["condition"], config.shares, generator), known, image * known)
    data = to_bands(image, how.std)
    noise = torch.randn(data.shape, generator=generator, device=generator.device).to(data.device)
    weight = weights(known, present, how.std, config.band_power, config.known_floor)
    weight = weight * (1 + config.tumour * cells(tumour[:, None].to(weight.dtype)))
    net = in_bf16(nets["net"])
    if how.predicts is Predicts.NOISE:
        step = steps(len(data), generator).to(data.device)
        yield "net", noise_loss(net, data, noise, step, hints, weight)
    else:
        render = to_bands(batch["render"], how.std) if "render" in batch else None
        start = source(noise, render, how.render_share)
        yield "net", _flow(config, net, data, start, hints, weight, generator)


def _flow(
    config: DiffusionConfig,
    net: Net,
    data: Tensor,
    start: Tensor,
    hints: Hints,
    weight: Tensor,
    generator: torch.Generator,
) -> Tensor:
    n, n_widths = len(data), config.net.widths
    small = times(n, config.logit_mean, config.logit_std, generator)
    large, width = large_steps(n, config.large_steps, n_widths, generator)
    time = torch.where(width > 0, large, small)
    return flow_loss(net, data, start, time.to(data.device), width.to(data.device), hints, weight, n_widths)


def train(
    config: DiffusionConfig,
    samples: Dataset[Batch],
    folder: Path,
    progress: Callable[[str, float], None],
    device: str = "cpu",
    seed: int = 0,
    watch: Watch | None = None,
    trackers: Sequence[GeneralTracker] = (),
    start: Generator | None = None,
) -> tuple[Generator, Mapping[str, Any]]:
    """A generator trained on samples, and what training took; goes on with what ``folder`` holds.

    Parameters
    ----------
    config
        Network and training.
    samples
        Gives what :func:`losses` asks of a batch, without the batch's axis.
    folder
        Keeps checkpoints.
    progress
        Called with what happens and the share that is done.
    device
        Where it trains.
    seed
        Of the first weights and of all that training draws.
    watch, trackers
        As `models.fit.fit` takes them.
    start
        Generator of the same size whose weights are the first ones.
    """
    nets = {name: net.to(device) for name, net in networks(config, seed).items()}
    if start is not None:
        nets["net"].load_state_dict(start.state_dict())
    took = fit(nets, samples, partial(losses, config), config.fit, folder, progress, seed, watch, trackers)
    return nets["net"], took


def _check(how: GeneratorConfig, image: Tensor, condition: Tensor) -> None:
    sides = image.shape[2:]
    fits = image.shape[1] == how.contrasts and condition.shape[1] == how.classes and len(sides) == how.space
    if not fits or any(n % how.multiple for n in sides):
        raise ValueError(
            f"expected images of {how.contrasts} contrasts with {how.classes} planes and {how.space} sides "
            f"in multiples of {how.multiple}, got {image.shape[1]}, {condition.shape[1]} and {tuple(sides)}"
        )
