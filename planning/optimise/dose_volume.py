"""Terms of the optimiser that look at a part of a structure, or at one number of its dose."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from .objectives import Dose, squared

# Where the equivalent uniform dose takes logarithms, no point has less (Gy).
_LEAST_DOSE = 1e-6


@runtime_checkable
class Statistic(Protocol):
    """One number (Gy) of the dose in a structure."""

    def of(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """The number and its gradient; ``share`` is what each point stands for and sums to one."""


@dataclass(frozen=True)
class Mean:
    """Mean dose."""

    def of(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """The mean and its gradient."""
        return float((share * dose).sum()), share


@dataclass(frozen=True)
class Eud:
    """Generalised equivalent uniform dose, (Σ v_i D_i^a)^(1/a).

    Niemierko, Med. Phys. 26, 1100 (1999). A uniform dose is its own, a = 1 is the mean; a large a
    leans to the hottest part, a negative one to the coldest.

    Parameters
    ----------
    a
        The exponent: 1 or more for organs, negative for targets. Between them the slope has no bound
        where there is no dose.
    """

    a: float

    def __post_init__(self) -> None:
        if not (self.a >= 1 or self.a < 0):
            raise ValueError(f"expected a of at least 1, or a negative one for a target, got {self.a:g}")

    def of(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """The dose and its gradient, through logarithms: powers of a dose overflow."""
        logs = dose.clamp(min=_LEAST_DOSE).log()
        log_eud = torch.logsumexp(self.a * logs + share.log(), dim=0) / self.a
        return float(log_eud.exp()), share * ((self.a - 1) * (logs - log_eud)).exp()


@dataclass(frozen=True)
class HottestMean:
    """Mean dose of the hottest part of a structure: its upper conditional value at risk.

    Rockafellar, Uryasev, J. Risk 2(3), 21 (2000); Romeijn et al., Phys. Med. Biol. 48, 3521 (2003).
    It is convex and never less than the dose at that volume.

    Parameters
    ----------
    percent
        Share of the volume (%).
    """

    percent: float

    def __post_init__(self) -> None:
        _expect_part(self.percent)

    def of(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """The mean and its gradient."""
        slope = extreme(dose, share, self.percent / 100, hottest=True) / (self.percent / 100)
        return float((slope * dose).sum()), slope


@dataclass(frozen=True)
class ColdestMean:
    """Mean dose of the coldest part of a structure, as :class:`HottestMean`; never more than its dose."""

    percent: float

    def __post_init__(self) -> None:
        _expect_part(self.percent)

    def of(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """The mean and its gradient."""
        slope = extreme(dose, share, self.percent / 100, hottest=False) / (self.percent / 100)
        return float((slope * dose).sum()), slope


@dataclass(frozen=True)
class Linear:
    """A number of the dose as it is: the less the better.

    Parameters
    ----------
    structure
        Name of the region.
    number
        Which number of its dose.
    priority
        Factor of this term in the sum.
    """

    structure: str
    number: Statistic
    priority: float = 1.0

    def term(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """Value and gradient."""
        value, slope = self.number.of(dose, share)
        return self.priority * value, self.priority * slope


@dataclass(frozen=True)
class AtMost:
    """Square of what a number of the dose has above a limit.

    Parameters
    ----------
    structure
        Name of the region.
    number
        Which number of its dose.
    dose_gy
        The limit (Gy in one fraction).
    priority
        Factor of this term in the sum.
    """

    structure: str
    number: Statistic
    dose_gy: float
    priority: float = 1.0

    def term(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """Value and gradient."""
        value, slope = self.number.of(dose, share)
        excess = max(value - self.dose_gy, 0.0)
        return self.priority * excess**2, 2 * self.priority * excess * slope


@dataclass(frozen=True)
class AtLeast:
    """Square of what a number of the dose lacks to a limit; parameters as in :class:`AtMost`."""

    structure: str
    number: Statistic
    dose_gy: float
    priority: float = 1.0

    @property
    def needs(self) -> tuple[float, float]:
        """Some of the structure."""
        return self.dose_gy, 0.0

    def term(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """Value and gradient."""
        value, slope = self.number.of(dose, share)
        lack = min(value - self.dose_gy, 0.0)
        return self.priority * lack**2, 2 * self.priority * lack * slope


@dataclass(frozen=True)
class MaxDvh:
    """Squared overdose of all but the hottest part: the dose at a volume shall be at most a limit.

    Wu, Mohan, Med. Phys. 27, 701 (2000): points between the limit and the dose at the volume pay. The
    point on the border pays for the part of it that lies beyond the volume, so that a point of weight 2
    is two points. Not convex: which points are let off follows from the dose.

    Parameters
    ----------
    structure
        Name of the region.
    dose_gy
        The limit (Gy in one fraction).
    percent
        Share of the volume (%) that may have more; with 0 this is ``SquaredOverdose``.
    priority
        Factor of this term in the sum.
    """

    structure: str
    dose_gy: float
    percent: float
    priority: float = 1.0

    def __post_init__(self) -> None:
        _expect_volume(self.percent)

    def term(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """Value and gradient."""
        paying = share - extreme(dose, share, self.percent / 100, hottest=True)
        return squared((dose - self.dose_gy).clamp(min=0), paying, self.priority)


@dataclass(frozen=True)
class MinDvh:
    """Squared underdose of all but the coldest part: the dose at a volume shall be at least a limit.

    Parameters as in :class:`MaxDvh`; ``percent`` of the volume shall have the dose, and with 100 this
    is ``SquaredUnderdose``.
    """

    structure: str
    dose_gy: float
    percent: float
    priority: float = 1.0

    def __post_init__(self) -> None:
        _expect_volume(self.percent)

    @property
    def needs(self) -> tuple[float, float]:
        """As much of the structure as shall have the dose."""
        return self.dose_gy, self.percent / 100

    def term(self, dose: Dose, share: Dose) -> tuple[float, Dose]:
        """Value and gradient."""
        paying = share - extreme(dose, share, 1 - self.percent / 100, hottest=False)
        return squared((dose - self.dose_gy).clamp(max=0), paying, self.priority)


def extreme(dose: Dose, share: Dose, volume: float, *, hottest: bool) -> Dose:
    """The part of each point's share that lies in the hottest or coldest ``volume`` (0..1), which it sums to.

    The point on the border is divided. Of equal doses the first come first.
    """
    order = torch.argsort(dose, descending=hottest, stable=True)
    own = share[order]
    # Summed in double: a hundred thousand shares in single precision miss the border by a point or two.
    before = own.double().cumsum(0) - own.double()
    taken = torch.empty_like(share)
    taken[order] = torch.minimum((volume - before).clamp(min=0).to(own), own)
    return taken


def _expect_part(percent: float) -> None:
    if not 0 < percent <= 100:
        raise ValueError(f"expected a part of more than 0 and at most 100 % of the volume, got {percent:g} %")


def _expect_volume(percent: float) -> None:
    if not 0 <= percent <= 100:
        raise ValueError(f"expected a volume of 0 to 100 %, got {percent:g} %")
