"""What the optimiser minimises: terms of the dose, their gradients, and their sum."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Integer
from torch import Tensor

Dose = Float[Tensor, " n"]
Indices = Integer[Tensor, " m"]


@runtime_checkable
class Objective(Protocol):
    """One term on one structure, a frozen dataclass.

    The terms here and in ``dose_volume`` and ``voxelwise`` are means over a structure, after Wieser
    et al., Med. Phys. 44, 2556 (2017), so that priorities do not depend on its size.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def structure(self) -> str:
        """Name of the region."""

    @property
    def priority(self) -> float:
        """Factor of this term in the sum."""

    def term(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """Value and gradient with respect to the dose of the structure's points (Gy in one fraction).

        ``share`` is the part of the structure that each point stands for; it sums to one.
        """


@runtime_checkable
class Demand(Protocol):
    """A term that cannot be met where no bixel reaches."""

    @property
    def needs(self) -> tuple[float, float]:
        """Dose that is wanted (Gy in one fraction), and the share of the structure that must be reached."""


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

    @property
    def needs(self) -> tuple[float, float]:
        """All of the structure."""
        return self.dose_gy, 1.0

    def term(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """Value and gradient."""
        return squared(dose - self.dose_gy, share, self.priority)


@dataclass(frozen=True)
class SquaredOverdose:
    """Mean squared dose above a limit; parameters as in :class:`SquaredDeviation`."""

    structure: str
    dose_gy: float
    priority: float = 1.0

    def term(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """Value and gradient."""
        return squared((dose - self.dose_gy).clamp(min=0), share, self.priority)


@dataclass(frozen=True)
class SquaredUnderdose:
    """Mean squared lack of dose below a limit; parameters as in :class:`SquaredDeviation`."""

    structure: str
    dose_gy: float
    priority: float = 1.0

    @property
    def needs(self) -> tuple[float, float]:
        """All of the structure."""
        return self.dose_gy, 1.0

    def term(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """Value and gradient."""
        return squared((dose - self.dose_gy).clamp(max=0), share, self.priority)


@dataclass(frozen=True)
class SquaredMean:
    """Square of the mean dose above a limit; parameters as in :class:`SquaredDeviation`."""

    structure: str
    dose_gy: float = 0.0
    priority: float = 1.0

    def term(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """Value and gradient."""
        mean = max(float((share * dose).sum()) - self.dose_gy, 0.0)
        return self.priority * mean**2, 2 * self.priority * mean * share


@dataclass(frozen=True)
class Uniformity:
    """Variance of the dose in a structure, whatever its mean; parameters as in :class:`SquaredDeviation`."""

    structure: str
    priority: float = 1.0

    def term(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """Value and gradient; the mean's own gradient drops out, for deviations from it sum to zero."""
        return squared(dose - (share * dose).sum(), share, self.priority)


def squared(excess: Dose, share: Dose, priority: float) -> tuple[float, Dose]:
    """Priority times the mean square of an excess over the points, and its gradient by the excess."""
    slope = priority * share * excess
    return float((slope * excess).sum()), 2 * slope


def prepare(
    objectives: Sequence[Objective],
    voxels: Mapping[str, Integer[Tensor, " _"]],
    weights: Dose | None = None,
    *,
    like: Tensor,
) -> Callable[[Dose], tuple[float, Dose]]:
    """The sum of all terms as a function of the dose, with all that does not depend on the dose done.

    Parameters
    ----------
    objectives
        The terms.
    voxels
        For each structure, which entries of the dose belong to it, none twice. Entries that follow one
        another are read in place: structure after structure, as ``sampling.draw`` lays them, is fastest.
    weights
        How many voxels each entry stands for, shape ``(n,)``; all 1 where it is None.
    like
        Any tensor of the type and on the device that doses will have.

    Returns
    -------
    Callable
        From a dose (Gy in one fraction), shape ``(n,)``, to the value and the gradient of shape ``(n,)``
        (1/Gy).

    Raises
    ------
    ValueError
        If an objective names a structure that is missing or has no voxel.
    """
    regions = {o.structure: _region(o.structure, voxels, weights, like) for o in objectives}

    def objective(dose: Dose) -> tuple[float, Dose]:
        seen = {name: dose[inside] for name, (inside, _) in regions.items()}
        slopes: dict[str, Dose] = {}
        value = 0.0
        for one in objectives:
            term, slope = one.term(seen[one.structure], regions[one.structure][1])
            value += term
            slopes[one.structure] = slopes[one.structure] + slope if one.structure in slopes else slope
        gradient = torch.zeros_like(dose)
        for name, (inside, _) in regions.items():
            gradient[inside] += slopes[name]
        return value, gradient

    return objective


def evaluate(
    objectives: Sequence[Objective],
    voxels: Mapping[str, Integer[Tensor, " _"]],
    dose: Dose,
    weights: Dose | None = None,
) -> tuple[float, Dose]:
    """Value of the sum of all terms and its gradient with respect to the dose.

    For one dose; a search that asks again and again is faster with :func:`prepare`.

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
    return prepare(objectives, voxels, weights, like=dose)(dose)


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


def _region(
    name: str, voxels: Mapping[str, Integer[Tensor, " _"]], weights: Dose | None, like: Tensor
) -> tuple[slice | Tensor, Float[Tensor, " own"]]:
    """Where the dose of a structure is read, and the share of it that each entry stands for."""
    inside = voxels.get(name)
    if inside is None or len(inside) == 0:
        raise ValueError(
            f"expected voxels of {name} to optimise, got none; contour it, or leave its objectives out"
        )
    count = torch.ones(len(inside)) if weights is None else weights[inside]
    count = count.to(like)
    first, last = int(inside[0]), int(inside[-1])
    in_a_row = last - first + 1 == len(inside) and bool((inside.diff() == 1).all())
    return slice(first, last + 1) if in_a_row else inside.to(like.device), count / count.sum()
