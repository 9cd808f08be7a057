"""From goals to what the optimiser minimises: terms, and the points that they look at."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, Integer
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from imaging.grid import Grid, positions
from imaging.resample import resample_structures
from imaging.shapes import Mask, Points
from imaging.structures import RoiType, StructureSet, named
from planning.arrange import target_of
from planning.check.consistent import expect_consistent
from planning.check.dvh import Dvh
from planning.check.judge import GoalResult, judge, limit_of
from planning.goals import Comparison, Goal, about, parts, same_name
from planning.plan import Prescription

from .dose_volume import AtLeast, AtMost, HottestMean, Mean, MinDvh
from .fluence import Stop
from .objectives import Objective, SquaredDeviation, SquaredMean, SquaredOverdose, SquaredUnderdose

# Shells of normal tissue by distance from the target (mm), and the share of the prescription that
# dose should stay under there: a fall of some 3 % of the prescription a millimetre.
_SHELLS = ((0.0, 3.0, 1.02), (3.0, 8.0, 0.9), (8.0, 15.0, 0.7), (15.0, 30.0, 0.5), (30.0, np.inf, 0.35))
_SHELL_PRIORITY = 20.0
_FAR, _FAR_PRIORITY = 15.0, 1.0
_TARGET_PRIORITY = 100.0
# Priority of a term for a goal of priority 1, 2, 3, 4.
_PRIORITIES = (100.0, 50.0, 20.0, 5.0)
# Terms aim a little within a limit: segments and sampling cost a few percent.
_BELOW_LIMIT = 0.95
_ABOVE_LIMIT = 1.02
# A limit on the dose of so little is one on the maximum: at most so much of the volume (%) or so many cc,
# a few voxels of the dose grid.
_NEARLY_MAXIMUM, _NEARLY_MAXIMUM_CC = 2.0, 0.1

# Points that each structure is sampled at; the rest of the body needs fewest.
_MOST_POINTS = {"target": 6000, "shell": 2500, "organ": 1500}
_FEWEST_VOXELS = 50
_NEAR = 8.0  # mm from the target


@dataclass(frozen=True, eq=False)
class Sample:
    """Where the optimiser looks at the dose.

    Parameters
    ----------
    points
        Positions (LPS, mm), shape ``(n, 3)``.
    regions
        For each structure or shell, which points belong to it.
    volumes_cc
        Volume of each structure (cm³).
    """

    points: Points
    regions: Mapping[str, Integer[Tensor, " _"]]
    volumes_cc: Mapping[str, float]


def sample(
    structures: StructureSet,
    grid: Grid,
    organs: Sequence[str],
    share: float = 1.0,
    of_target: float = 1.0,
    hottest: Collection[str] = (),
) -> Sample:
    """Points in the target, in some organs and in shells around the target, evenly spread over each.

    Points are voxel centres of the dose grid; the target and structures that fill only a few of those
    are sampled at their own voxels. Where only a share of the points is taken, organs of which the hottest
    part alone counts keep those near the target, where it lies: means and histograms of such points are not
    those of the organ.

    Parameters
    ----------
    structures
        One target (kind PTV), organs and the body (kind EXTERNAL).
    grid
        The dose grid.
    organs
        Names of the organs to look at; empty ones are passed over.
    share, of_target
        Of the points that are usual, in organs and around the target, and in the target: many directions
        leave no room for all of them.
    hottest
        Names of organs that no goal asks more of than a maximum.
    """
    coarse = resample_structures(structures, grid)
    target = target_of(structures)
    near = _within(coarse, target, _NEAR) if share < 1 else torch.zeros(grid.shape, dtype=torch.bool)
    parts_of: dict[str, Points] = {}
    for name, structure in structures.structures.items():
        if name not in {target, *organs} or not bool(structure.mask.any()):
            continue
        usual = _MOST_POINTS["target"] * of_target if name == target else _MOST_POINTS["organ"] * share
        most = round(usual)
        mask = coarse.mask(name)
        # Coverage is decided at the target's edge, which the dose grid's voxels blur.
        own = name == target or int(mask.sum()) < _FEWEST_VOXELS
        if own or name not in hottest:
            given = (structure.mask, structures.grid) if own else (mask, grid)
            parts_of[name] = _spread(*given, most)
            continue
        beside = _spread(mask & near, grid, _MOST_POINTS["organ"])
        parts_of[name] = np.concatenate([beside, _spread(mask & ~near, grid, most)])
    for name, mask in _shells(coarse, target).items():
        if bool(mask.any()):
            parts_of[name] = _spread(mask, grid, round(share * _MOST_POINTS["shell"]))
    everywhere, place = np.unique(np.concatenate(list(parts_of.values())), axis=0, return_inverse=True)
    ends = np.cumsum([len(part) for part in parts_of.values()])
    regions = {
        name: torch.from_numpy(part)
        for name, part in zip(parts_of, np.split(place.reshape(-1), ends[:-1]), strict=True)
    }
    volumes = {
        name: int(s.mask.sum()) * structures.grid.voxel_volume / 1000
        for name, s in structures.structures.items()
    }
    return Sample(everywhere, regions, volumes)


def objectives_for(
    goals: Sequence[Goal], drawn: Sample, target: str, prescription: Prescription
) -> tuple[Objective, ...]:
    """Terms (in Gy of one fraction) for the target, for organs with goals, and for the fall of dose around.

    Parameters
    ----------
    goals
        What is asked; those without a structure are passed over here and reported by ``judge``.
    drawn
        The structures and shells that there are.
    target
        Name of the planning target.
    prescription
        Dose and fractions.

    Raises
    ------
    ValueError
        If two goals contradict each other.
    """
    expect_consistent(goals, prescription, drawn.volumes_cc)
    return (
        *anchored(target, prescription),
        *_falling(drawn, prescription),
        *terms_of(goals, drawn, target, prescription),
    )


def anchored(target: str, prescription: Prescription) -> tuple[Objective, ...]:
    """Terms (in Gy of one fraction) that hold a target at its prescription, and most of all not below it."""
    dose = prescription.dose_gy / prescription.n_fractions
    return (
        SquaredDeviation(target, dose, _TARGET_PRIORITY),
        SquaredUnderdose(target, dose, _TARGET_PRIORITY),
    )


def terms_of(
    goals: Sequence[Goal], drawn: Sample, target: str, prescription: Prescription
) -> tuple[Objective, ...]:
    """A term (in Gy of one fraction) for each goal of a structure that was drawn.

    Goals of the target that its prescription everywhere would meet have none: :func:`anchored` aims at it.
    """
    return tuple(
        _term(goal, name, prescription, drawn.volumes_cc[name])
        for goal in goals
        for name in drawn.regions
        if same_name(goal.structure, name) and not (name == target and _is_aimed_at(goal, prescription))
    )


def hottest_alone(goals: Sequence[Goal], names: Sequence[str]) -> set[str]:
    """Which structures have goals for nothing but their hottest tenth of a cm³, or less."""

    def is_maximum(goal: Goal) -> bool:
        kind, number = parts(goal.metric)
        at_most = goal.comparison is Comparison.AT_MOST
        return at_most and (kind == "Dmax" or (kind == "Dcc" and number <= _NEARLY_MAXIMUM_CC))

    asked = {name: [g for g in goals if same_name(g.structure, name)] for name in names}
    return {name for name, own in asked.items() if own and all(map(is_maximum, own))}


def shells(drawn: Sample) -> tuple[str, ...]:
    """Names of the shells around the target that were drawn."""
    names = (_shell_name(low, high) for low, high, _ in _SHELLS)
    return tuple(name for name in names if name in drawn.regions)


def _falling(drawn: Sample, prescription: Prescription) -> tuple[Objective, ...]:
    """Terms for the fall of dose around the target."""
    dose = prescription.dose_gy / prescription.n_fractions
    terms: list[Objective] = []
    for low, high, share in _SHELLS:
        name = _shell_name(low, high)
        if name in drawn.regions:
            terms.append(SquaredOverdose(name, share * dose, _SHELL_PRIORITY))
            # Near the target the mean follows from the target's dose: pressing on it only costs coverage.
            if low >= _FAR:
                terms.append(SquaredMean(name, 0.0, _FAR_PRIORITY))
    return tuple(terms)


def strengthened(
    objectives: Sequence[Objective], results: Sequence[GoalResult], factor: float = 3.0
) -> tuple[Objective, ...]:
    """The same terms, with greater priorities for the structures whose goals are not met."""
    unmet = [result.goal.structure for result in results if result.met is False]
    return tuple(
        dataclasses.replace(term, priority=term.priority * factor)
        if any(same_name(term.structure, name) for name in unmet)
        else term
        for term in objectives
    )


def all_met(goals: Sequence[Goal], drawn: Sample, prescription: Prescription) -> Stop:
    """Whether a dose of one fraction at the drawn points meets all goals: when a search may stop.

    Goals whose structure was not drawn are passed over; if that leaves none, nothing is met.

    Parameters
    ----------
    goals
        What is asked.
    drawn
        The structures that there are.
    prescription
        What percentages refer to, and the fractions.
    """
    asked = {
        name: inside.numpy()
        for name, inside in drawn.regions.items()
        if name in drawn.volumes_cc and about(goals, name)
    }

    def met(dose: Tensor) -> bool:
        total = (dose * prescription.n_fractions).cpu().numpy().astype(np.float32)
        dvhs = {name: Dvh(np.sort(total[inside]), drawn.volumes_cc[name]) for name, inside in asked.items()}
        judged = [r.met for r in judge(goals, dvhs, prescription) if r.met is not None]
        return bool(judged) and all(judged)

    return met


def _is_aimed_at(goal: Goal, prescription: Prescription) -> bool:
    """Whether a dose of just the prescription everywhere meets a goal: the target's own terms aim at it."""
    if goal.comparison is Comparison.AT_LEAST:
        return _dose_of(goal, prescription) <= prescription.dose_gy
    return _dose_of(goal, prescription) >= prescription.dose_gy


