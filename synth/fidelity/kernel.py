"""Kernel distance between two sets of features (KID), unbiased for sets of any size.

Binkowski et al., Demystifying MMD GANs, ICLR 2018: squared maximum mean discrepancy (Gretton et al., JMLR 13,
723 (2012), eq. 3) with the kernel (x.y/d + 1)^3. Unbiased, it may fall below zero; for exact copies it does.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .bootstrap import Groups, Interval, bootstrap, counts

Features = Float[Tensor, "n d"]
Others = Float[Tensor, "m d"]


def cubic_kernel(a: Features, b: Others) -> Float[Tensor, "n m"]:
    """(a.b / d + 1)^3 for every pair, float64."""
    root = a.double() @ b.double().T / a.shape[1] + 1
    return root * root * root  # powers of doubles are slow


def kernel_distance(real: Features, synthetic: Others) -> float:
    """Squared discrepancy over all pairs of both sets.

    Raises
    ------
    ValueError
        If a set has fewer than two items.
    """
    weights = [torch.ones(len(s), dtype=torch.float64) for s in (real, synthetic)]
    return _discrepancy(*_kernels(real, synthetic), *weights)


def kernel_distances(
    real: Features, synthetic: Others, size: int, n_subsets: int, generator: torch.Generator
) -> Float[Tensor, " k"]:
    """Squared discrepancy of random subsets, ``size`` items of each set, as KID is often reported.

    The mean of them estimates what :func:`kernel_distance` takes from all pairs at once.

    Raises
    ------
    ValueError
        If a subset is greater than a set or smaller than two.
    """
    if not 2 <= size <= min(len(real), len(synthetic)):
        raise ValueError(
            f"expected subsets of 2 to {min(len(real), len(synthetic))} items, got {size}; ask for less"
        )
    values = []
    for _ in range(n_subsets):
        a = torch.randperm(len(real), generator=generator)[:size]
        b = torch.randperm(len(synthetic), generator=generator)[:size]
        values.append(kernel_distance(real[a], synthetic[b]))
    return torch.tensor(values, dtype=torch.float64)


def kernel_interval(
    real: Features,
    synthetic: Others,
    generator: torch.Generator,
    n_resamples: int = 1000,
    level: float = 0.95,
    groups: tuple[Groups | None, Groups | None] = (None, None),
) -> Interval:
    """Kernel distance with its percentile interval.

    Items drawn twice are weighed and never paired with themselves, so that drawing with replacement leaves
    the estimate unbiased.
    """
    kernels = _kernels(real, synthetic)

    def statistic(a: Tensor, b: Tensor) -> float:
        return _discrepancy(*kernels, counts(a, len(real)), counts(b, len(synthetic)))

    items = [torch.arange(len(real)), torch.arange(len(synthetic))]
    return bootstrap(statistic, items, generator, n_resamples, level, groups=groups)


def _kernels(real: Features, synthetic: Others) -> tuple[Tensor, Tensor, Tensor]:
    if min(len(real), len(synthetic)) < 2:
        raise ValueError(f"expected two items or more in each set, got {len(real)} and {len(synthetic)}")
    return cubic_kernel(real, real), cubic_kernel(real, synthetic), cubic_kernel(synthetic, synthetic)


def _discrepancy(rr: Tensor, rs: Tensor, ss: Tensor, a: Tensor, b: Tensor) -> float:
    return float(_within(rr, a) + _within(ss, b) - 2 * (a @ rs @ b) / (a.sum() * b.sum()))


def _within(kernel: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over pairs of different items."""
    squares = weights.square()
    return (weights @ kernel @ weights - squares @ kernel.diagonal()) / (weights.sum() ** 2 - squares.sum())
