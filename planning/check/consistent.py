"""Whether goals can be met together by any dose at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from planning.goals import Comparison, Goal, parts, same_name
from planning.plan import Prescription

from .judge import limit_of


@dataclass(frozen=True)
class _Bound:
    """A goal as a bound on the dose that a volume gets at least, or on the mean dose.

    ``volume`` is in ``unit``, % of the structure or cc; it is None for the mean dose. ``below`` says that
    the dose must be less in any larger volume: a volume at most is that, a dose at most is not.
    """

    goal: Goal
    dose_gy: float
    volume: float | None
    unit: str = "%"
    below: bool = False


def expect_consistent(
    goals: Sequence[Goal], prescription: Prescription, volumes_cc: Mapping[str, float] | None = None
) -> None:
    """Refuse goals that contradict each other: no dose distribution meets both.

    The dose that a volume gets at least never rises with the volume, whatever the plan. So a dose asked
    for in a volume must be allowed in every smaller one, and the mean is at least the share of a volume
    times its dose. Goals are compared within a structure, by its name; where structures overlap is
    not looked at.

    Parameters
    ----------
    goals
        What is asked.
    prescription
        What percentages refer to, and the fractions of an EQD2.
    volumes_cc
        Volumes of the structures (cm³): with them, goals on cubic centimetres and on percent are
        compared too.

    Raises
    ------
    ValueError
        If two goals contradict each other; it names both.
    """
    bounds = [_bound(goal, prescription, volumes_cc or {}) for goal in goals]
    lower = [bound for bound in bounds if bound.goal.comparison is Comparison.AT_LEAST]
    upper = [bound for bound in bounds if bound.goal.comparison is Comparison.AT_MOST]
    for low, high in product(lower, upper):
        if same_name(low.goal.structure, high.goal.structure) and _contradict(low, high):
            raise ValueError(
                f"expected goals that one dose can meet, got {_named(low)} and {_named(high)}; "
                "change one of them"
            )


def _bound(goal: Goal, prescription: Prescription, volumes_cc: Mapping[str, float]) -> _Bound:
    kind, number = parts(goal.metric)
    if kind == "Dmean":
        return _Bound(goal, limit_of(goal, prescription), None)
    if kind.startswith("V"):
        level = number if kind == "VGy" else number / 100 * prescription.dose_gy
        volume, unit, dose = goal.limit, goal.unit, level
    else:
        volume = {"Dmax": 0.0, "Dmin": 100.0}.get(kind, number)
        unit, dose = "cc" if kind == "Dcc" else "%", limit_of(goal, prescription)
    whole = [cc for name, cc in volumes_cc.items() if same_name(name, goal.structure)]
    if unit == "cc" and len(whole) == 1 and whole[0] > 0:
        # The dose in more than the whole structure is its maximum, as the histogram has it.
        share = 100 * volume / whole[0]
        volume, unit = (0.0 if kind == "Dcc" and share >= 100 else share), "%"
    return _Bound(goal, dose, volume, unit, below=kind.startswith("V"))


def _contradict(low: _Bound, high: _Bound) -> bool:
    if high.volume is None:
        least = _least_mean(low)
        return least > high.dose_gy + _tiny(least)
    if low.volume is None:
        # The mean is at most the maximum; a larger volume bounds it from above only together with that.
        return high.volume == 0 and low.dose_gy > high.dose_gy + _tiny(low.dose_gy)
    if not _no_larger(high, low):
        return False
    if high.below and high.unit == low.unit and high.volume < low.volume - _tiny(low.volume):
        return low.dose_gy >= high.dose_gy - _tiny(low.dose_gy)
    return low.dose_gy > high.dose_gy + _tiny(low.dose_gy)


def _least_mean(low: _Bound) -> float:
    """The least mean dose that a lower bound leaves: nothing where its volume is none."""
    if low.volume is None:
        return low.dose_gy
    return low.dose_gy * min(low.volume, 100.0) / 100 if low.unit == "%" else 0.0


def _no_larger(one: _Bound, other: _Bound) -> bool:
    """Whether a volume is surely no larger than another, in a structure of any size."""
    if one.volume is None or other.volume is None:
        return False
    if one.unit == other.unit:
        return one.volume <= other.volume + _tiny(other.volume)
    return one.volume == 0 or (other.unit == "%" and other.volume >= 100)


def _tiny(value: float) -> float:
    """What rounding may make of a value."""
    return 1e-9 * (1 + abs(value))


def _named(bound: _Bound) -> str:
    return f"{bound.goal.structure} {bound.goal.text}"
