"""Slices of one patient say less than as many patients: how much less."""

import torch
from jaxtyping import Float, Float64, Integer
from torch import Tensor

Groups = Integer[Tensor, " _"]


def design_effect(values: Float[Tensor, " n"], groups: Integer[Tensor, " n"] | None) -> float:
    """How many of these values weigh as much as one independent value; 1 without groups.

    Kish, Survey Sampling (1965): 1 + (s − 1) ρ with s the mean size of the group that a value is
    in, and ρ the correlation within groups, by a one-way analysis of variance of the values' ranks.
    Where nothing tells ρ, for there is one group or one value, each group counts once.
    """
    if groups is None or len(values) < 2:
        return 1.0
    _, place, sizes = torch.unique(groups.cpu(), return_inverse=True, return_counts=True)
    n, n_groups, n_each = len(values), len(sizes), sizes.double()
    mean_size = float((n_each**2).sum()) / n
    if n_groups in (1, n):
        return mean_size
    ranks = midranks(values.cpu())
    means = torch.zeros_like(n_each).index_add_(0, place, ranks) / n_each
    between = float((n_each * (means - ranks.mean()) ** 2).sum()) / (n_groups - 1)
    within = float(((ranks - means[place]) ** 2).sum()) / (n - n_groups)
    typical = (n - mean_size) / (n_groups - 1)
    varied = between + (typical - 1) * within
    rho = (between - within) / varied if varied > 0 else 1.0
    return 1 + (mean_size - 1) * min(1.0, max(0.0, rho))


def midranks(values: Float[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """Rank of each value from 1 on; equal values share the mean of their ranks."""
    values = values.contiguous()
    order = values.sort().values
    below, through = (torch.searchsorted(order, values, right=right) for right in (False, True))
    return (below + through + 1).double() / 2
