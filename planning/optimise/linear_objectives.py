"""What the linear models of OpenKBP-Opt ask of a dose: planning objectives, all to be small.

Babier et al., Phys. Med. Biol. 67, 185012 (2022).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float, Integer
from torch import Tensor

# Doses that the mean excess over is asked of: shares of an organ's greatest predicted dose, and of a
# target's prescription, where 1 is also what the mean lack is asked below.
_ORGAN_LEVELS = (0.975, 0.9, 0.75, 0.5, 0.25)
_TARGET_LEVEL = 1.05

Doses = Float[np.ndarray, " n"]


class Kind(StrEnum):
    """What an objective asks of a structure's dose; all are to be small."""

    MEAN = "mean"
    MAXIMUM = "maximum"
    EXCESS = "mean excess over"
    LACK = "mean lack below"


@dataclass(frozen=True)
class Asked:
    """One objective of a structure.

    Parameters
    ----------
    structure
        Name of the region.
    kind
        What is asked.
    level
        The dose (Gy) that excess or lack counts from.
    """

    structure: str
    kind: Kind
    level: float = 0.0

    def value(self, dose: Doses) -> float:
        """Of the dose (Gy) of the structure's points."""
        match self.kind:
            case Kind.MEAN:
                return float(dose.mean())
            case Kind.MAXIMUM:
                return float(dose.max())
            case Kind.EXCESS:
                return float(np.maximum(dose - self.level, 0).mean())
            case Kind.LACK:
                return float(np.maximum(self.level - dose, 0).mean())


def objectives_of(
    regions: Mapping[str, Integer[Tensor, " _"]], reference: Doses, prescriptions: Mapping[str, float]
) -> tuple[Asked, ...]:
    """The paper's objectives: seven of each organ or ring, three of each target.

    Parameters
    ----------
    regions
        For each structure, its points; those without any are passed over.
    reference
        Predicted dose (Gy) at all points, shape ``(n,)``.
    prescriptions
        Dose (Gy) of each target; regions that are not named here are organs.
    """
    asked: list[Asked] = []
    for name, inside in regions.items():
        if len(inside) == 0:
            continue
        if name in prescriptions:
            dose = prescriptions[name]
            asked.append(Asked(name, Kind.MAXIMUM))
            asked.append(Asked(name, Kind.EXCESS, _TARGET_LEVEL * dose))
            asked.append(Asked(name, Kind.LACK, dose))
        else:
            greatest = float(reference[inside.numpy()].max())
            asked += [Asked(name, Kind.MEAN), Asked(name, Kind.MAXIMUM)]
            asked += [Asked(name, Kind.EXCESS, share * greatest) for share in _ORGAN_LEVELS]
    return tuple(asked)
