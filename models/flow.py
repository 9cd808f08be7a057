"""Flow matching: straight paths from a source to the data, and shortcuts of large steps along them.

Lipman et al., "Flow matching for generative modeling" (ICLR 2023) and Liu et al., "Flow straight and fast"
(ICLR 2023), with time as diffusers has it: 1 at the source, 0 at the data, and velocity source - data.
Shortcut models after Frans et al., "One step diffusion via shortcut models" (arXiv 2410.12557), section 3.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as nnf

from .generator import Hints

Bands = Float[Tensor, "b k *h"]
PerSample = Float[Tensor, " b"]
Widths = Integer[Tensor, " b"]
# bands, time, width, condition, known, given -> bands
Net = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def source(noise: Bands, render: Bands | None, share: float) -> Bands:
    """Where paths begin: noise, or a render of the labels with noise over it, of variance 1 all the same.

    Parameters
    ----------
    noise
        Standard normal bands.
    render
        Bands of a render, each of standard deviation about 1.
    share
        How much of the source the render is, from 0 to below 1; the noise has ``sqrt(1 - share²)``.

    Raises
    ------
    ValueError
        If there is a share but no render.
    """
    if share == 0:
        return noise
    if render is None:
        raise ValueError("expected a render of the labels to start from, got none; this network needs one")
    return share * render + (1 - share**2) ** 0.5 * noise


def times(n: int, mean: float, std: float, generator: torch.Generator) -> PerSample:
    """Times in (0, 1): logit-normal (Esser et al., ICML 2024, eq. 19), or uniform where ``std`` is 0."""
    if std == 0:
        return torch.rand(n, generator=generator, device=generator.device)
    return torch.sigmoid(mean + std * torch.randn(n, generator=generator, device=generator.device))


def mixed(data: Bands, start: Bands, time: PerSample) -> Bands:
    """The place on the straight path at a time: ``(1 - t) data + t start``."""
    t = per_sample(time, data)
    return (1 - t) * data + t * start


def weights(
    known: Float[Tensor, "b c *s"],
    present: Float[Tensor, "b c"],
    band_std: Sequence[float],
    power: float,
    floor: float,
) -> Float[Tensor, "b k *h"]:
    """What each coefficient of the bands counts in a loss.

    Parameters
    ----------
    known
        1 where a voxel is given; its bands count ``floor``, so that a sampler stays on the path there.
    present
        1 for contrasts that a case has; others count nothing.
    band_std
        Standard deviation of each band. A band counts ``std^power``, mean 1: 0 makes all bands alike, 2
        gives the squared error of the image, where coarse bands are all that matters.
    """
    unknown = cells(1 - known).clamp(min=floor)
    counted = unknown * present.reshape(*present.shape, *[1] * (known.ndim - 2))
    band = torch.tensor(band_std, dtype=known.dtype, device=known.device) ** power
    n_bands = len(band_std) // known.shape[1]
    column = (band / band.mean()).reshape(-1, *[1] * (known.ndim - 2))
    return torch.cat([counted] * n_bands, dim=1) * column


def cells(values: Float[Tensor, "b _ *s"]) -> Float[Tensor, "b _ *h"]:
    """Mean over the voxels that a coefficient of the bands is made of."""
    return nnf.avg_pool2d(values, 2) if values.ndim == 4 else nnf.avg_pool3d(values, 2)


def weighted_error(answer: Bands, target: Bands, weight: Bands) -> Float[Tensor, ""]:
    """Mean squared error, weighted within each sample; samples count alike however much of them is known."""
    axes = tuple(range(1, answer.ndim))
    total = weight.sum(axes)
    error = (weight * (answer - target) ** 2).sum(axes)
    return (error / total.clamp(min=1e-6)).sum() / (total > 0).sum().clamp(min=1)


def flow_loss(
    net: Net,
    data: Bands,
    start: Bands,
    time: PerSample,
    width: Widths,
    hints: Hints,
    weight: Bands,
    n_widths: int,
) -> Float[Tensor, ""]:
    """Squared error of the velocity; samples with a width above 0 learn to take that step at once.

    Parameters
    ----------
    net
        Answers ``source - data``.
    data, start
        Both ends of the paths.
    time, width
        Of each sample; those with width k have a time that is a multiple of ``2^(1-k)``.
    hints
        What the network is told.
    weight
        What :func:`weights` gives.
    n_widths
        Widths that the network knows.
    """
    at = mixed(data, start, time)
    target = start - data
    large = width > 0
    if bool(large.any()):
        target = target.clone()
        target[large] = two_steps(net, at[large], time[large], width[large], hints.rows(large), n_widths)
    return weighted_error(net(at, time, width, *hints), target, weight)


def large_steps(n: int, share: float, n_widths: int, generator: torch.Generator) -> tuple[PerSample, Widths]:
    """Times and widths for the samples of a batch, ``share`` of which learn a large step.

    Width k, from 1 to ``n_widths``, is a step of ``2^(1-k)``; its time is where such a step may begin.
    Samples that learn no step have width 0 and time 0, to be drawn by :func:`times`.
    """

    def uniform() -> Tensor:
        return torch.rand(n, generator=generator, device=generator.device)

    if n_widths == 0:
        return uniform() * 0, torch.zeros(n, dtype=torch.long, device=generator.device)
    chosen, which, where = uniform() < share, uniform(), uniform()
    width = (which * n_widths).long().clamp(max=n_widths - 1) + 1
    n_steps = 2.0 ** (width - 1)
    time = ((where * n_steps).floor().clamp(max=n_steps - 1) + 1) / n_steps
    return time * chosen, width * chosen


def two_steps(
    net: Net, at: Bands, time: PerSample, width: Widths, hints: Hints, n_widths: int
) -> Float[Tensor, "b k *h"]:
    """Mean velocity of two steps of half the width (Frans et al., eq. 5), without a gradient.

    Half of the smallest width is taken with the velocity of the moment. The network itself makes the target;
    the paper takes the average of its weights.
    """
    step = 2.0 ** (1 - width)
    half = torch.where(width < n_widths, width + 1, 0)
    with torch.no_grad():
        first = net(at, time, half, *hints)
        between = at - per_sample(step / 2, at) * first
        second = net(between, time - step / 2, half, *hints)
    return (first + second) / 2


def in_bf16(net: Net) -> Net:
    """The network in bfloat16 (autocast), several times faster than float32; what it answers is float32.

    Each call is a region of its own: autocast keeps the weights that it cast, and what it cast for a target
    without a gradient would give none to the step after it.
    """

    def answer(*inputs: Tensor) -> Tensor:
        with torch.autocast(inputs[0].device.type, torch.bfloat16):
            return net(*inputs).float()

    return answer


def per_sample(values: PerSample, like: Tensor) -> Tensor:
    """One number for each sample, to go with a batch."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
