"""Plans that hold when the patient lies elsewhere or tissue is denser: expected value and worst case."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from imaging.shapes import Points
from imaging.volume import Volume
from planning.beams import Beam
from planning.dose.bixel_dose import CUTOFF
from planning.dose.bixels import Bixels
from planning.dose.influence import Influence, adjoint, apply, influence
from planning.machine import Machine
from planning.scenarios import Scenario, expect_scenarios, perturbed, shifted

from .fluence import Progress, Result, Weights, minimise, optimise_fluence
from .objectives import Dose, Objective, prepare

# Temperatures of the smooth maximum, as shares of the worst value where each stage begins. The last
# leaves at most 0.005 ln 9 = 1.1 % between the smooth and the true worst case of nine scenarios.
_TEMPERATURES = (0.1, 0.02, 0.005)

Regions = Mapping[str, Integer[Tensor, " _"]]
Part = Float[Tensor, " _"]  # the doses of one scenario


class Aggregate(StrEnum):
    """What of the scenarios' objectives is minimised."""

    EXPECTED = "expected value"
    WORST = "worst case"


@dataclass(frozen=True, eq=False)
class Uncertain:
    """Dose of every bixel in every scenario, at the points where it counts there.

    Doses of all scenarios follow one another in one vector, the plan as it is first.

    Parameters
    ----------
    scenarios
        The plan as it is, and what may be otherwise.
    matrices
        The influence in each scenario; the first is at all points.
    places
        For each scenario, which points its rows stand for.
    robust
        Structures whose terms count in every scenario; those of all others count as planned.
    """

    scenarios: tuple[Scenario, ...]
    matrices: tuple[Influence, ...]
    places: tuple[Integer[Tensor, " _"], ...]
    robust: frozenset[str]

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each scenario's doses begin in the vector, and their end."""
        ends = [0]
        for place in self.places:
            ends.append(ends[-1] + len(place))
        return tuple(ends)


def influences(
    scenarios: Sequence[Scenario],
    beams: Sequence[Beam],
    bixels: Sequence[Bixels],
    density: Volume,
    points: Points,
    regions: Regions,
    robust: Collection[str],
    machine: Machine,
    *,
    deviation: Volume | None = None,
    cutoff: float = CUTOFF,
    progress: Progress | None = None,
) -> Uncertain:
    """The influence in every scenario.

    The plan as it is is computed at all points, every other scenario only in the robust structures. All
    are kept: S scenarios cost 1 + (S - 1) r times the memory and the time of one influence matrix, where
    r is the share of its entries that lie in the robust structures (a third for a brain tumour with its
    goals where only the target is robust).

    Parameters
    ----------
    scenarios
        The plan as it is first.
    beams, bixels, density, points, machine, cutoff
        As :func:`planning.dose.influence.influence` takes them.
    regions
        For each structure, which points belong to it.
    robust
        Structures whose terms shall count in every scenario.
    deviation
        One standard deviation of the density; needed where a scenario has an error of it.
    progress
        Told the share that is done, 0..1.

    Raises
    ------
    ValueError
        If the plan as it is does not come first, a robust structure has no point, or for what
        ``influence`` or :func:`planning.scenarios.perturbed` refuses.
    """
    told = expect_scenarios(scenarios)
    missing = sorted(name for name in robust if name not in regions)
    if missing or not robust:
        raise ValueError(
            f"expected points in every robust structure, got none in {', '.join(missing) or 'none named'}; "
            "contour it, or leave it out"
        )
    inside = torch.cat([regions[name] for name in sorted(robust)]).unique()
    places = (torch.arange(len(points)), *(inside for _ in told[1:]))
    matrices = []
    for n, (scenario, place) in enumerate(zip(told, places, strict=True)):
        matrices.append(
            influence(
                shifted(beams, scenario),
                bixels,
                perturbed(density, scenario, deviation),
                points[place.numpy()],
                machine,
                cutoff=cutoff,
                progress=progress if n == 0 else None,
            )
        )
        if progress is not None and len(told) > 1:
            progress("influence of the scenarios", (n + 1) / len(told))
    return Uncertain(told, tuple(matrices), places, frozenset(robust))


