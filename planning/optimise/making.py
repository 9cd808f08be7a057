"""How every plan is made: bixels, fluence, leaves, monitor units, and what came of it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch

from imaging.grid import Grid, positions
from imaging.resample import resample
from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.arcs import Arc
from planning.arrange import target_of
from planning.beams import Beam, n_segments
from planning.check.judge import GoalResult, judge
from planning.check.robust import Band
from planning.density import covering as lattice
from planning.dose.bixel_dose import FULL_CUTOFF
from planning.dose.bixels import Bixels
from planning.dose.influence import influence
from planning.dose.joined import joined
from planning.goals import Goal, about, same_name
from planning.machine import Machine
from planning.plan import Plan, Prescription
from planning.scenarios import NOMINAL, Scenario

from .apertures import Window, halved, halves_of, window_over
from .arc import sectors
from .correcting import corrected
from .delivering import Delivered, Wish, cut_fields, shaped
from .direct import expect_free_leaves
from .from_goals import Sample, hottest_alone, sample
from .monitor_units import scaled
from .objectives import Objective
from .outlook import bands_of, sampled
from .pressing import pressed
from .raising import fluence_for
from .reach import reaching
from .robust import optimise_robustly
from .settings import Settings
from .uncertain import Uncertain, influences, only_as_planned

Progress = Callable[[str, float], None]
# From points to the terms of a search of dose there.
Aim = Callable[[Sample], tuple[Objective, ...]]

# Bixels reach this far beyond the target (mm), and beyond where it may lie.
_MARGIN = 5.0
# Fluence that leaves are shaped from is searched on bixels this long (mm).
_COARSE = 5.0
# Iterations of the fluence that leaves shall sweep over, in each round of priorities.
_SMOOTH = 12
# Arcs see the dose from many directions, which leave room for fewer points.
_ARC_SHARE = 0.35


@dataclass(frozen=True, eq=False)
class Task:
    """What a plan is made for and with.

    Parameters
    ----------
    density
        Relative electron density, zero outside the body.
    structures
        One planning target (kind PTV), one body (EXTERNAL), organs.
    prescription
        Dose and fractions.
    machine
        What delivers it.
    beams
        Directions and isocentre of standing fields, or arcs.
    goals
        What is asked.
    dose_grid
        Where dose is computed.
    progress
        Told the step and the share of it that is done, 0..1.
    settings
        How the plan is made.
    deviation
        One standard deviation of the relative electron density, on any grid.
    """

    density: Volume
    structures: StructureSet
    prescription: Prescription
    machine: Machine
    beams: Sequence[Beam] | Sequence[Arc]
    goals: Sequence[Goal]
    dose_grid: Grid
    progress: Progress | None = None
    settings: Settings = field(default_factory=Settings)
    deviation: Volume | None = None

    @property
    def target(self) -> str:
        """Name of the planning target."""
        return target_of(self.structures)

    @property
    def arcs(self) -> list[Arc]:
        """The beams that turn."""
        return [one for one in self.beams if isinstance(one, Arc)]

    @property
    def spans(self) -> list[Beam]:
        """Standing fields, or what arcs deliver between control points."""
        turning = [span for arc in self.arcs for span in arc.spans()]
        return turning or [one for one in self.beams if isinstance(one, Beam)]

    @property
    def fields(self) -> list[Beam]:
        """What fluence is searched for: arcs begin with the middles of their sectors as standing fields."""
        return [part.middle for part in sectors(self.arcs)] if self.arcs else self.spans

    @property
    def margin(self) -> float:
        """How far bixels reach beyond the target (mm)."""
        return _MARGIN + self.settings.setup_error_mm


@dataclass(frozen=True)
class Report:
    """How a plan came to be.

    Parameters
    ----------
    goals
        Every goal on the dose of the segments at the optimiser's points; the dose on the whole grid
        decides.
    n_segments, n_bixels, n_points
        Segments of standing fields or spans of arcs, bixels under their leaves, points looked at.
    mu
        Monitor units of one fraction.
    fluence_objective, segment_objective
        Objective of the fluence that was begun with and of what is delivered, by the same terms.
    scale
        Factor on the monitor units that set the target dose.
    scenarios
        What the plan was made to hold in.
    bands
        The goals of the structures that are robust, in all scenarios at the optimiser's points.
    """

    goals: tuple[GoalResult, ...]
    n_segments: int
    n_bixels: int
    n_points: int
    mu: float
    fluence_objective: float
    segment_objective: float
    scale: float
    scenarios: tuple[Scenario, ...] = (NOMINAL,)
    bands: tuple[Band, ...] = ()


def made_for(task: Task, aim: Aim, share: float = 1.0, reach: float = FULL_CUTOFF) -> tuple[Plan, Report]:
    """A plan whose dose is what an aim asks for, as far as it can be.

    Refuses as :func:`planning.optimise.automatic.plan_automatically`.

    Parameters
    ----------
    task
        What it is made for and with.
    aim
        What is wanted at the points that are drawn.
    share
        Of the points that are usual in organs and around the target; in the target it is all.
    reach
        Furthest lateral reach of bixels (mm); monitor units are corrected on the dose of full reach.
    """
    structures, machine, chosen = task.structures, task.machine, task.settings
    bixels = reaching(structures, task.density, task.fields, machine, task.dose_grid, task.margin)
    if task.arcs:
        expect_free_leaves(machine)
    drawn = _drawn(task, share)
    terms = aim(drawn)
    # As the dose of what is delivered is computed: depths on the dose grid's spacing.
    tissue = resample(task.density, lattice(task.dose_grid, task.density.grid))
    seen = _looking(task, tissue, drawn, terms)
    if not task.arcs and not (chosen.shape_leaves and machine.mlc.interdigitation):
        uncertain = seen(task.fields, bixels)
        wish = _wished(task, terms, uncertain, drawn)
        made = cut_fields(task.fields, bixels, wish, uncertain, machine, chosen, task.progress)
        return _told(task, made, wish, uncertain)
    way = _turning if task.arcs else _standing
    wish, made, uncertain = way(task, terms, drawn, partial(seen, reach=reach))
    if len(uncertain.scenarios) == 1:
        least = 0.0 if task.arcs else chosen.min_mu
        given = (tissue, task.dose_grid, machine)
        made = corrected(made, wish, *given, least=least, n_rounds=chosen.n_corrections)
    return _told(task, made, wish, uncertain)


def _standing(
    task: Task, terms: tuple[Objective, ...], drawn: Sample, seen: Callable[..., Uncertain]
) -> tuple[Wish, Delivered, Uncertain]:
    """Fluence of standing fields and the leaves shaped after it, on one influence matrix."""
    coarse = _window(task, task.fields, _COARSE)
    window = halved(coarse)
    uncertain = seen(task.fields, [window.bixels] * len(task.fields))
    parts, n_each = halves_of(coarse), len(coarse.rows) * len(coarse.columns)
    whole = tuple(joined(matrix, parts, n_each) for matrix in uncertain.matrices)
    wish = _wished(task, terms, replace(uncertain, matrices=whole), drawn)
    given = (coarse, window, wish, uncertain, task.machine, task.settings, task.progress)
    return wish, shaped(task.fields, *given), uncertain


def _turning(
    task: Task, terms: tuple[Objective, ...], drawn: Sample, seen: Callable[..., Uncertain]
) -> tuple[Wish, Delivered, Uncertain]:
    """Fluence of arcs' sectors as of standing fields, and the leaves that sweep over it."""
    coarse, window = _window(task, task.fields, _COARSE), _window(task, task.spans)
    wish = _wished(task, terms, seen(task.fields, [coarse.bixels] * len(task.fields)), drawn)
    uncertain = seen(task.spans, [window.bixels] * len(task.spans))
    given = (coarse, window, wish, uncertain, task.machine, task.settings, task.progress)
    return wish, shaped(task.arcs, *given), uncertain


