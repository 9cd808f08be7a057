"""Organs spared beyond their goals: limits lowered below what was reached, as long as every goal is kept.

A planner who has met the goals goes on lowering what organs receive until the target would pay for it; the
dose is then what the patient's anatomy allows, not what a sheet of goals asks.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from planning.check.judge import GoalResult, judge
from planning.goals import Comparison, Goal, same_name
from planning.plan import Prescription

from .from_goals import Sample, terms_of
from .objectives import Objective
from .outlook import sampled
from .robust import Aggregate, optimise_robustly
from .uncertain import Uncertain, apply_all

_FACTOR = 0.8  # of what was reached, is asked for next
_AT_TARGET = 0.6  # of the prescription: an organ with as much lies at the target, which pays for it
_LEAST = 1.0  # Gy, or % of a volume: what is reached below is not pressed

Found = tuple[Tensor, tuple[Objective, ...], float]


def pressed(
    found: Found,
    goals: Sequence[Goal],
    uncertain: Uncertain,
    drawn: Sample,
    target: str,
    prescription: Prescription,
    *,
    n_rounds: int,
    priority: float = 10.0,
    aggregate: Aggregate = Aggregate.WORST,
    max_iterations: int = 60,
) -> Found:
    """A fluence that spares organs beyond their goals and misses none that the first one met.

    In each round every upper limit of an organ becomes 0.8 of what was reached, where that is less, as a term
    beside those of the goals; the search goes on from where it was. A round that loses a goal is given up:
    after the first such one organs at the target are left as they are, the second one ends it.

    Parameters
    ----------
    found
        Weights of bixels, terms and objective, as :func:`planning.optimise.raising.fluence_for` gives them.
    goals
        What is asked.
    uncertain
        The influence in every scenario; the first one decides.
    drawn
        The points that it is at.
    target
        Name of the planning target.
    prescription
        What percentages refer to, and the fractions.
    n_rounds
        Rounds at most.
    priority
        Of what is asked beyond goals; the target's terms have 100.
    aggregate, max_iterations
        As in :func:`planning.optimise.raising.fluence_for`.
    """
    best, near = found, False
    reached = _judged(found[0], goals, uncertain, drawn, prescription)
    met = {result.goal for result in reached if result.met}
    for _ in range(n_rounds):
        weights, terms, _ = best
        lower = [
            lowered(result) for result in reached if _is_pressed(result, target, prescription, near=near)
        ]
        if not lower:
            break
        more = terms_of(lower, drawn, target, prescription)
        tried = (*terms, *(replace(term, priority=priority) for term in more))
        new = optimise_robustly(
            uncertain, tried, drawn.regions, aggregate, start=weights, max_iterations=max_iterations
        )
        judged = _judged(new.weights, goals, uncertain, drawn, prescription)
        if met <= {result.goal for result in judged if result.met}:
            best, reached = (new.weights, tried, new.value), judged
        elif near:
            break
        else:
            near = True
    return best


def lowered(result: GoalResult) -> Goal:
    """The goal with a limit below what was reached, or as it is where that is stricter."""
    value = result.value if result.value is not None else result.limit
    limit = min(_FACTOR * value, result.limit)
    unit = result.goal.unit if result.goal.metric.startswith("V") else "Gy"
    return replace(result.goal, limit=limit, unit=unit, alpha_beta=None)


def _judged(
    weights: Tensor,
    goals: Sequence[Goal],
    uncertain: Uncertain,
    drawn: Sample,
    prescription: Prescription,
) -> tuple[GoalResult, ...]:
    dose = apply_all(uncertain, weights) * prescription.n_fractions
    return judge(goals, sampled(dose[: uncertain.matrices[0].n_voxels], drawn), prescription)


def _is_pressed(result: GoalResult, target: str, prescription: Prescription, *, near: bool) -> bool:
    """Whether an organ is pressed; once a goal was lost, not those that lie at the target."""
    dose = result.value if result.unit == "Gy" and result.value is not None else 0.0
    if near and dose > _AT_TARGET * prescription.dose_gy:
        return False
    return (
        result.value is not None
        and result.value > _LEAST
        and result.goal.comparison is Comparison.AT_MOST
        and not same_name(result.goal.structure, target)
    )
