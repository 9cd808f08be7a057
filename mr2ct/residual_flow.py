"""Samples of a synthetic CT: a flow draws what the regression leaves open where bone or air may be.

A regression answers with one CT number where an MRI fits several: bone and air are both dark. Conditional
flow matching (Lipman et al., ICLR 2023) draws the residual, true CT less the regression's, in the bands of a
Haar step, given the MRI, the regression's CT and its scale. It is divided by that scale, which is its mean
absolute value, so that flows end in numbers of one size, and drawn only where the regression's Laplace
distribution reaches bone or air: all else stays the regression's to the last bit.

Errors weigh as much as the residual is expected to be by that scale. The residual itself is no weight: it
would tilt what is drawn towards large ones. One step gives the mean of all samples, since the velocity at
the source is the source less that mean; four to eight give samples.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.tracking import GeneralTracker
from jaxtyping import Float
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.data import Dataset

from imaging.brightness import scaled
from imaging.resample import averaged, on_voxels
from imaging.volume import Quantity, Volume, expect_finite
from models.fit import Fit, fit
from models.flow import cells, flow_loss, in_bf16, times
from models.generator import Generator, GeneratorConfig, Hints, build
from models.samplers import flow_euler
from models.wavelet import haar, to_bands, to_image
from models.weights import replace_with
from models.windows import DIMMEST, OVERLAP

from .convert import SyntheticCt
from .regression import UNIT, answer

_BESIDES = 3  # planes of the condition beside the contrasts: CT, scale, where it draws
_BONE, _AIR, _SURE_AIR = 150.0, -200.0, -900.0  # HU: above, below, and below for certain
_LEAST_UNIT = 50.0  # HU: smaller scales would make much of nothing
_ELSEWHERE = 1.0  # HU, what a coefficient weighs where nothing is drawn: it learns to end at 0 there
_RANGE = (-1000.0, 3000.0)  # HU
_MEASURED = 8  # samples that the spread of bands is measured on
_BANDS = "bands.json"
_MARGIN = 2  # voxels of air around a scan: whole cells

Ct = Float[Tensor, "b 1 i j k"]
Images = Float[Tensor, "b _ i j k"]
Samples = Dataset[dict[str, Tensor]]


@dataclass(frozen=True)
class ResidualFlow:
    """Config of the flow and of its training.

    Parameters
    ----------
    spacing, shape
        Voxels (mm) and windows, as the regression's.
    net
        Size of the network; its condition has the regression's contrasts and three planes more.
    doubt
        Chance of bone or air, by the regression, from which on a voxel is drawn.
    logit_mean, logit_std
        Of the times that are learnt, as logits (Esser et al., ICML 2024).
    fit
        Budget and rates.

    Raises
    ------
    ValueError
        If the network draws anything but one volume's velocity, or the doubt is no small chance.
    """

    spacing: float = 1.5
    shape: tuple[int, int, int] = (64, 64, 64)
    net: GeneratorConfig = field(
        default_factory=lambda: GeneratorConfig(
            space=3,
            contrasts=1,
            classes=4 + _BESIDES,
            embedded=4 + _BESIDES,
            channels=(32, 48, 64),
            blocks=1,
            spread=1.0,
        )
    )
    doubt: float = 0.05
    logit_mean: float = 0.5
    logit_std: float = 1.0
    fit: Fit = field(default_factory=lambda: Fit(budget_s=3600.0, learning_rate=1e-3, average=0.995))

    def __post_init__(self) -> None:
        plain = self.net.predicts == "velocity" and not self.net.widths and not self.net.render_share
        if not plain or (self.net.space, self.net.contrasts) != (3, 1) or self.net.classes <= _BESIDES:
            raise ValueError(
                "expected a network of the velocity of one volume, without widths or a render, with 4 planes "
                "of a condition or more, got another"
            )
        if not 0 < self.doubt < 0.5:
            raise ValueError(f"expected a doubt between 0 and 0.5, got {self.doubt}")


class Guess(NamedTuple):
    """What a regression says: its ``ct``, the ``unit`` of residuals (HU), and 1 where it is ``open``."""

    ct: Tensor
    unit: Tensor
    open: Tensor


def guess_of(regression: nn.Module, image: Images, doubt: float) -> Guess:
    """A regression's CT, and where it may be bone or air, all ``(b, 1, i, j, k)``.

    A Laplace distribution of scale s has the share p beyond ``s ln(1 / 2p)`` from its middle. Air that is
    air for certain, as around the head, is left alone.

    Parameters
    ----------
    regression
        A network of :mod:`.regression`.
    image
        Contrasts, scaled by :func:`imaging.brightness.scaled`.
    doubt
        That share.
    """
    with torch.no_grad():
        ct, scale = (said[:, None] for said in answer(regression, image))
    reach = math.log(1 / (2 * doubt)) * scale
    low, high = ct - reach, ct + reach
    where = ((high > _BONE) | (low < _AIR)) & (high > _SURE_AIR)
    return Guess(ct, scale.clamp(min=_LEAST_UNIT), where.to(ct.dtype))


def loss_of(
    config: ResidualFlow,
    net: Generator,
    regression: nn.Module,
    batch: Mapping[str, Tensor],
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Squared error of the velocity, noise less residual, at a random point between the two.

    Parameters
    ----------
    config
        The recipe.
    net
        Takes bands, time and hints.
    regression
        Whose residual it draws.
    batch
        ``image``, and ``ct`` (HU), shape ``(b, 1, i, j, k)``.
    generator
        Draws noise and times.
    """
    guess = guess_of(regression, batch["image"], config.doubt)
    data = to_bands(_residual(guess, batch["ct"]), net.settings.std)
    noise = torch.randn(data.shape, generator=generator, device=generator.device).to(data.device)
    time = times(len(data), config.logit_mean, config.logit_std, generator).to(data.device)
    weight = cells(guess.open * guess.unit).clamp(min=_ELSEWHERE).expand_as(data)
    hints = _hints(net, guess, batch["image"])
    small = torch.zeros(len(data), dtype=torch.long, device=data.device)
    return flow_loss(in_bf16(net), data, noise, time, small, hints, weight, 0)