def _drawn(task: Task, share: float) -> Sample:
    names = [name for name in task.structures.structures if about(task.goals, name)]
    room = _ARC_SHARE if task.arcs else 1.0
    hottest = hottest_alone(task.goals, names)
    return sample(task.structures, task.dose_grid, names, share * room, room, hottest)


def _window(task: Task, beams: Sequence[Beam], *length: float) -> Window:
    """Bixels over the target, the same for every beam."""
    inside = torch.nonzero(task.structures.mask(task.target)).numpy().astype(np.float64)
    voxels = positions(task.structures.grid, inside)
    return window_over(voxels, beams, task.machine, task.margin, *length)


def _looking(
    task: Task, tissue: Volume, drawn: Sample, terms: Sequence[Objective]
) -> Callable[..., Uncertain]:
    """What beams with their bixels give at the drawn points, in every scenario."""
    chosen = task.settings
    robust = {t.structure for t in terms if about(task.goals, t.structure)} if chosen.robust_organs else set()
    return partial(
        _seen,
        scenarios=chosen.scenarios(task.deviation),
        density=tissue,
        drawn=drawn,
        robust={task.target, *robust},
        machine=task.machine,
        deviation=task.deviation,
        progress=task.progress,
    )


def _wished(task: Task, terms: tuple[Objective, ...], uncertain: Uncertain, drawn: Sample) -> Wish:
    """The best fluence, with organs spared beyond their goals where that is asked."""
    chosen, given = task.settings, (uncertain, drawn)
    most = min(_SMOOTH, chosen.max_iterations) if task.arcs else chosen.max_iterations
    found = fluence_for(
        task.goals,
        terms,
        *given,
        task.prescription,
        aggregate=chosen.aggregate,
        n_rounds=chosen.n_rounds,
        max_iterations=most,
        progress=task.progress,
    )
    weights, terms, value = pressed(
        found,
        task.goals,
        *given,
        task.target,
        task.prescription,
        n_rounds=chosen.n_presses,
        priority=chosen.press_priority,
        aggregate=chosen.aggregate,
        max_iterations=most,
    )
    if task.arcs and terms is not found[1]:
        # Leaves cannot sweep over what so many rounds have made of it: begun anew it stays smooth.
        again = optimise_robustly(uncertain, terms, drawn.regions, chosen.aggregate, max_iterations=most)
        weights, value = again.weights, again.value
    return Wish(weights, value, terms, task.goals, task.prescription, drawn, task.target)