def _term(goal: Goal, name: str, prescription: Prescription, volume_cc: float) -> Objective:
    """The term that a goal asks for, aiming a little within its limit.

    An upper limit on the dose of a part is one on the mean of the hottest part of that size, which is
    never less: convex, and in our trials it met more goals than the points beyond the limit did, which
    let the hottest off (``MaxDvh``).
    """
    kind, number = parts(goal.metric)
    priority = _PRIORITIES[min(max(goal.priority, 1), len(_PRIORITIES)) - 1]
    at_most = goal.comparison is Comparison.AT_MOST
    within = _BELOW_LIMIT if at_most else _ABOVE_LIMIT
    dose = within * _dose_of(goal, prescription) / prescription.n_fractions
    if kind == "Dmean":
        return SquaredMean(name, dose, priority) if at_most else AtLeast(name, Mean(), dose, priority)
    percent = _percent(goal, volume_cc)
    if not at_most:
        return MinDvh(name, dose, percent, priority)
    if percent <= _NEARLY_MAXIMUM or (kind == "Dcc" and number <= _NEARLY_MAXIMUM_CC):
        return SquaredOverdose(name, dose, priority)
    return AtMost(name, HottestMean(percent), dose, priority)


def _dose_of(goal: Goal, prescription: Prescription) -> float:
    """The total dose (Gy) that a goal is about: its limit, or the level of its volume."""
    kind, number = parts(goal.metric)
    if kind.startswith("V"):
        return number if kind == "VGy" else number / 100 * prescription.dose_gy
    return limit_of(goal, prescription)


