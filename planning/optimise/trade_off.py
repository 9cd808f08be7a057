"""What one goal costs another: the front of a patient's fluences between two goals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from imaging.grid import Grid
from imaging.resample import resample
from imaging.structures import TARGETS, StructureSet
from imaging.volume import Volume
from planning.arrange import target_of
from planning.beams import Beam
from planning.check.judge import judge
from planning.density import covering as lattice
from planning.dose.bixel_dose import FULL_CUTOFF
from planning.dose.influence import adjoint, apply, influence
from planning.goals import Comparison, Goal, about, parse_goal, parts, same_name
from planning.machine import Machine
from planning.plan import Prescription

from .dose_volume import AtLeast, AtMost, Eud, HottestMean, Mean, Statistic
from .fluence import optimise_fluence
from .from_goals import Sample, objectives_for, sample
from .objectives import Objective, SquaredOverdose, SquaredUnderdose, evaluate, prepare
from .outlook import sampled
from .pareto import Front, navigate, sweep
from .reach import reaching

Progress = Callable[[str, float], None]

# At its own end of the front a goal counts this many times as much as all else together, in the plan
# where the search begins; its priority is at most the second number, for a goal that is met almost exactly.
_PUSH, _MOST_PRIORITY = 30.0, 1e4
# Of a volume this small (%) the dose is followed by an equivalent uniform dose of this exponent: smooth
# and convex, where the dose at a volume is neither.
_SMALL_PERCENT, _EXPONENT = 5.0, 12.0


@dataclass(frozen=True, eq=False)
class TradeOff:
    """A front between two goals, and what its fluences give.

    Parameters
    ----------
    goals
        The two.
    front
        Fluences between them; its metrics hold every goal's value.
    drawn
        The points that it was made on.
    doses
        Total dose of each node there (Gy), shape ``(nodes, points)``.
    """

    goals: tuple[Goal, Goal]
    front: Front
    drawn: Sample
    doses: Float[Tensor, "nodes points"]


def trade_off(
    pair: tuple[Goal, Goal],
    density: Volume,
    structures: StructureSet,
    prescription: Prescription,
    machine: Machine,
    beams: Sequence[Beam],
    goals: Sequence[Goal],
    dose_grid: Grid,
    *,
    n_points: int = 9,
    max_iterations: int = 100,
    progress: Progress | None = None,
) -> TradeOff:
    """The front between two goals, all other goals counting as they do in a plan.

    Each end is the best fluence for all goals with one of the two pushed far beyond the others; what lies
    between trades the two. The fluences are before segments.

    Parameters
    ----------
    pair
        The two goals; their limits play no part.
    density
        Relative electron density, zero outside the body.
    structures
        One planning target (kind PTV), one body (EXTERNAL), organs.
    prescription
        Dose and fractions.
    machine
        What delivers it.
    beams
        Directions and isocentre.
    goals
        All goals.
    dose_grid
        Where dose is computed.
    n_points
        Fluences to find.
    max_iterations
        Iterations of each search at most.
    progress
        Told the step and the share of it that is done.

    Raises
    ------
    ValueError
        If a structure of the two goals is missing, they do not pull against each other, two goals
        contradict each other, or for what :func:`planning.optimise.reach.reaching` and
        :func:`planning.dose.influence.influence` refuse.
    MemoryError
        If the influence would not fit, before any of it is computed.
    """
    if same_name(pair[0].structure, pair[1].structure) and pair[0].metric == pair[1].metric:
        raise ValueError(f"expected two different numbers to trade, got {_name(pair[0])} twice; change one")
    target = target_of(structures)
    bixels = reaching(structures, density, beams, machine, dose_grid)
    asked = [n for n in structures.structures if about([*goals, *pair], n)]
    shown = [n for n, s in structures.structures.items() if s.kind in TARGETS]
    drawn = sample(structures, dose_grid, [*asked, *shown])
    base = objectives_for(goals, drawn, target, prescription)
    coarse = resample(density, lattice(dose_grid, density.grid))
    matrix = influence(beams, bixels, coarse, drawn.points, machine, cutoff=FULL_CUTOFF, progress=progress)
    start = optimise_fluence(
        matrix, base, drawn.regions, max_iterations=max_iterations, scaled=True, progress=progress
    ).weights
    dose = apply(matrix, start)
    wishes = [_pushed(wish(goal, drawn, prescription), base, drawn, dose) for goal in pair]
    first, second = (prepare([*base, one], drawn.regions, like=start) for one in wishes)
    front = sweep(
        (_name(pair[0]), _name(pair[1])),
        (first, second),
        partial(apply, matrix),
        partial(adjoint, matrix),
        start,
        n_points=n_points,
        max_iterations=max_iterations,
        tolerance=1e-5,
        progress=progress,
    )
    if len(front.places) < 2:
        raise ValueError(
            f"expected two goals that pull against each other, got {front.names[0]} and {front.names[1]}, "
            "which one plan meets best; choose others"
        )
    doses = torch.stack([apply(matrix, f) for f in front.fluences]) * prescription.n_fractions
    values = [judge([*pair, *goals], sampled(one, drawn), prescription) for one in doses]
    metrics = {
        f"{one.goal.structure} {one.goal.text}": tuple(results[n].value for results in values)
        for n, one in enumerate(values[0])
    }
    return TradeOff(pair, replace(front, metrics=metrics), drawn, doses)


def dose_at(found: TradeOff, place: float) -> Float[Tensor, " points"]:
    """Total dose (Gy) at the optimiser's points of a place along the front: linear in the fluence."""
    return navigate(replace(found.front, fluences=found.doses), place)