def only_as_planned(matrix: Influence) -> Uncertain:
    """One influence matrix as the only scenario."""
    return Uncertain((Scenario("as planned"),), (matrix,), (torch.arange(matrix.n_voxels),), frozenset())


def apply_all(uncertain: Uncertain, weights: Float[Tensor, " bixels"]) -> Float[Tensor, " all_points"]:
    """Dose of bixel weights in all scenarios (Gy)."""
    return torch.cat([apply(matrix, weights) for matrix in uncertain.matrices])


def adjoint_all(uncertain: Uncertain, gradient: Float[Tensor, " all_points"]) -> Float[Tensor, " bixels"]:
    """Transpose of :func:`apply_all`."""
    parts = gradient.split([len(place) for place in uncertain.places])
    total = adjoint(uncertain.matrices[0], parts[0])
    for matrix, part in zip(uncertain.matrices[1:], parts[1:], strict=True):
        total = total + adjoint(matrix, part.contiguous())
    return total


def regions_in(uncertain: Uncertain, regions: Regions, n: int) -> dict[str, Integer[Tensor, " _"]]:
    """For each structure that scenario ``n`` looks at, which of its doses belong to it, in their order."""
    if n == 0:
        return dict(regions)
    seen = uncertain.places[n]
    return {name: torch.searchsorted(seen, regions[name]) for name in uncertain.robust}


def values_of(
    uncertain: Uncertain, objectives: Sequence[Objective], regions: Regions, like: Tensor
) -> Callable[[Dose], tuple[list[float], list[Part], float, Part]]:
    """The robust terms of every scenario and the other terms as planned, with their gradients.

    Parameters
    ----------
    uncertain
        The scenarios.
    objectives
        The terms (Gy in one fraction).
    regions
        For each structure, which points belong to it.
    like
        Any tensor of the type and on the device that doses will have.

    Returns
    -------
    Callable
        From the doses of all scenarios to the robust terms' value and gradient in each, and the value and
        gradient of the others.
    """
    alone = len(uncertain.scenarios) == 1
    firm = [o for o in objectives if o.structure in uncertain.robust and not alone]
    rest = [o for o in objectives if o.structure not in uncertain.robust or alone]
    in_each = [
        prepare(firm, regions_in(uncertain, regions, n), like=like) for n in range(len(uncertain.scenarios))
    ]
    as_planned = prepare(rest, regions, like=like)
    sizes = [len(place) for place in uncertain.places]

    def values(dose: Dose) -> tuple[list[float], list[Part], float, Part]:
        parts = dose.split(sizes)
        found = [one(part) for one, part in zip(in_each, parts, strict=True)]
        value, gradient = as_planned(parts[0])
        return [v for v, _ in found], [g for _, g in found], value, gradient

    return values


def robust_objective(
    uncertain: Uncertain,
    objectives: Sequence[Objective],
    regions: Regions,
    aggregate: Aggregate,
    temperature: float,
    *,
    like: Tensor,
) -> Callable[[Dose], tuple[float, Dose]]:
    """The expected value or the smooth worst case of the scenarios' objectives, by the doses of all.

    With f_s the objective in scenario s, the expected value is Σ p_s f_s and the worst case max f_s
    (minimax: Fredriksson, Forsgren, Hårdemark, Med. Phys. 38, 1672 (2011)), smoothed to T ln Σ exp(f_s/T),
    which is more by at most T ln S. Both are convex where the terms are.

    Parameters
    ----------
    uncertain, objectives, regions, like
        As in :func:`values_of`.
    aggregate
        Which of the two.
    temperature
        T, in units of the objective; 0 for the worst case itself, whose gradient is that of one scenario.
    """
    values = values_of(uncertain, objectives, regions, like)
    likely = torch.tensor([scenario.probability for scenario in uncertain.scenarios], dtype=torch.float64)

    def objective(dose: Dose) -> tuple[float, Dose]:
        firm, slopes, value, slope = values(dose)
        total, shares = _aggregated(torch.tensor(firm, dtype=torch.float64), likely, aggregate, temperature)
        parts = [share * one for share, one in zip(shares.tolist(), slopes, strict=True)]
        parts[0] = parts[0] + slope
        return total + value, torch.cat(parts)

    return objective