def _percent(goal: Goal, volume_cc: float) -> float:
    """The share of the volume (%) that a goal is about: that of its dose, or that which is its limit."""
    kind, number = parts(goal.metric)
    if kind in {"Dmax", "Dmin"}:
        return 0.0 if kind == "Dmax" else 100.0
    volume = goal.limit if kind.startswith("V") else number
    if kind != "Dcc" and goal.unit != "cc":
        return min(volume, 100.0)
    share = 100 * volume / volume_cc
    # The dose of more than there is is the maximum, as the histogram has it.
    return (0.0 if kind == "Dcc" else 100.0) if share >= 100 else share


def _shell_name(low: float, high: float) -> str:
    return f"{low:g} to {high:g} mm from the target"


def _within(structures: StructureSet, target: str, reach: float) -> Mask:
    """Where the target is no further than ``reach`` mm away."""
    away = distance_transform_edt(~structures.mask(target).numpy(), sampling=structures.grid.spacing)
    return torch.from_numpy(away <= reach)


def _shells(structures: StructureSet, target: str) -> dict[str, Mask]:
    """The body outside the target, in shells of distance from it."""
    body = _body(structures)
    away = torch.from_numpy(
        distance_transform_edt(~structures.mask(target).numpy(), sampling=structures.grid.spacing)
    )
    return {_shell_name(low, high): body & (away > low) & (away <= high) for low, high, _ in _SHELLS}


def _body(structures: StructureSet) -> Mask:
    names = named(structures, RoiType.EXTERNAL)
    if len(names) != 1:
        raise ValueError(
            f"expected one body contour (kind EXTERNAL), got {', '.join(names) or 'none'}; contour the body"
        )
    return structures.mask(names[0])


def _spread(mask: Mask, grid: Grid, most: int) -> Points:
    """Centres of at most so many voxels of a mask, evenly spread.

    The voxels are taken in steps of the golden ratio through their order, so that a lattice of kept
    voxels does not fall in step with the planes of the grid.
    """
    voxels: Int64[np.ndarray, "n 3"] = torch.nonzero(mask).numpy()
    n = len(voxels)
    if n > most:
        kept = np.sort(np.argsort(np.arange(n) * 0.6180339887498949 % 1, kind="stable")[:most])
        voxels = voxels[kept]
    return positions(grid, voxels.astype(np.float64))
