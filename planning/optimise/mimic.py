"""Plans that mimic a dose: what was predicted for a patient, or what another plan reached.

Voxels and histograms of a reference dose become terms, fluence is searched for these, leaves are shaped after
it and monitor units are corrected on the dose as it is calculated. After McIntosh et al., "Fully automated
treatment planning for head and neck radiotherapy using a voxel-based dose prediction and dose mimicking
method", Phys. Med. Biol. 62, 5926 (2017). Where reference and physics disagree the prescription and the goals
win: they are terms of their own, with the priorities that a plan without a reference gives them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from imaging.volume import Quantity, Volume
from imaging.warp import sample
from planning.check.consistent import expect_consistent
from planning.dose.bixel_dose import CUTOFF
from planning.goals import Goal
from planning.plan import Plan, Prescription

from .from_goals import Sample, anchored, shells, terms_of
from .making import Report, Task, made_for
from .objectives import Objective
from .settings import Settings
from .voxelwise import Mimic, MimicDvh


@dataclass(frozen=True)
class Likeness:
    """How closely a reference is followed.

    Parameters
    ----------
    voxels
        Priority of dose above the reference, voxel by voxel, in organs and around the target.
    histograms
        Priority of histograms of organs above the reference's.
    under
        Factor of dose below the reference around the target, against dose above it.
    share
        Of the points that a plan without a reference looks at in organs and around the target: a reference
        tells each what it shall receive, so that fewer do; of the target all are needed.

    Raises
    ------
    ValueError
        If a number is negative, or the share not in (0, 1].
    """

    voxels: float = 2.0
    histograms: float = 8.0
    under: float = 0.0
    share: float = 0.15

    def __post_init__(self) -> None:
        if min(self.voxels, self.histograms, self.under) < 0 or not 0 < self.share <= 1:
            raise ValueError("expected priorities of 0 or more and a share of points in (0, 1], got others")


def plan_mimicking(task: Task, reference: Volume, likeness: Likeness | None = None) -> tuple[Plan, Report]:
    """A plan whose dose is as good as a reference, as far as physics and goals allow.

    Parameters
    ----------
    task
        What it is made for and with; its goals win over the reference.
    reference
        Total dose (Gy) on any grid that covers the patient; beyond it nothing is known, and 0 wanted.
    likeness
        How closely it is followed.

    Raises
    ------
    ValueError
        If the reference is no dose, or gives the target none, or as
        :func:`planning.optimise.automatic.plan_automatically`.
    MemoryError
        As there.
    """
    chosen = likeness or Likeness()

    def aim(drawn: Sample) -> tuple[Objective, ...]:
        return mimicking(reference, task.goals, drawn, task.target, task.prescription, chosen)

    return made_for(task, aim, chosen.share, CUTOFF)


def quickly(settings: Settings) -> Settings:
    """Settings of a plan that mimics: a reference tells what is within reach, fewer rounds look for it."""
    return replace(
        settings,
        n_segments=50,
        leaf_iterations=30,
        n_rounds=1,
        max_iterations=30,
        n_presses=0,
        n_corrections=2,
    )


def mimicking(
    reference: Volume,
    goals: Sequence[Goal],
    drawn: Sample,
    target: str,
    prescription: Prescription,
    likeness: Likeness,
) -> tuple[Objective, ...]:
    """Terms (in Gy of one fraction): the prescription's, those of goals, and those of a reference dose.

    Parameters
    ----------
    reference
        Total dose (Gy).
    goals
        What is asked, whatever the reference says.
    drawn
        The points.
    target
        Name of the planning target, which is anchored at its prescription rather than at the reference.
    prescription
        Dose and fractions.
    likeness
        How closely the reference is followed.

    Raises
    ------
    ValueError
        If the reference is no dose, or gives the target none, or two goals contradict each other.
    """
    expect_consistent(goals, prescription, drawn.volumes_cc)
    points = torch.from_numpy(drawn.points).float()
    dose = sample(reference.expect(Quantity.DOSE).data.float(), reference.grid, points)[0]
    if not float(dose[drawn.regions[target]].mean()) > 0:
        raise ValueError("expected a reference dose in the target, got none; predict it for this patient")
    wanted = dose / prescription.n_fractions
    terms: list[Objective] = [*anchored(target, prescription), *terms_of(goals, drawn, target, prescription)]
    around = shells(drawn)
    for name, inside in drawn.regions.items():
        if name == target:
            continue
        under = likeness.under if name in around else 0.0
        terms.append(Mimic(name, wanted[inside], 1.0, under, likeness.voxels))
        if name not in around:
            terms.append(MimicDvh(name, wanted[inside], priority=likeness.histograms))
    return tuple(terms)