def _told(task: Task, made: Delivered, wish: Wish, uncertain: Uncertain) -> tuple[Plan, Report]:
    """The plan with its monitor units scaled, and how it came to be."""
    prescription, goals, drawn = task.prescription, task.goals, wish.drawn
    plan, scale = scaled(
        Plan(made.beams, prescription, task.machine.name),
        uncertain.scenarios,
        task.density,
        task.structures,
        task.machine,
        task.dose_grid,
        deviation=task.deviation,
        progress=task.progress,
    )
    dose = made.dose * prescription.n_fractions * scale
    told = bands_of(uncertain, drawn, dose, goals, prescription)
    n_points = uncertain.matrices[0].n_voxels
    return plan, Report(
        judge(goals, sampled(dose[:n_points], drawn), prescription),
        sum(n_segments(beam) for beam in plan.beams),
        uncertain.matrices[0].n_bixels,
        n_points,
        sum(beam.mu for beam in plan.beams),
        wish.value,
        made.objective,
        scale,
        uncertain.scenarios,
        tuple(b for b in told if any(same_name(b.goal.structure, name) for name in uncertain.robust)),
    )


def _seen(
    beams: Sequence[Beam],
    bixels: Sequence[Bixels],
    *,
    scenarios: Sequence[Scenario],
    density: Volume,
    drawn: Sample,
    robust: Collection[str],
    machine: Machine,
    deviation: Volume | None,
    progress: Progress | None,
    reach: float = FULL_CUTOFF,
) -> Uncertain:
    """Influence of bixels at the drawn points, in every scenario where there are several."""
    given = (density, drawn.points)
    if len(scenarios) == 1:
        return only_as_planned(influence(beams, bixels, *given, machine, cutoff=reach, progress=progress))
    return influences(
        scenarios,
        beams,
        bixels,
        *given,
        drawn.regions,
        robust,
        machine,
        deviation=deviation,
        cutoff=reach,
        progress=progress,
    )
