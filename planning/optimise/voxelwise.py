"""Terms of the optimiser with a dose of its own for every point of a structure."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from .objectives import Dose, squared


@dataclass(frozen=True, eq=False)
class FallOff:
    """Mean squared dose above a line that falls with the distance from the target.

    The limit is ``high_gy`` at the target, falls evenly to ``low_gy`` and stays there.

    Parameters
    ----------
    structure
        Name of the region, such as the body outside the target.
    distance
        Distance of each of its points from the target (mm), shape ``(n,)``, in the points' order.
    high_gy, low_gy
        Limits at the target and far from it (Gy in one fraction).
    reach
        Where the low limit begins (mm from the target).
    priority
        Factor of this term in the sum.

    Raises
    ------
    ValueError
        If the reach is not positive or the limit rises.
    """

    structure: str
    distance: Float[Tensor, " points"]
    high_gy: float
    low_gy: float
    reach: float
    priority: float = 1.0

    def __post_init__(self) -> None:
        if not self.reach > 0 or not self.high_gy >= self.low_gy:
            raise ValueError(
                f"expected a limit that falls over some distance, got {self.high_gy:g} Gy to "
                f"{self.low_gy:g} Gy over {self.reach:g} mm"
            )

    def at(self, kept: Integer[Tensor, " _"]) -> "FallOff":
        """The same term for some of the points."""
        return replace(self, distance=self.distance[kept])

    def term(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """Value and gradient."""
        _expect_points(self.structure, len(self.distance), len(dose))
        way = (self.distance.to(dose) / self.reach).clamp(0, 1)
        limit = torch.lerp(dose.new_tensor(self.high_gy), dose.new_tensor(self.low_gy), way)
        return squared((dose - limit).clamp(min=0), share, self.priority)


@dataclass(frozen=True, eq=False)
class Mimic:
    """Mean squared deviation from a dose that is given point by point.

    Parameters
    ----------
    structure
        Name of the region.
    reference
        Dose wanted at each of its points (Gy in one fraction), shape ``(n,)``, in the points' order.
    over, under
        Factors of what is above and below the reference.
    priority
        Factor of this term in the sum.
    """

    structure: str
    reference: Float[Tensor, " points"]
    over: float = 1.0
    under: float = 1.0
    priority: float = 1.0

    @property
    def needs(self) -> tuple[float, float]:
        """Some of the structure, if less than the reference counts at all."""
        return (float(self.reference.mean()) if self.under > 0 else 0.0), 0.0

    def at(self, kept: Integer[Tensor, " _"]) -> "Mimic":
        """The same term for some of the points."""
        return replace(self, reference=self.reference[kept])

    def term(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """Value and gradient."""
        _expect_points(self.structure, len(self.reference), len(dose))
        excess = dose - self.reference.to(dose)
        factor = torch.full_like(excess, self.under).masked_fill_(excess > 0, self.over)
        return squared(excess, share * factor, self.priority)


@dataclass(frozen=True, eq=False)
class MimicDvh:
    """Mean squared deviation of a structure's histogram from the one of a reference dose.

    The coldest point is held against the reference's coldest, the next against the next: where dose lies in
    the structure does not matter. After the reference histograms of Fredriksson, Phys. Med. Biol. 57, 7799
    (2012). Not convex: which points pay follows from the dose.

    Parameters
    ----------
    structure
        Name of the region.
    reference
        Reference dose at each of its points (Gy in one fraction), shape ``(n,)``, in the points' order.
    over, under
        Factors of what is above and below the reference's histogram.
    priority
        Factor of this term in the sum.
    """

    structure: str
    reference: Float[Tensor, " points"]
    over: float = 1.0
    under: float = 0.0
    priority: float = 1.0

    def at(self, kept: Integer[Tensor, " _"]) -> "MimicDvh":
        """The same term for some of the points."""
        return replace(self, reference=self.reference[kept])

    def term(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """Value and gradient."""
        _expect_points(self.structure, len(self.reference), len(dose))
        order, volume = _ascending(dose, share)
        known, there = _ascending(self.reference.to(dose), share)
        rising = self.reference.to(dose)[known]
        n = torch.searchsorted(there, volume).clamp(1, max(len(there) - 1, 1))
        low, high = n - 1, n.clamp(max=len(there) - 1)
        way = ((volume - there[low]) / (there[high] - there[low]).clamp(min=1e-12)).clamp(0, 1)
        excess = dose[order] - torch.lerp(rising[low], rising[high], way.to(dose))
        factor = torch.full_like(excess, self.under).masked_fill_(excess > 0, self.over)
        value, slope = squared(excess, share[order] * factor, self.priority)
        return value, torch.empty_like(slope).scatter_(0, order, slope)


def _ascending(dose: Dose, share: Dose) -> tuple[Integer[Tensor, " points"], Float[Tensor, " points"]]:
    """Order of rising doses, and the volume (0..1) up to the middle of each point in that order."""
    order = torch.argsort(dose, stable=True)
    own = share[order].double()
    return order, own.cumsum(0) - own / 2


def _expect_points(structure: str, n_own: int, n: int) -> None:
    if n_own != n:
        raise ValueError(
            f"expected a value for each of the {n} points of {structure}, got {n_own}; "
            "take the term at the points that were drawn"
        )
