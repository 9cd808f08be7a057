"""How far a figure may be off: percentile intervals of any statistic of one or more sets."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Integer, Shaped
from torch import Tensor

Items = Shaped[Tensor, "_ ..."]
Groups = Integer[Tensor, " _"]
Indices = Integer[Tensor, " _"]


@dataclass(frozen=True)
class Interval:
    """A figure and where it may lie.

    Parameters
    ----------
    estimate
        The statistic of the whole sets.
    low, high
        Bounds of the interval.
    bias
        Mean of the resamples less the estimate: how far drawing with replacement shifts this statistic.
    level
        Share of the resamples between the bounds.
    """

    estimate: float
    low: float
    high: float
    bias: float
    level: float


def bootstraps(
    statistics: Callable[..., Sequence[float]],
    sets: Sequence[Items],
    generator: torch.Generator,
    n_resamples: int = 1000,
    level: float = 0.95,
    *,
    paired: bool = False,
    groups: Sequence[Groups | None] | None = None,
    centred: bool = False,
) -> list[Interval]:
    """Percentile interval of each of several statistics (Efron, Ann. Statist. 7, 1 (1979)).

    Resamples repeat items. A statistic that suffers from it, such as one of nearest neighbours, is better
    written for indices: give ``torch.arange(n)`` as the set and let the statistic weigh or mask repeats.

    Parameters
    ----------
    statistics
        Takes as many sets as there are and gives one or more numbers; where one is not defined it is NaN, and
        it is left out of that resample.
    sets
        Items along the first axis, each set drawn by itself with replacement.
    generator
        Draws the resamples.
    n_resamples, level
        How many, and the share of them between the bounds.
    paired
        All sets hold the same cases in the same order, which are drawn together.
    groups
        For each set the group of every item, such as its patient, or None: whole groups are drawn, since
        slices of one patient say less than as many patients.
    centred
        Shift the intervals so that the mean of the resamples is the estimate. For statistics whose bias falls
        with the number of items, such as the Frechet distance, the plain interval may miss the estimate.

    Raises
    ------
    ValueError
        If a set is empty, paired sets or groups differ in length, or the level is not within 0 to 1.
    """
    _check(sets, n_resamples, level, paired, groups)
    memberships = list(groups) if groups is not None else [None] * len(sets)
    values = []
    for _ in range(n_resamples):
        if paired:
            chosen = [_drawn(len(sets[0]), memberships[0], generator)] * len(sets)
        else:
            chosen = [_drawn(len(s), g, generator) for s, g in zip(sets, memberships, strict=True)]
        values.append(statistics(*(s[c] for s, c in zip(sets, chosen, strict=True))))
    drawn = torch.tensor(values, dtype=torch.float64)
    return [
        _interval(float(estimate), column[~column.isnan()], level, centred)
        for estimate, column in zip(statistics(*sets), drawn.unbind(1), strict=True)
    ]


def bootstrap(
    statistic: Callable[..., float],
    sets: Sequence[Items],
    generator: torch.Generator,
    n_resamples: int = 1000,
    level: float = 0.95,
    *,
    paired: bool = False,
    groups: Sequence[Groups | None] | None = None,
    centred: bool = False,
) -> Interval:
    """Percentile interval of a statistic; see :func:`bootstraps`."""
    return bootstraps(
        lambda *drawn: (statistic(*drawn),),
        sets,
        generator,
        n_resamples,
        level,
        paired=paired,
        groups=groups,
        centred=centred,
    )[0]


def _interval(estimate: float, values: Tensor, level: float, centred: bool) -> Interval:
    if not len(values) or math.isnan(estimate):
        return Interval(estimate, math.nan, math.nan, math.nan, level)
    bias = float(values.mean()) - estimate
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = (torch.quantile(values, tails) - (bias if centred else 0.0)).tolist()
    return Interval(estimate, low, high, bias, level)


def counts(indices: Indices, n: int) -> Tensor:
    """How often each of ``n`` items was drawn, shape ``(n,)``, float64."""
    return torch.bincount(indices, minlength=n).double()


def _drawn(n: int, groups: Groups | None, generator: torch.Generator) -> Indices:
    if groups is None:
        return torch.randint(n, (n,), generator=generator)
    names = torch.unique(groups)
    chosen = names[torch.randint(len(names), (len(names),), generator=generator)]
    return torch.cat([torch.nonzero(groups == name)[:, 0] for name in chosen])


def _check(
    sets: Sequence[Items],
    n_resamples: int,
    level: float,
    paired: bool,
    groups: Sequence[Groups | None] | None,
) -> None:
    sizes = [len(s) for s in sets]
    if not sizes or min(sizes) == 0:
        raise ValueError(f"expected sets with items in them, got {sizes} items; leave the empty set out")
    if paired and len(set(sizes)) > 1:
        raise ValueError(f"expected paired sets of one length, got {sizes}; give the same cases in each")
    if n_resamples < 1 or not 0 < level < 1:
        raise ValueError(f"expected resamples and a level within 0 to 1, got {n_resamples} and {level}")
    if groups is None:
        return
    if len(groups) != len(sets):
        raise ValueError(
            f"expected groups for {len(sets)} sets, got {len(groups)}; give None for a set without"
        )
    for size, group in zip(sizes, groups, strict=True):
        if group is not None and len(group) != size:
            raise ValueError(f"expected a group for each of {size} items, got {len(group)}")
