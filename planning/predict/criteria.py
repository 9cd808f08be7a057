"""Which clinical criteria of head and neck plans a dose satisfies, as OpenKBP-Opt counts them.

Babier et al., "OpenKBP-Opt: an international and reproducible evaluation of 76 knowledge-based planning
pipelines", Phys. Med. Biol. 67, 185012 (2022), and its published evaluation (ababier/open-kbp-opt): an
organ's dose is at most its limit, 99 % of a target gets 95 % of its prescription at least, and a target is
taken with all that have a higher prescription.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from imaging.shapes import Mask
from imaging.structures import StructureSet
from imaging.volume import Quantity, Volume

from .patient import prescribed
from .scores import metrics
from .site import Site, matched


@dataclass(frozen=True)
class Criterion:
    """One demand on a structure's dose.

    Parameters
    ----------
    structure
        Name, as OpenKBP has it.
    metric
        Of :func:`planning.predict.scores.metrics`.
    limit_gy
        What it is compared with.
    at_least
        Whether it is a target's, that wants so much, or an organ's, that bears no more.
    """

    structure: str
    metric: str
    limit_gy: float
    at_least: bool = False

    def met_by(self, value: float) -> bool:
        """Whether a value (Gy) satisfies it; the limit itself does."""
        return value >= self.limit_gy if self.at_least else value <= self.limit_gy


CRITERIA = (
    Criterion("Brainstem", "D0.1cc", 50.0),
    Criterion("SpinalCord", "D0.1cc", 45.0),
    Criterion("RightParotid", "Dmean", 26.0),
    Criterion("LeftParotid", "Dmean", 26.0),
    Criterion("Esophagus", "Dmean", 45.0),
    Criterion("Larynx", "Dmean", 45.0),
    Criterion("Mandible", "D0.1cc", 73.5),
    Criterion("PTV56", "D99", 53.2, at_least=True),
    Criterion("PTV63", "D99", 59.85, at_least=True),
    Criterion("PTV70", "D99", 66.5, at_least=True),
)


@dataclass(frozen=True)
class Judged:
    """What a dose makes of a criterion.

    Parameters
    ----------
    criterion
        The demand.
    value_gy
        Its metric of the dose.
    """

    criterion: Criterion
    value_gy: float

    @property
    def met(self) -> bool:
        """Whether it is satisfied."""
        return self.criterion.met_by(self.value_gy)


def judged_by_criteria(dose: Volume, structures: StructureSet, site: Site) -> tuple[Judged, ...]:
    """Every criterion whose structure the patient has.

    Parameters
    ----------
    dose
        Total dose (Gy), on the structures' grid.
    structures
        Targets with prescriptions, and organs; empty ones count for nothing.
    site
        Tells what structures are called otherwise.

    Raises
    ------
    ValueError
        If the dose lies on another grid or is not finite, or as :func:`planning.predict.site.matched`.
    """
    values = dose.expect(Quantity.DOSE).data[0].double().numpy()
    if dose.grid != structures.grid:
        raise ValueError("expected a dose on the structures' grid, got another; resample it")
    if not np.isfinite(values).all():
        raise ValueError("expected finite doses to judge, got others or none")
    names, volume = matched(site, structures), structures.grid.voxel_volume
    judged = []
    for criterion in CRITERIA:
        own = names.get(criterion.structure)
        if own is None or not bool(structures.mask(own).any()):
            continue
        inside = _with_higher(own, structures) if criterion.at_least else structures.mask(own)
        told = metrics(values[inside.numpy()], volume, target=criterion.at_least)
        judged.append(Judged(criterion, told[criterion.metric]))
    return tuple(judged)


def share_satisfied(patients: Iterable[tuple[Judged, ...]]) -> tuple[int, int]:
    """How many criteria of all patients together are satisfied, and of how many, as the paper pools them.

    Raises
    ------
    ValueError
        If there is no criterion.
    """
    every = [one.met for patient in patients for one in patient]
    if not every:
        raise ValueError("expected patients with structures that criteria ask about, got none")
    return sum(every), len(every)


def _with_higher(target: str, structures: StructureSet) -> Mask:
    """A target and all with a higher prescription: the margin between two has the lower one's."""
    doses = prescribed(structures)
    inside = structures.mask(target).clone()
    for name, dose in doses.items():
        if dose > doses.get(target, np.inf):
            inside |= structures.mask(name)
    return inside
