"""Plans that hold when the patient lies elsewhere or tissue is denser: expected value and worst case."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from .fluence import Progress, Result, Weights, minimise, optimise_fluence
from .objectives import Dose, Objective, prepare
from .uncertain import Regions, Uncertain, adjoint_all, apply_all, regions_in

# Temperatures of the smooth maximum, as shares of the worst value where each stage begins. The last
# leaves at most 0.005 ln 9 = 1.1 % between the smooth and the true worst case of nine scenarios.
_TEMPERATURES = (0.1, 0.02, 0.005)

Part = Float[Tensor, " _"]  # the doses of one scenario


class Aggregate(StrEnum):
    """What of the scenarios' objectives is minimised."""

    EXPECTED = "expected value"
    WORST = "worst case"


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
