"""How a plan fares when the patient lies or is shaped otherwise or is denser: its goals in every scenario."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from imaging.grid import Grid
from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.displacement import true_places
from planning.dose.forward import calculate
from planning.goals import Comparison, Goal
from planning.machine import Machine
from planning.plan import Plan, Prescription
from planning.scenarios import Scenario, expect_scenarios, perturbed, shifted

from .dvh import Dvh, expect_frame, histograms_at, parts_of, share_at_dose
from .envelope import Envelope, widened
from .judge import GoalResult, judge
from .parts import Parts

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Band:
    """A goal held against the doses of all scenarios.

    Parameters
    ----------
    goal
        What is asked.
    limit
        The limit that it was held against, in ``unit``.
    unit
        Gy, % of the volume, or cc.
    nominal
        Value as planned; None where it was not evaluated.
    mean
        Expected value: the mean over the scenarios, weighted by their probability.
    worst
        The value that is furthest on the wrong side, and ``where``: the scenario of it.
    met
        Whether the goal is met in every scenario; None where it was not evaluated.
    reason
        Why it was not evaluated.
    """

    goal: Goal
    limit: float
    unit: str
    nominal: float | None = None
    mean: float | None = None
    worst: float | None = None
    where: str = ""
    met: bool | None = None
    reason: str = ""


@dataclass(frozen=True)
class Coverage:
    """Share of a structure (%) that receives at least 95 % of the prescription."""

    structure: str
    nominal: float
    mean: float
    worst: float
    where: str


@dataclass(frozen=True, eq=False)
class Robustness:
    """A plan under scenarios.

    Parameters
    ----------
    scenarios
        The plan as it is, and what may be otherwise.
    bands
        Every goal.
    coverage
        V95% of the targets.
    results
        For each scenario, every goal in it.
    envelopes
        For each structure, between what its histogram lies.
    """

    scenarios: tuple[Scenario, ...]
    bands: tuple[Band, ...]
    coverage: tuple[Coverage, ...]
    results: tuple[tuple[GoalResult, ...], ...]
    envelopes: Mapping[str, Envelope]


def robustness(
    plan: Plan,
    scenarios: Sequence[Scenario],
    density: Volume,
    structures: StructureSet,
    goals: Sequence[Goal],
    targets: Sequence[str],
    grid: Grid,
    machine: Machine,
    *,
    deviation: Volume | None = None,
    distortion: Volume | None = None,
    progress: Progress | None = None,
) -> Robustness:
    """The goals of a plan and the coverage of its targets in every scenario, on the dose of its segments.

    Each scenario costs one forward dose; memory holds the dose and the histograms of one, and curves.

    Parameters
    ----------
    plan
        Beams with control points and monitor units.
    scenarios
        The plan as it is first.
    density
        Relative electron density, zero outside the body.
    structures
        What the goals are about.
    goals
        What is asked.
    targets
        Structures whose coverage is told, usually the GTV and the CTV: a PTV holds a margin for the same
        errors already.
    grid
        Where to compute dose.
    machine
        The machine that the plan names.
    deviation
        One standard deviation of the density; needed where a scenario has an error of it.
    distortion
        Displacement (mm) by the MR scanner, tissue at x appearing at x + u(x); needed where a scenario has
        one.
    progress
        Told the scenarios done.

    Raises
    ------
    ValueError
        If the plan as it is does not come first, or for what :func:`planning.scenarios.perturbed` or
        :func:`planning.dose.forward.calculate` refuses.
    """
    told = expect_scenarios(scenarios)
    expect_frame(density, structures.frame)
    results, covered = [], []
    envelopes: dict[str, Envelope] = {}
    for dvhs in histograms_in(
        plan,
        told,
        density,
        parts_of(structures),
        grid,
        machine,
        deviation=deviation,
        distortion=distortion,
        progress=progress,
    ):
        results.append(judge(goals, dvhs, plan.prescription))
        covered.append(
            [share_at_dose(dvhs[t], 0.95 * plan.prescription.dose_gy) for t in targets if t in dvhs]
        )
        envelopes = widened(envelopes, dvhs)
    present = [t for t in targets if t in envelopes]
    return Robustness(
        told,
        tuple(_band([result[n] for result in results], told) for n in range(len(goals))),
        tuple(_coverage(name, [one[n] for one in covered], told) for n, name in enumerate(present)),
        tuple(results),
        envelopes,
    )


def histograms_in(
    plan: Plan,
    scenarios: Sequence[Scenario],
    density: Volume,
    parts: Mapping[str, Parts],
    grid: Grid,
    machine: Machine,
    *,
    deviation: Volume | None = None,
    distortion: Volume | None = None,
    progress: Progress | None = None,
) -> Iterator[dict[str, Dvh]]:
    """Histograms in each scenario, of structures by their parts, which lie where their tissue truly does.

    Parameters
    ----------
    parts
        What :func:`planning.check.dvh.parts_of` gives of the structures as they were drawn.
    plan, scenarios, density, grid, machine, deviation, distortion, progress
        As :func:`robustness` takes them.
    """
    given = doses(
        plan,
        scenarios,
        density,
        grid,
        machine,
        deviation=deviation,
        distortion=distortion,
        progress=progress,
    )
    for scenario, dose in zip(scenarios, given, strict=True):
        yield histograms_at(dose, _truly(parts, scenario, distortion))


def _truly(parts: Mapping[str, Parts], scenario: Scenario, distortion: Volume | None) -> Mapping[str, Parts]:
    """The parts where their tissue truly lies; each keeps the volume that was drawn."""
    if distortion is None or scenario.distortion == 0:
        return parts
    return {
        name: replace(one, points=true_places(one.points, distortion, scenario.distortion))
        for name, one in parts.items()
    }


def doses(
    plan: Plan,
    scenarios: Sequence[Scenario],
    density: Volume,
    grid: Grid,
    machine: Machine,
    *,
    deviation: Volume | None = None,
    distortion: Volume | None = None,
    progress: Progress | None = None,
) -> Iterator[Volume]:
    """Total dose (Gy) of a plan in each scenario, in the patient's coordinates; parameters as above.

    What a scanner displaced is back at its true place: structures have to be, too.
    """
    for n, scenario in enumerate(scenarios):
        moved = replace(plan, beams=shifted(plan.beams, scenario))
        yield calculate(moved, perturbed(density, scenario, deviation, distortion), grid, machine)
        if progress is not None:
            progress("dose of the scenarios", (n + 1) / len(scenarios))


def bands(
    goals: Sequence[Goal],
    dvhs: Sequence[Mapping[str, Dvh]],
    scenarios: Sequence[Scenario],
    prescription: Prescription,
) -> tuple[Band, ...]:
    """Every goal with its value as planned, on average and in the worst scenario.

    Parameters
    ----------
    goals
        What is asked.
    dvhs
        For each scenario, histograms (total dose, Gy) by structure.
    scenarios
        The plan as it is first.
    prescription
        What percentages refer to.
    """
    results = [judge(goals, one, prescription) for one in dvhs]
    return tuple(_band([result[n] for result in results], scenarios) for n in range(len(goals)))


def _band(results: Sequence[GoalResult], scenarios: Sequence[Scenario]) -> Band:
    """One goal through all scenarios; a goal that cannot be judged in one of them is not judged."""
    first = results[0]
    values = [result.value for result in results if result.value is not None]
    if len(values) < len(results):
        reason = next(result.reason for result in results if result.value is None)
        return Band(first.goal, first.limit, first.unit, reason=reason)
    worst = int(np.argmin(values) if first.goal.comparison is Comparison.AT_LEAST else np.argmax(values))
    return Band(
        first.goal,
        first.limit,
        first.unit,
        values[0],
        _expected(values, scenarios),
        values[worst],
        scenarios[worst].name,
        all(result.met for result in results),
    )


def _coverage(name: str, values: Sequence[float], scenarios: Sequence[Scenario]) -> Coverage:
    worst = int(np.argmin(values))
    return Coverage(name, values[0], _expected(values, scenarios), values[worst], scenarios[worst].name)


def _expected(values: Sequence[float], scenarios: Sequence[Scenario]) -> float:
    return sum(v * s.probability for v, s in zip(values, scenarios, strict=True))
