"""What a measure gives between two halves of the real set: the least that any generator can be asked for.

Distances between finite sets are never zero, and depend on how many images there are. So each measure
stands beside the same measure between random halves of the real set, and beside a synthetic set cut to
the same size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .bootstrap import Groups, Items


@dataclass(frozen=True)
class Floor:
    """A measure between real halves, and of a synthetic set of equal size against the same half.

    Parameters
    ----------
    n
        Images in the real half that is compared with, and at most in the other set.
    real, real_low, real_high
        Median and percentiles over the splits, real against real.
    synthetic, synthetic_low, synthetic_high
        The same, real against synthetic.
    above
        Share of splits in which the synthetic set measures more than the other real half; ties count half.
        1 for a distance, with percentiles apart, says that the set differs. A fresh real set gives 0.5 in the
        mean over many such sets, but one alone anything between, by how near its means fell to these.
    """

    n: int
    real: float
    real_low: float
    real_high: float
    synthetic: float
    synthetic_low: float
    synthetic_high: float
    above: float


def real_floors(
    measure: Callable[[Items, Items], Sequence[float]],
    real: Items,
    synthetic: Items,
    generator: torch.Generator,
    n_splits: int = 50,
    level: float = 0.95,
    groups: tuple[Groups | None, Groups | None] = (None, None),
) -> list[Floor]:
    """Floor of each of the numbers that a measure gives.

    The splits share images, so their percentiles tell how much a split matters, and no significance. Copies
    of the real images lie below the floor, but so may lucky fresh ones: look for copies image by image.

    Parameters
    ----------
    measure
        Takes the real half and another set, and gives one or more numbers.
    real, synthetic
        Items along the first axis.
    generator
        Draws halves and the synthetic items that stand against them.
    n_splits, level
        How many splits, and the share of them between the percentiles.
    groups
        Group of every real and of every synthetic item, such as its patient, or None: a real group is never
        divided, and synthetic items come from as few groups as there need to be.

    Raises
    ------
    ValueError
        If there are fewer than four real items, fewer than two groups, or fewer than two synthetic items.
    """
    n_wholes = len(real) if groups[0] is None else len(torch.unique(groups[0]))
    if len(real) < 4 or n_wholes < 2 or len(synthetic) < 2 or n_splits < 1:
        raise ValueError(
            f"expected four real items in two groups, two synthetic ones and a split, got {len(real)} in "
            f"{n_wholes}, {len(synthetic)} and {n_splits}; give more images"
        )
    ours, theirs, n_half = [], [], 0
    for _ in range(n_splits):
        half, other = _halves(len(real), groups[0], generator)
        n = min(len(half), len(other), len(synthetic))
        half, other = half[:n], other[:n]
        picked = _picked(len(synthetic), n, groups[1], generator)
        ours.append(measure(real[half], real[other]))
        theirs.append(measure(real[half], synthetic[picked]))
        n_half = max(n_half, n)
    return [
        _floor(n_half, torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64), level)
        for a, b in zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True)
    ]


def real_floor(
    measure: Callable[[Items, Items], float],
    real: Items,
    synthetic: Items,
    generator: torch.Generator,
    n_splits: int = 50,
    level: float = 0.95,
    groups: tuple[Groups | None, Groups | None] = (None, None),
) -> Floor:
    """Floor of a measure that gives one number; see :func:`real_floors`."""
    return real_floors(lambda a, b: (measure(a, b),), real, synthetic, generator, n_splits, level, groups)[0]


def _halves(n: int, groups: Groups | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices of two halves, each in random order; whole groups go to the first until it holds half."""
    shuffled = torch.randperm(n, generator=generator)
    if groups is None:
        return shuffled[: n // 2], shuffled[n // 2 : 2 * (n // 2)]
    inside = _gathered(groups, (n + 1) // 2, 1, generator)[shuffled]
    return shuffled[inside], shuffled[~inside]


def _picked(n: int, n_wanted: int, groups: Groups | None, generator: torch.Generator) -> Tensor:
    """Indices of ``n_wanted`` items, of as few groups as hold them."""
    shuffled = torch.randperm(n, generator=generator)
    if groups is not None and n_wanted < n:
        shuffled = shuffled[_gathered(groups, n_wanted, 0, generator)[shuffled]]
    return shuffled[:n_wanted]


def _gathered(groups: Groups, n_wanted: int, n_left: int, generator: torch.Generator) -> Tensor:
    """Which items are in random groups, as few as hold so many; ``n_left`` groups are left over at least."""
    names, sizes = torch.unique(groups.cpu(), return_counts=True)
    order = torch.randperm(len(names), generator=generator)
    held = sizes[order].cumsum(0)
    n_groups = min(int((held < n_wanted).sum()) + 1, len(names) - n_left)
    return torch.isin(groups.cpu(), names[order[:n_groups]])


def _floor(n: int, real: Tensor, synthetic: Tensor, level: float) -> Floor:
    defined = ~(synthetic - real).isnan()
    above = ((synthetic > real).double() + 0.5 * (synthetic == real).double())[defined].mean()
    (a, a_low, a_high), (b, b_low, b_high) = _middle(real, level), _middle(synthetic, level)
    return Floor(n, a, a_low, a_high, b, b_low, b_high, float(above))


def _middle(values: Tensor, level: float) -> tuple[float, float, float]:
    """Median and percentiles of the splits in which the measure is defined."""
    tails = torch.tensor([0.5, (1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    median, low, high = torch.nanquantile(values, tails).tolist()
    return median, low, high