def optimise_robustly(
    uncertain: Uncertain,
    objectives: Sequence[Objective],
    regions: Regions,
    aggregate: Aggregate = Aggregate.WORST,
    *,
    start: Weights | None = None,
    max_iterations: int = 200,
    progress: Progress | None = None,
) -> Result:
    """Bixel weights of one fraction with the least expected or worst objective of the scenarios.

    The search begins at the best weights of the plan as it is. The worst case is searched at falling
    temperatures, each stage from the last one's end; its result is within T ln S of smoothing, with T
    0.5 % of the worst value where the last stage began.

    Parameters
    ----------
    uncertain
        The influence of every scenario.
    objectives
        The terms (Gy in one fraction).
    regions
        For each structure, its points; overlaps resolved beforehand.
    aggregate
        Expected value or worst case.
    start
        Where to begin, shape ``(bixels,)``; the best for the plan as it is if None.
    max_iterations
        Iterations of each stage at most.
    progress
        Told the share of the iterations done.

    Returns
    -------
    Result
        Its value is the expected value or the true worst case, not the smooth one; its history is that of
        the smooth one.

    Raises
    ------
    ValueError
        If no term is about a robust structure, or for what ``optimise_fluence`` refuses.
    """
    if len(uncertain.scenarios) == 1:
        return optimise_fluence(
            uncertain.matrices[0],
            objectives,
            regions,
            start=start,
            max_iterations=max_iterations,
            progress=progress,
        )
    if not any(o.structure in uncertain.robust for o in objectives):
        raise ValueError(
            f"expected terms about {', '.join(sorted(uncertain.robust))}, which shall be robust, got none"
        )
    if start is None:
        start = optimise_fluence(
            uncertain.matrices[0], objectives, regions, max_iterations=max_iterations, progress=progress
        ).weights
    worst = robust_objective(uncertain, objectives, regions, aggregate, 0.0, like=start)
    history: tuple[float, ...] = ()
    for share in _TEMPERATURES if aggregate is Aggregate.WORST else (0.0,):
        temperature = share * worst(apply_all(uncertain, start))[0]
        found = minimise(
            lambda w: apply_all(uncertain, w),
            lambda g: adjoint_all(uncertain, g),
            robust_objective(uncertain, objectives, regions, aggregate, temperature, like=start),
            start,
            max_iterations=max_iterations,
            progress=progress,
        )
        start, history = found.weights, history + found.history
    value = worst(apply_all(uncertain, start))[0]
    return replace(found, value=value, history=history)


def scenario_values(
    uncertain: Uncertain, objectives: Sequence[Objective], regions: Regions, weights: Weights
) -> tuple[float, ...]:
    """The objective of bixel weights in each scenario: robust terms there, the others as planned."""
    firm, _, value, _ = values_of(uncertain, objectives, regions, weights)(apply_all(uncertain, weights))
    return tuple(one + value for one in firm)


def _aggregated(
    values: Float[Tensor, " scenarios"],
    likely: Float[Tensor, " scenarios"],
    aggregate: Aggregate,
    temperature: float,
) -> tuple[float, Float[Tensor, " scenarios"]]:
    """The aggregate of the scenarios' values and its slope by each of them."""
    if aggregate is Aggregate.EXPECTED:
        return float((likely * values).sum()), likely
    if temperature > 0 and math.isfinite(temperature):
        smooth = temperature * torch.logsumexp(values / temperature, dim=0)
        return float(smooth), torch.softmax(values / temperature, dim=0)
    shares = torch.zeros_like(values)
    shares[int(values.argmax())] = 1.0
    return float(values.max()), shares
