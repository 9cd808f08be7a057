"""Which goal fails first: the least error of each kind at which a plan misses a goal that it met."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from planning.goals import Comparison
from planning.scenarios import Scenario, scaled

from .judge import GoalResult

# Multiples of an error at which goals are held, until one is missed.
MULTIPLES = (0.5, 1.0, 1.5, 2.0)
_HALVINGS = 4

Judged = tuple[GoalResult, ...]


@dataclass(frozen=True)
class ErrorKind:
    """One kind of error: the ways in which it comes, each alike in size.

    Parameters
    ----------
    name
        What it is called in reports.
    size
        Its size in ``unit``, in every one of the scenarios.
    unit
        Such as ``mm``.
    scenarios
        The ways; the plan as it is is none of them.
    most
        The greatest multiple of it that can be.

    Raises
    ------
    ValueError
        If there is no way, or one of them is the plan as it is.
    """

    name: str
    size: float
    unit: str
    scenarios: tuple[Scenario, ...]
    most: float = float("inf")

    def __post_init__(self) -> None:
        if not self.scenarios or any(scenario.nominal for scenario in self.scenarios):
            raise ValueError("expected one or more scenarios that differ from the plan as it is")


@dataclass(frozen=True)
class Miss:
    """A goal that the plan met and that an error takes away, with the value that it came to and where."""

    result: GoalResult
    scenario: str


@dataclass(frozen=True)
class Level:
    """One multiple of an error: the goals that it takes away, the furthest missed first."""

    multiple: float
    missed: tuple[Miss, ...]


@dataclass(frozen=True)
class FirstFailure:
    """What one kind of error takes away first.

    Parameters
    ----------
    kind
        The kind of error.
    levels
        What was looked at, by rising multiples.
    holds
        The greatest multiple below the first miss at which every goal that was met is still met.
    fails
        The least multiple at which one is missed; None where none is missed up to the last level.
    missed
        The goals that are missed there, the furthest missed first.
    """

    kind: ErrorKind
    levels: tuple[Level, ...]
    holds: float
    fails: float | None
    missed: tuple[Miss, ...]


def first_failure(
    kind: ErrorKind,
    nominal: Sequence[GoalResult],
    judged: Callable[[Scenario], Judged],
    multiples: Sequence[float] = MULTIPLES,
    halvings: int = _HALVINGS,
) -> FirstFailure:
    """The least size of an error at which a goal is missed that the plan as it is meets.

    Multiples are tried upwards until one takes a goal away; the gap below it is then halved. Only the ways
    that took a goal away are followed into the gap, so that a way that does harm at one size and none at a
    greater one may be overlooked between two multiples, not at them.

    Parameters
    ----------
    kind
        The error.
    nominal
        The goals in the plan as it is.
    judged
        Every goal in a scenario, in the same order.
    multiples
        Of the error, ascending.
    halvings
        How often the gap is halved.
    """
    levels: list[Level] = []
    holds = 0.0
    for multiple in _possible(multiples, kind.most):
        fails, ways = _level(kind.scenarios, multiple, nominal, judged)
        levels.append(fails)
        if fails.missed:
            break
        holds = multiple
    for _ in range(halvings if fails.missed else 0):
        middle, harmful = _level(ways, (holds + fails.multiple) / 2, nominal, judged)
        levels.append(middle)
        if middle.missed:
            fails, ways = middle, harmful
        else:
            holds = middle.multiple
    return FirstFailure(
        kind,
        tuple(sorted(levels, key=lambda level: level.multiple)),
        holds,
        fails.multiple if fails.missed else None,
        fails.missed,
    )


def as_json(found: FirstFailure) -> dict[str, object]:
    """The same as plain values, sizes in the error's unit."""
    size = found.kind.size
    return {
        "error": found.kind.name,
        "unit": found.kind.unit,
        "size": size,
        "holds_at": round(found.holds * size, 4),
        "fails_at": None if found.fails is None else round(found.fails * size, 4),
        "first": [_miss(miss) for miss in found.missed],
        "levels": [
            {
                "size": round(level.multiple * size, 4),
                "multiple": round(level.multiple, 4),
                "missed": [_miss(miss) for miss in level.missed],
            }
            for level in found.levels
        ],
    }


def _possible(multiples: Sequence[float], most: float) -> list[float]:
    """The multiples that can be, and the greatest that can where a greater one was asked for."""
    within = [multiple for multiple in multiples if multiple <= most]
    return within if len(within) == len(multiples) else [*within, most]


def _level(
    ways: Sequence[Scenario],
    multiple: float,
    nominal: Sequence[GoalResult],
    judged: Callable[[Scenario], Judged],
) -> tuple[Level, tuple[Scenario, ...]]:
    """What a multiple of an error takes away, and in which ways."""
    worst: dict[int, Miss] = {}
    harmful = []
    for way in ways:
        scenario = scaled(way, multiple)
        lost = [
            (n, result)
            for n, (before, result) in enumerate(zip(nominal, judged(scenario), strict=True))
            if before.met and result.met is False
        ]
        harmful += [way] * bool(lost)
        for n, result in lost:
            if n not in worst or _miss_by(result) > _miss_by(worst[n].result):
                worst[n] = Miss(result, scenario.name)
    missed = sorted(worst.values(), key=lambda miss: -_miss_by(miss.result))
    return Level(multiple, tuple(missed)), tuple(harmful)


def _miss_by(result: GoalResult) -> float:
    """By which share of its limit a goal is missed."""
    over = (result.value or 0.0) - result.limit
    return (over if result.goal.comparison is Comparison.AT_MOST else -over) / max(result.limit, 1e-6)


def _miss(miss: Miss) -> Mapping[str, object]:
    result = miss.result
    return {
        "structure": result.goal.structure,
        "goal": result.goal.text,
        "value": None if result.value is None else round(result.value, 3),
        "limit": round(result.limit, 3),
        "unit": result.unit,
        "scenario": miss.scenario,
    }
