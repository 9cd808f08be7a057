"""How alike the images of one set are: mean multi-scale structural similarity of random pairs.

Wang, Simoncelli and Bovik, Asilomar 2003: contrast and structure at every scale, luminance at the coarsest,
Gaussian window of 1.5 voxels, borders left out. A collapsed generator draws pairs that are all alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

from .bootstrap import Groups, Indices, Interval, bootstrap, counts

Images = Float[Tensor, "n c *space"]
Pairs = Integer[Tensor, "p 2"]
Values = Float[Tensor, " p"]

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


@dataclass(frozen=True)
class Scales:
    """The window and the weights of the scales, finest first.

    Parameters
    ----------
    kernel
        Width of the window (voxels), odd.
    weights
        One exponent for each scale; they sum to 1.
    """

    kernel: int
    weights: tuple[float, ...]


def scales(sides: Sequence[int]) -> Scales:
    """The window and scales that images of this size have room for.

    Five scales with a window of 11 where every side has 176 voxels, of 7 where it has 112; then fewer scales,
    down to two, with the published weights scaled to sum to 1. Figures of different scales do not compare.

    Raises
    ------
    ValueError
        If a side is shorter than 14 voxels.
    """
    shortest = min(sides)
    n = len(_WEIGHTS)
    if shortest >> (n - 1) >= 11:
        return Scales(11, _scaled(n))
    while n >= 2:
        if shortest >> (n - 1) >= 7:
            return Scales(7, _scaled(n))
        n -= 1
    raise ValueError(
        f"expected sides of 14 voxels or more for two scales, got {tuple(sides)}; resample larger"
    )


def ms_ssim(a: Images, b: Images, data_range: float, at: Scales | None = None) -> Float[Tensor, " n"]:
    """Multi-scale structural similarity of each pair of images, float64.

    Scale by scale the mean over voxels and channels is taken before the powers; a negative mean counts as 0.

    Parameters
    ----------
    a, b
        Images, shape ``(n, c, *space)`` in two or three dimensions.
    data_range
        Distance from the least to the greatest value that images may have (1 for 0..1, 2 for -1..1).
    at
        Window and scales; those of :func:`scales` unless given.

    Raises
    ------
    ValueError
        If the images are too small or the range is not positive.
    """
    if not (math.isfinite(data_range) and data_range > 0):
        raise ValueError(f"expected a positive data range, got {data_range}; 2 for images within -1..1")
    at = at or scales(a.shape[2:])
    pool = functional.avg_pool2d if a.ndim == 4 else functional.avg_pool3d
    result = torch.ones(len(a), dtype=torch.float64, device=a.device)
    x, y = a.double(), b.double()
    for level, weight in enumerate(at.weights):
        coarsest = level == len(at.weights) - 1
        result = result * _similarity(x, y, data_range, at.kernel, coarsest).clamp(min=0) ** weight
        if not coarsest:
            x, y = pool(x, 2), pool(y, 2)
    return result


def random_pairs(n: int, n_pairs: int, generator: torch.Generator) -> Pairs:
    """Different pairs of different images: rounds of a shuffled deck, so that all images are used alike.

    Raises
    ------
    ValueError
        If there are fewer than two images, or fewer pairs of them than are asked for.
    """
    if n < 2 or not 1 <= n_pairs <= n * (n - 1) // 2:
        raise ValueError(
            f"expected 1 to {n * (n - 1) // 2} pairs of {n} images, got {n_pairs}; ask for fewer"
        )
    deck = torch.randperm(n, generator=generator)
    steps = torch.randperm(n - 1, generator=generator) + 1
    # Cards s apart round the circle; s and n - s give the same pairs.
    steps = steps[steps <= n // 2]
    pairs: list[Tensor] = []
    for step in steps.tolist():
        size = n // 2 if 2 * step == n else n
        at = torch.arange(size)
        pairs.append(torch.stack([deck[at], deck[(at + step) % n]], dim=1))
        if sum(map(len, pairs)) >= n_pairs:
            break
    return torch.cat(pairs)[:n_pairs]


def pair_similarities(images: Images, pairs: Pairs, data_range: float, chunk: int = 1) -> Values:
    """Similarity of each pair, ``chunk`` pairs at a time."""
    return torch.cat(
        [ms_ssim(images[p[:, 0]], images[p[:, 1]], data_range).cpu() for p in torch.split(pairs, chunk)]
    )


@dataclass(frozen=True)
class Diversity:
    """Similarity within either set, and what it says of their diversity.

    Parameters
    ----------
    real, synthetic
        Mean similarity of pairs: 1 where all images are one.
    ratio
        (1 - synthetic) / (1 - real): 1 where the synthetic set is as diverse, 0 where it collapsed.
    n_pairs
        Pairs drawn from each set, or all there are.
    scales
        Window and scales of the similarity.
    """

    real: Interval
    synthetic: Interval
    ratio: Interval
    n_pairs: int
    scales: Scales


def diversity(
    real: Images,
    synthetic: Float[Tensor, "m c *space"],
    data_range: float,
    generator: torch.Generator,
    n_pairs: int = 100,
    n_resamples: int = 1000,
    level: float = 0.95,
    groups: tuple[Groups | None, Groups | None] = (None, None),
) -> Diversity:
    """Similarity of random pairs of both sets, with intervals over images: pairs share them.

    The intervals are too wide rather than too narrow where there are fewer pairs than images.
    """
    sets = (real, synthetic)
    pairs = [random_pairs(len(s), min(n_pairs, len(s) * (len(s) - 1) // 2), generator) for s in sets]
    values = [pair_similarities(s, p, data_range) for s, p in zip(sets, pairs, strict=True)]
    items = [torch.arange(len(s)) for s in sets]

    # A pair within a group is drawn as often as the group is, any other as the product of both draws.
    mates = [
        g is not None and g.cpu()[p[:, 0]] == g.cpu()[p[:, 1]] for g, p in zip(groups, pairs, strict=True)
    ]

    def alike(which: int, drawn: Indices) -> float:
        drawn_of = counts(drawn, len(items[which]))[pairs[which]]
        weights = torch.where(torch.as_tensor(mates[which]), drawn_of[:, 0], drawn_of.prod(dim=1))
        return float((weights * values[which]).sum() / weights.sum())

    def ratio(a: Indices, b: Indices) -> float:
        left = 1 - alike(0, a)
        return (1 - alike(1, b)) / left if left > 0 else math.nan

    within = [
        bootstrap(lambda d, i=i: alike(i, d), [items[i]], generator, n_resamples, level, groups=[groups[i]])
        for i in (0, 1)
    ]
    both = bootstrap(ratio, items, generator, n_resamples, level, groups=groups)
    return Diversity(within[0], within[1], both, min(map(len, pairs)), scales(real.shape[2:]))


def _similarity(x: Images, y: Images, data_range: float, kernel: int, luminance: bool) -> Float[Tensor, " n"]:
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    mx, my = _blur(x, kernel), _blur(y, kernel)
    vx, vy, cov = (_blur(p, kernel) - m for p, m in ((x * x, mx * mx), (y * y, my * my), (x * y, mx * my)))
    alike = (2 * cov + c2) / (vx + vy + c2)
    if luminance:
        alike = alike * (2 * mx * my + c1) / (mx * mx + my * my + c1)
    return alike.flatten(1).mean(dim=1)


def _blur(x: Images, kernel: int) -> Float[Tensor, "n c *fewer"]:
    """Gaussian mean about each voxel whose window lies inside."""
    at = torch.arange(kernel, dtype=torch.float64) - (kernel - 1) / 2
    window = torch.exp(-(at**2) / (2 * _SIGMA**2))
    window = window / window.sum()
    for axis in range(2, x.ndim):
        n = x.shape[axis] - kernel + 1
        # In place: four times as fast as a sum of products.
        mean = x.narrow(axis, 0, n) * float(window[0])
        for i, weight in enumerate(window[1:].tolist(), start=1):
            mean.add_(x.narrow(axis, i, n), alpha=weight)
        x = mean
    return x


def _scaled(n: int) -> tuple[float, ...]:
    total = sum(_WEIGHTS[:n])
    return tuple(w / total for w in _WEIGHTS[:n])
