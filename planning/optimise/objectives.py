"""What the optimiser minimises: quadratic terms of the dose, and their gradients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

Dose = Float[Tensor, " n"]
Indices = Integer[Tensor, " m"]


@dataclass(frozen=True)
class SquaredDeviation:
    """Mean squared deviation from a dose, above and below.

    Parameters
    ----------
    structure
        Name of the region.
    dose_gy
        Dose wanted (Gy in one fraction).
    priority
        Factor of this term in the sum.
    """

    structure: str
    dose_gy: float
    priority: float = 1.0


@dataclass(frozen=True)
class SquaredOverdose:
    """Mean squared dose above a limit; parameters as in :class:`SquaredDeviation`."""

    structure: str
    dose_gy: float
    priority: float = 1.0


@dataclass(frozen=True)
class SquaredUnderdose:
    """Mean squared lack of dose below a limit; parameters as in :class:`SquaredDeviation`."""

    structure: str
    dose_gy: float
    priority: float = 1.0


@dataclass(frozen=True)
class SquaredMean:
    """Square of the mean dose above a limit; parameters as in :class:`SquaredDeviation`."""

    structure: str
    dose_gy: float = 0.0
    priority: float = 1.0


Objective = SquaredDeviation | SquaredOverdose | SquaredUnderdose | SquaredMean


def evaluate(
    objectives: Sequence[Objective],
    voxels: Mapping[str, Integer[Tensor, " _"]],
    dose: Dose,
    weights: Dose | None = None,
) -> tuple[float, Dose]:
    """Value of the sum of all terms and its gradient with respect to the dose.

    Every term is a mean over the voxels of its structure, after Wieser et al., Med. Phys. 44,
    2556 (2017), so that priorities do not depend on the size of a structure.

    Parameters
    ----------
    objectives
        The terms.
    voxels
        For each structure, which entries of ``dose`` belong to it.
    dose
        Dose (Gy in one fraction), shape ``(n,)``.
    weights
        How many voxels each entry stands for, shape ``(n,)``; all 1 where it is None.

    Returns
    -------
    tuple
        The value, and the gradient of shape ``(n,)`` (1/Gy).

    Raises
    ------
    ValueError
        If an objective names a structure that is missing or has no voxel.
    """
    value, gradient = 0.0, torch.zeros_like(dose)
    for objective in objectives:
        inside = voxels.get(objective.structure)
        if inside is None or len(inside) == 0:
            raise ValueError(
                f"expected voxels of {objective.structure} to optimise, got none; "
                "contour it, or leave its objectives out"
            )
        share = torch.ones_like(dose[inside]) if weights is None else weights[inside].to(dose)
        term, slope = _term(objective, dose[inside], share / share.sum())
        value += term
        gradient[inside] += slope
    return value, gradient


def _term(objective: Objective, dose: Dose, share: Dose) -> tuple[float, Dose]:
    """One term and its gradient; ``share`` sums to one."""
    excess = dose - objective.dose_gy
    if isinstance(objective, SquaredMean):
        mean = max(float((share * dose).sum()) - objective.dose_gy, 0.0)
        return objective.priority * mean**2, 2 * objective.priority * mean * share
    if isinstance(objective, SquaredOverdose):
        excess = excess.clamp(min=0)
    elif isinstance(objective, SquaredUnderdose):
        excess = excess.clamp(max=0)
    slope = objective.priority * share * excess
    return float((slope * excess).sum()), 2 * slope


def resolve_overlaps(
    voxels: Mapping[str, Integer[Tensor, " _"]], ranks: Mapping[str, int]
) -> dict[str, Integer[Tensor, " _"]]:
    """Each structure without the voxels that structures of a lower rank number own.

    Parameters
    ----------
    voxels
        For each structure, its voxels; they may overlap.
    ranks
        Rank of each structure: 1 comes before 2, equal ranks share. A structure that is not
        named here comes last.

    Returns
    -------
    dict
        The same structures, each with its remaining voxels in their order.
    """
    last = max(ranks.values(), default=0) + 1
    size = 1 + max((int(v.max()) for v in voxels.values() if len(v)), default=0)
    owner = torch.full((size,), last, dtype=torch.int64)
    for name, inside in voxels.items():
        owner[inside] = owner[inside].clamp(max=ranks.get(name, last))
    return {name: inside[owner[inside] >= ranks.get(name, last)] for name, inside in voxels.items()}
