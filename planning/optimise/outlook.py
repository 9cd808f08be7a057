"""Goals as the optimiser's points see them, in every scenario: what a search steers by."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from planning.check.dvh import Dvh
from planning.check.judge import GoalResult
from planning.check.robust import Band, bands
from planning.goals import Goal
from planning.plan import Prescription

from .from_goals import Sample
from .uncertain import Uncertain, regions_in

_PRIORITIES = range(1, 5)


def sampled(dose: Tensor, drawn: Sample) -> Mapping[str, Dvh]:
    """Histograms of a dose (Gy) at the optimiser's points, for the structures that were drawn."""
    return {
        name: Dvh(np.sort(dose[inside].cpu().numpy().astype(np.float32)), drawn.volumes_cc[name])
        for name, inside in drawn.regions.items()
        if name in drawn.volumes_cc
    }


def sampled_in_all(uncertain: Uncertain, drawn: Sample, dose: Tensor) -> list[dict[str, Dvh]]:
    """For each scenario the histograms of all structures, by the doses (Gy) of all scenarios.

    A structure that is not robust has its histogram as planned in every scenario.
    """
    parts = dose.split([len(place) for place in uncertain.places])
    as_planned = dict(sampled(parts[0], drawn))
    return [
        {**as_planned, **sampled(part, replace(drawn, regions=regions_in(uncertain, drawn.regions, n)))}
        for n, part in enumerate(parts)
    ]


def bands_of(
    uncertain: Uncertain, drawn: Sample, dose: Tensor, goals: Sequence[Goal], prescription: Prescription
) -> tuple[Band, ...]:
    """The goals at the optimiser's points in all scenarios, by total doses (Gy) of all scenarios."""
    return bands(goals, sampled_in_all(uncertain, drawn, dose), uncertain.scenarios, prescription)


def unmet(found: Sequence[Band]) -> tuple[GoalResult, ...]:
    """The goals that are missed in any scenario, with their worst values."""
    return tuple(
        GoalResult(band.goal, band.worst, band.limit, band.unit, met=False)
        for band in found
        if band.met is False
    )


def rank(missed: Sequence[GoalResult]) -> tuple[int, ...]:
    """How many goals of each priority are missed, the first first: of several doses the least is best."""
    return tuple(sum(one.goal.priority == priority for one in missed) for priority in _PRIORITIES)