def _residual(guess: Guess, truth: Ct) -> Float[Tensor, "b 1 i j k"]:
    return guess.open * (truth - guess.ct) / guess.unit


def _hints(net: Generator, guess: Guess, image: Images) -> Hints:
    if image.shape[1] + _BESIDES != net.settings.classes:
        raise ValueError(
            f"expected {net.settings.classes - _BESIDES} contrasts, those that are missing 0, as the flow "
            f"was trained on, got {image.shape[1]}"
        )
    condition = torch.cat([image, guess.ct / UNIT, guess.unit / UNIT, guess.open], dim=1)
    nothing = torch.zeros_like(guess.ct)
    return Hints(condition, nothing, nothing)


def train(
    config: ResidualFlow,
    samples: Samples,
    regression: nn.Module,
    folder: Path,
    progress: Callable[[str, float], None],
    device: str = "cpu",
    seed: int = 0,
    trackers: Sequence[GeneralTracker] = (),
) -> tuple[Generator, Mapping[str, Any]]:
    """A flow trained on what a regression leaves open; goes on with what ``folder`` holds.

    Parameters
    ----------
    config
        Network and training; the spread of bands is measured where it names none, and kept in the settings
        of the network that comes back.
    samples
        Gives ``image`` and ``ct`` at ``config.spacing``.
    regression
        Stays as it is.
    folder, progress, device, seed, trackers
        As :func:`.regression.train` takes them.
    """
    regression = regression.to(device).eval()
    spread = config.net.band_std or _kept_bands(samples, regression, config.doubt, device, folder / _BANDS)
    net = build(replace(config.net, band_std=spread), seed).to(device)

    def losses(
        _: Mapping[str, nn.Module], batch: Mapping[str, Tensor], generator: torch.Generator
    ) -> Iterator[tuple[str, Tensor]]:
        yield "net", loss_of(config, net, regression, batch, generator)

    took = fit({"net": net}, samples, losses, config.fit, folder, progress, seed, trackers=trackers)
    return net, took


def _kept_bands(
    samples: Samples, regression: nn.Module, doubt: float, device: str, path: Path
) -> tuple[float, ...]:
    """Root mean square of each band of residuals where they are open, from a file if it is there."""
    if path.is_file():
        return tuple(json.loads(path.read_text(encoding="utf-8")))
    square, count = torch.zeros(8, dtype=torch.float64), 0.0
    for n in range(_MEASURED):
        sample = samples[n]
        guess = guess_of(regression, sample["image"][None].to(device), doubt)
        share = cells(guess.open)
        square += (share * haar(_residual(guess, sample["ct"][None].to(device))) ** 2).sum((0, 2, 3, 4)).cpu()
        count += float(share.sum())
    if count == 0:
        raise ValueError("expected voxels that may be bone or air, got none; train the regression first")
    spread = [round(s, 6) for s in (square / count).sqrt().clamp(min=1e-3).tolist()]
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_with(path, lambda part: part.write_text(json.dumps(spread), encoding="utf-8"))
    return tuple(spread)


