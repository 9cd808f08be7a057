"""Kernel distance between two sets of features (KID), unbiased for sets of any size.

Binkowski et al., Demystifying MMD GANs, ICLR 2018: squared maximum mean discrepancy (Gretton et al., JMLR 13,
723 (2012), eq. 3) with the kernel (x.y/d + 1)^3. Unbiased, it may fall below zero; for exact copies it does.
"""

from dataclasses import dataclass

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
    rr, rs, ss = _kernels(real, synthetic)
    within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (rr, ss)]
    return float(within[0] + within[1] - 2 * rs.mean())


def kernel_interval(
    real: Features,
    synthetic: Others,
    generator: torch.Generator,
    n_resamples: int = 1000,
    level: float = 0.95,
    groups: tuple[Groups | None, Groups | None] = (None, None),
) -> Interval:
    """Kernel distance with its percentile interval.

    Items drawn twice are weighed and never paired with themselves, nor one of a group with its second self's
    group, so that drawing with replacement leaves the estimate unbiased.
    """
    kernels = _kernels(real, synthetic)
    within = [_Within.of(k, g) for k, g in zip((kernels[0], kernels[2]), groups, strict=True)]

    def statistic(a: Tensor, b: Tensor) -> float:
        u, v = counts(a, len(real)), counts(b, len(synthetic))
        between = (u @ kernels[1] @ v) / (u.sum() * v.sum())
        return float(within[0].mean(u) + within[1].mean(v) - 2 * between)

    items = [torch.arange(len(real)), torch.arange(len(synthetic))]
    return bootstrap(statistic, items, generator, n_resamples, level, groups=groups)


@dataclass(frozen=True)
class _Within:
    """Mean over pairs of different items, where whole groups are drawn any number of times.

    A pair of two groups counts as often as the product of their draws, a pair within a group as often as the
    group was drawn: then every pair is expected once.
    """

    kernel: Tensor
    mates: Tensor  # sum of the kernel over the other items of each item's group
    n_mates: Tensor

    @classmethod
    def of(cls, kernel: Tensor, groups: Groups | None) -> "_Within":
        if groups is None:
            nothing = torch.zeros(len(kernel), dtype=torch.float64)
            return cls(kernel, nothing, nothing)
        same = groups.cpu()[:, None] == groups.cpu()
        same.fill_diagonal_(fill_value=False)
        return cls(kernel, (kernel * same).sum(dim=1), same.sum(dim=1).double())

    def mean(self, weights: Tensor) -> Tensor:
        squares, twice = weights.square(), weights.square() - weights
        total = weights @ self.kernel @ weights - squares @ self.kernel.diagonal() - twice @ self.mates
        return total / (weights.sum() ** 2 - squares.sum() - twice @ self.n_mates)


def _kernels(real: Features, synthetic: Others) -> tuple[Tensor, Tensor, Tensor]:
    if min(len(real), len(synthetic)) < 2:
        raise ValueError(f"expected two items or more in each set, got {len(real)} and {len(synthetic)}")
    pairs = ((real, real), (real, synthetic), (synthetic, synthetic))
    rr, rs, ss = (cubic_kernel(a, b).cpu() for a, b in pairs)
    return rr, rs, ss
