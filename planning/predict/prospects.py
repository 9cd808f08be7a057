"""Which goals are within reach, by a dose that was foretold: known before anything is optimised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from imaging.volume import Quantity, Volume
from planning.check.dvh import histograms_at
from planning.check.judge import GoalResult, judge
from planning.check.parts import Parts
from planning.goals import Comparison, Goal
from planning.plan import Prescription


class Reach(StrEnum):
    """What a foretold dose says of a goal."""

    WITHIN = "within reach"
    DOUBTFUL = "doubtful"
    OUT = "out of reach"


@dataclass(frozen=True)
class Prospect:
    """A goal and what is to be expected of it.

    Parameters
    ----------
    goal
        What is asked.
    value
        By the foretold dose, in ``unit``.
    best, worst
        If the dose is off by so many standard deviations everywhere, for the goal's better and worse.
    limit, unit
        As :class:`planning.check.judge.GoalResult` has them.
    reach
        Within reach if the worst meets it, out of reach if the best does not.
    """

    goal: Goal
    value: float
    best: float
    worst: float
    limit: float
    unit: str
    reach: Reach

    @property
    def words(self) -> str:
        """A sentence about it."""
        low, high = sorted((self.best, self.worst))
        return (
            f"{self.goal.structure} {self.goal.text} is {self.reach}: {self.value:.1f} {self.unit} foretold "
            f"({low:.1f} to {high:.1f})."
        )


def prospects(
    goals: Sequence[Goal],
    dose: Volume,
    sigma: Volume,
    parts: Mapping[str, Parts],
    prescription: Prescription,
    n_sigmas: float = 2.0,
) -> tuple[Prospect, ...]:
    """What is to be expected of each goal whose structure the patient has.

    Standard deviations are of networks and mirror images, which err together in part: a dose that is off by
    them everywhere at once is a cautious band, not a confidence interval.

    Parameters
    ----------
    goals
        What is asked.
    dose, sigma
        Foretold total dose and its standard deviation (Gy), on one grid.
    parts
        Of the patient's structures, by name (:func:`planning.check.dvh.parts_of`).
    prescription
        What percentages refer to.
    n_sigmas
        How far off the dose may be.

    Raises
    ------
    ValueError
        If one of them is no dose, or they lie on two grids.
    """
    if dose.expect(Quantity.DOSE).grid != sigma.expect(Quantity.DOSE).grid:
        raise ValueError("expected dose and standard deviation on one grid, got two; predict both together")
    off = n_sigmas * sigma.data
    low = replace(dose, data=(dose.data - off).clamp(min=0))
    high = replace(dose, data=dose.data + off)
    middle, least, most = (judge(goals, histograms_at(one, parts), prescription) for one in (dose, low, high))
    return tuple(
        _prospect(*three) for three in zip(middle, least, most, strict=True) if three[0].met is not None
    )


def _prospect(middle: GoalResult, least: GoalResult, most: GoalResult) -> Prospect:
    at_most = middle.goal.comparison is Comparison.AT_MOST
    best, worst = (least, most) if at_most else (most, least)
    reach = Reach.WITHIN if worst.met else Reach.DOUBTFUL if best.met else Reach.OUT
    value, better, poorer = (0.0 if one.value is None else one.value for one in (middle, best, worst))
    return Prospect(middle.goal, value, better, poorer, middle.limit, middle.unit, reach)