def draw(
    net: Generator,
    regression: nn.Module,
    image: Images,
    generator: torch.Generator,
    steps: int = 4,
    doubt: float = ResidualFlow.doubt,
) -> Float[Tensor, "b i j k"]:
    """A sample of the CT (HU) of each window.

    Parameters
    ----------
    net, regression
        The flow, and the regression that it was trained beside.
    image
        Contrasts, scaled by :func:`imaging.brightness.scaled`; sides are whole multiples of 32.
    generator
        Draws the noise, on its own device.
    steps
        Of Euler's method, all of one size: 1 gives the mean, 4 to 8 a sample.
    doubt
        As in training.
    """
    noise = torch.randn(len(image), 1, *image.shape[2:], generator=generator, device=generator.device)
    with torch.no_grad():
        return _moved(net, guess_of(regression, image, doubt), image, noise.to(image.device), steps)[:, 0]


def _moved(net: Generator, guess: Guess, image: Images, noise: Ct, steps: int) -> Float[Tensor, "b 1 i j k"]:
    """The regression's CT with a residual that noise was moved to; bands of white noise are white."""
    bands = flow_euler(in_bf16(net), haar(noise), _hints(net, guess, image), steps)
    drawn = guess.ct + guess.unit * to_image(bands, net.settings.std)
    return torch.where(guess.open > 0, drawn.clamp(*_RANGE), guess.ct)


def samples_of(
    mr: Volume,
    net: Generator,
    regression: nn.Module,
    config: ResidualFlow,
    n: int = 1,
    steps: int = 4,
    seed: int = 0,
) -> list[Volume]:
    """Samples of the CT of a head (HU), on the grid of its MRI.

    Windows that overlap share their noise, so that they draw the same there.

    Parameters
    ----------
    mr
        MR signal, any orientation, shape ``(c, i, j, k)``, contrasts in any order.
    net, regression
        As :func:`draw` takes them.
    config
        What the flow was trained with.
    n
        How many samples.
    steps
        As :func:`draw` takes them.
    seed
        Of the noise.

    Raises
    ------
    ValueError
        If the volume is not finite MR signal, has more channels than the networks take, or no sample is
        asked for.
    """
    expect_finite(mr.expect(Quantity.MR))
    c = config.net.classes - _BESIDES
    if not 1 <= len(mr.data) <= c or n < 1:
        raise ValueError(f"expected 1 to {c} contrasts and a sample or more, got {len(mr.data)} and {n}")
    device = next(regression.parameters()).device
    image, grid = on_voxels(mr, config.spacing)
    there = torch.stack([scaled(one) for one in image])
    contrasts = torch.cat([there, there.new_zeros(c - len(there), *grid.shape)])
    # Windows begin at whole cells of the wavelets where sides are even.
    sides = [side for length in reversed(grid.shape) for side in (_MARGIN, _MARGIN + length % 2)]
    whole = pad(contrasts, sides)
    noise = torch.randn(n, *whole.shape[1:], generator=torch.Generator().manual_seed(seed))

    def answered(window: Tensor) -> Tensor:
        seen = torch.stack([torch.stack([scaled(w, DIMMEST) for w in each[:c]]) for each in window])
        guess = guess_of(regression, seen, config.doubt)
        drawn = [_moved(net, guess, seen, one[:, None], steps) for one in window[:, c:].unbind(1)]
        return torch.cat(drawn, dim=1)

    with torch.inference_mode():
        both = torch.cat([whole, noise])[None].to(device)
        found = sliding_window_inference(both, config.shape, 1, answered, overlap=OVERLAP, mode="gaussian")
    i, j, k = (slice(_MARGIN, _MARGIN + side) for side in grid.shape)
    inner = found[0, :, i, j, k].float().cpu().clone()
    made = (Volume(one[None], grid, Quantity.HU, mr.frame) for one in inner)
    return [averaged(one, mr.grid, config.spacing) for one in made]


def mean_of(samples: Sequence[Volume]) -> SyntheticCt:
    """The mean of samples, and their standard deviation (HU), 0 of one alone."""
    first = samples[0]
    each = torch.stack([sample.data for sample in samples])
    spread = Volume(each.std(dim=0, correction=0), first.grid, Quantity.HU_DEVIATION, first.frame)
    mean = replace(first, data=each.mean(dim=0))
    return SyntheticCt(mean, spread, replace(spread, data=torch.zeros_like(spread.data)))