def find_goal(text: str, goals: Sequence[Goal], structures: StructureSet) -> Goal:
    """The goal that somebody means by ``PTV D98%`` or ``Brainstem D0.03cc <= 54 Gy``.

    Which way is better comes from the text, else from a goal of the sheet for the same number.

    Raises
    ------
    ValueError
        If there is no such structure, or nothing says which way is better.
    """
    words = text.replace("<=", " <= ").replace(">=", " >= ").split()
    at = next((n for n, word in enumerate(words) if word in {"<=", ">="}), len(words)) - 1
    name, metric, rest = " ".join(words[:at]), " ".join(words[at : at + 1]), " ".join(words[at + 1 :])
    known = [n for n in structures.structures if same_name(n, name)]
    if len(known) != 1:
        raise ValueError(
            f"expected a structure and a number such as 'PTV D98%', got '{text}'; structures: "
            f"{', '.join(structures.structures)}"
        )
    if rest:
        return parse_goal(known[0], f"{metric} {rest}")
    same = [goal for goal in about(goals, known[0]) if goal.metric.lower() == metric.lower()]
    if not same:
        raise ValueError(
            f"expected a number that the goal sheet has for {known[0]}, or which way is better, such as "
            f"'{known[0]} {metric or 'Dmean'} <= 30 Gy'; the sheet has "
            f"{', '.join(goal.metric for goal in about(goals, known[0])) or 'none'}"
        )
    return replace(same[0], structure=known[0])


def wish(goal: Goal, drawn: Sample, prescription: Prescription) -> Objective:
    """A convex term that falls as a goal's number gets better, wherever its limit is.

    Parameters
    ----------
    goal
        The goal.
    drawn
        The points of its structure.
    prescription
        What a target shall have, and the fractions.

    Raises
    ------
    ValueError
        If the structure has no points.
    """
    name = next((n for n in drawn.regions if same_name(n, goal.structure)), "")
    if not name:
        raise ValueError(f"expected voxels of {goal.structure} to trade, got none; contour it")
    kind, number = parts(goal.metric)
    level = prescription.dose_gy
    if kind.startswith("V"):
        level = number if kind == "VGy" else number / 100 * prescription.dose_gy
    level /= prescription.n_fractions
    if goal.comparison is Comparison.AT_LEAST:
        return AtLeast(name, Mean(), level) if kind == "Dmean" else SquaredUnderdose(name, level)
    if kind.startswith("V"):
        return SquaredOverdose(name, level)
    return AtMost(name, _statistic(kind, number, drawn.volumes_cc[name]), 0.0)


def _pushed(
    one: Objective, base: Sequence[Objective], drawn: Sample, dose: Float[Tensor, " points"]
) -> Objective:
    """A term with the priority that makes it outweigh all others at a dose."""
    others, own = evaluate(base, drawn.regions, dose)[0], evaluate([one], drawn.regions, dose)[0]
    priority = _PUSH * others / own if own > 0 else _MOST_PRIORITY
    return replace(one, priority=min(priority, _MOST_PRIORITY))


def _statistic(kind: str, number: float, volume_cc: float) -> Statistic:
    """The convex number that stands for a dose at a volume."""
    if kind in {"Dmean", "Dmin"}:
        return Mean()
    percent = number if kind == "D%" else 100 * min(number / volume_cc, 1.0) if kind == "Dcc" else 0.0
    return HottestMean(percent) if percent > _SMALL_PERCENT else Eud(_EXPONENT)


def _name(goal: Goal) -> str:
    return f"{goal.structure} {goal.metric}"
