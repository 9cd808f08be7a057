"""Which goals a dose meets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planning.goals import Comparison, Goal, parts, same_name
from planning.plan import Prescription

from .dvh import Dvh, dose_at_cc, dose_at_share, maximum, mean, minimum, share_at_dose

# A structure of which less lies on the dose grid is not judged.
_INSIDE_AT_LEAST = 0.99


@dataclass(frozen=True)
class GoalResult:
    """A goal held against a dose.

    Parameters
    ----------
    goal
        What was asked.
    value
        What was reached, in ``unit``; None where it was not evaluated.
    limit
        The limit that it was held against, in ``unit``; it differs from the goal's where that is an EQD2.
    unit
        Gy, % of the volume, or cc.
    met
        Whether it is met; None where it was not evaluated.
    reason
        Why it was not evaluated.
    """

    goal: Goal
    value: float | None
    limit: float
    unit: str
    met: bool | None
    reason: str = ""


def judge(
    goals: Sequence[Goal], dvhs: Mapping[str, Dvh], prescription: Prescription
) -> tuple[GoalResult, ...]:
    """Every goal with what the dose reached; a missing structure is never a goal met.

    Parameters
    ----------
    goals
        What is asked.
    dvhs
        Histograms (total dose, Gy) by structure.
    prescription
        What percentages refer to, and the fractions of an EQD2.
    """
    return tuple(_judge_one(goal, dvhs, prescription) for goal in goals)


def measure(goal: Goal, dvh: Dvh, prescription: Prescription) -> tuple[float, str]:
    """Value of a goal's metric in a histogram, with its unit (Gy, %, cc)."""
    kind, number = parts(goal.metric)
    if kind.startswith("V"):
        level = number if kind == "VGy" else number / 100 * prescription.dose_gy
        share = share_at_dose(dvh, level)
        return (share, "%") if goal.unit == "%" else (share / 100 * dvh.volume_cc, "cc")
    simple = {"Dmean": mean, "Dmax": maximum, "Dmin": minimum}
    if kind in simple:
        return simple[kind](dvh), "Gy"
    return (dose_at_share(dvh, number) if kind == "D%" else dose_at_cc(dvh, number)), "Gy"


def limit_of(goal: Goal, prescription: Prescription) -> float:
    """Limit of a goal as a physical quantity: Gy, % of the volume, or cc.

    A limit in EQD2 becomes the total dose D in n fractions that has it,
    D (D/n + α/β) / (2 + α/β) = EQD2 (Withers, Thames, Peters, Radiother. Oncol. 1, 187 (1983)),
    where that is lower. Fractions under 2 Gy would raise it; we keep the stricter number.
    """
    if goal.metric.startswith("V"):
        return goal.limit
    limit = goal.limit if goal.unit == "Gy" else goal.limit / 100 * prescription.dose_gy
    if goal.alpha_beta is None:
        return limit
    n, ab = prescription.n_fractions, goal.alpha_beta
    same_effect = n / 2 * (np.sqrt(ab**2 + 4 * limit * (2 + ab) / n) - ab)
    return min(limit, float(same_effect))


def as_json(results: Sequence[GoalResult]) -> list[dict[str, object]]:
    """Results as plain values: one dictionary a goal."""
    return [
        {
            "structure": result.goal.structure,
            "goal": result.goal.text,
            "priority": result.goal.priority,
            "value": None if result.value is None else round(result.value, 3),
            "limit": round(result.limit, 3),
            "unit": result.unit,
            "met": result.met,
            "status": {True: "met", False: "not met", None: "not evaluated"}[result.met],
            "reason": result.reason,
            "source": result.goal.source,
            "verified": result.goal.verified,
        }
        for result in results
    ]


def _judge_one(goal: Goal, dvhs: Mapping[str, Dvh], prescription: Prescription) -> GoalResult:
    limit = limit_of(goal, prescription)
    unit = goal.unit if goal.metric.startswith("V") else "Gy"
    found = [dvh for name, dvh in dvhs.items() if same_name(name, goal.structure)]
    if len(found) != 1:
        reason = f"{'no' if not found else 'more than one'} structure {goal.structure}"
        return GoalResult(goal, None, limit, unit, None, reason)
    if found[0].share_inside < _INSIDE_AT_LEAST:
        reason = f"only {100 * found[0].share_inside:.0f} % of the structure is on the dose grid"
        return GoalResult(goal, None, limit, unit, None, reason)
    value, unit = measure(goal, found[0], prescription)
    met = value >= limit if goal.comparison is Comparison.AT_LEAST else value <= limit
    return GoalResult(goal, value, limit, unit, bool(met))
