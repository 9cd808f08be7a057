"""A deliverable plan without a planner: from goals to segments with monitor units."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imaging.grid import Grid
from imaging.resample import resample
from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.arrange import target_of
from planning.beams import Beam
from planning.check.judge import GoalResult, judge
from planning.check.robust import Band
from planning.density import covering as lattice
from planning.dose.bixel_dose import FULL_CUTOFF
from planning.dose.bixels import Bixels
from planning.dose.influence import influence
from planning.goals import Goal, about, same_name
from planning.machine import Machine
from planning.plan import Plan, Prescription
from planning.scenarios import NOMINAL, Scenario, combined, density_scenarios, setup_scenarios

from .from_goals import Sample, objectives_for, sample
from .monitor_units import scaled
from .objectives import Objective
from .outlook import bands_of, sampled
from .raising import fluence_for
from .reach import reaching
from .robust import Aggregate, robust_objective
from .segments import Field, doses, reweight, without_short
from .sequence import sequence, to_beam
from .uncertain import Uncertain, influences, only_as_planned

Progress = Callable[[str, float], None]

# Bixels reach this far beyond the target (mm), and beyond where it may lie.
_MARGIN = 5.0
# Temperature of the segments' smooth worst case, as a share of the fluence's worst value.
_TEMPERATURE = 0.02


@dataclass(frozen=True)
class Settings:
    """How a plan is made.

    Parameters
    ----------
    n_levels
        Levels that each beam's fluence is rounded to before it is cut into segments.
    min_area
        Smallest opening of a segment (mm² at the isocentre).
    min_mu
        Fewest monitor units of a segment in one fraction.
    n_rounds
        How often priorities are raised for goals that are not met.
    max_iterations
        Iterations of each optimisation at most.
    setup_error_mm
        How far the patient may lie from where the plan has them, either way along each axis (mm); with 0
        the plan is not robust against it.
    density_sigmas
        How many standard deviations the density may be off, either way, where a deviation is given.
    aggregate
        Whether the worst of these scenarios counts or their expected value.
    robust_organs
        Whether the terms of organs count in every scenario as the target's do, or only as planned.
    """

    n_levels: int = 12
    min_area: float = 200.0
    min_mu: float = 2.0
    n_rounds: int = 2
    max_iterations: int = 60
    setup_error_mm: float = 0.0
    density_sigmas: float = 1.0
    aggregate: Aggregate = Aggregate.WORST
    robust_organs: bool = False

    def scenarios(self, deviation: Volume | None) -> tuple[Scenario, ...]:
        """What the plan shall hold in; the plan as it is alone where nothing is uncertain."""
        moved = setup_scenarios(self.setup_error_mm) if self.setup_error_mm else (NOMINAL,)
        if deviation is None:
            return moved
        return combined(moved, density_scenarios((-self.density_sigmas, self.density_sigmas)))


@dataclass(frozen=True)
class Report:
    """How a plan came to be.

    Parameters
    ----------
    goals
        Every goal on the dose of the segments at the optimiser's points; the dose on the whole grid
        decides.
    n_segments, n_bixels, n_points
        Segments delivered, bixels they were cut from, points the optimiser looked at.
    mu
        Monitor units of one fraction.
    fluence_objective, segment_objective
        Objective of the best fluence and of the segments, by the same terms.
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


def plan_automatically(
    density: Volume,
    structures: StructureSet,
    prescription: Prescription,
    machine: Machine,
    beams: Sequence[Beam],
    goals: Sequence[Goal],
    dose_grid: Grid,
    progress: Progress | None = None,
    settings: Settings | None = None,
    deviation: Volume | None = None,
) -> tuple[Plan, Report]:
    """A step-and-shoot plan that reaches the goals as far as it can.

    Bixels that see the target, their dose at sampled points, fluence with the least objective
    (raised priorities where goals are missed), segments, segment weights optimised again, and the
    monitor units scaled on the dose of the segments. Where the settings tell a set-up error, or a
    deviation of the density is given, fluence and segment weights are robust against them, priorities are
    raised for what is missed in any scenario, and the target is covered in the worst one as far as its
    hottest part allows.

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
        Directions and isocentre.
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

    Raises
    ------
    ValueError
        If the target or the body is missing, two goals contradict each other, the dose grid is coarser than
        the bixels, or for what :func:`planning.optimise.reach.reaching` and
        :func:`planning.dose.influence.influence` refuse.
    MemoryError
        If the influence would not fit, in all scenarios together, before any of it is computed.
    """
    chosen = settings or Settings()
    target = target_of(structures)
    bixels = reaching(structures, density, beams, machine, dose_grid, _MARGIN + chosen.setup_error_mm)
    asked = [name for name in structures.structures if about(goals, name)]
    drawn = sample(structures, dose_grid, asked)
    # As the dose of the segments is computed: depths on the dose grid's spacing, full lateral reach.
    coarse = resample(density, lattice(dose_grid, density.grid))
    terms = objectives_for(goals, drawn, target, prescription)
    scenarios = chosen.scenarios(deviation)
    robust = {t.structure for t in terms if t.structure in asked} if chosen.robust_organs else set()
    if len(scenarios) == 1:
        matrix = influence(
            beams, bixels, coarse, drawn.points, machine, cutoff=FULL_CUTOFF, progress=progress
        )
        uncertain = only_as_planned(matrix)
    else:
        uncertain = influences(
            scenarios,
            beams,
            bixels,
            coarse,
            drawn.points,
            drawn.regions,
            {target, *robust},
            machine,
            deviation=deviation,
            cutoff=FULL_CUTOFF,
            progress=progress,
        )
    weights, terms, wished = fluence_for(
        goals,
        terms,
        uncertain,
        drawn,
        prescription,
        aggregate=chosen.aggregate,
        n_rounds=chosen.n_rounds,
        max_iterations=chosen.max_iterations,
        progress=progress,
    )
    fields, reached = _segments(uncertain, drawn, terms, weights, wished, bixels, machine, chosen, progress)
    dose = _dose_of(uncertain, fields, machine) * prescription.n_fractions
    plan, scale = scaled(
        Plan(_delivered(beams, fields, machine), prescription, machine.name),
        scenarios,
        density,
        structures,
        machine,
        dose_grid,
        deviation=deviation,
        progress=progress,
    )
    told = bands_of(uncertain, drawn, dose * scale, goals, prescription)
    n_points = uncertain.matrices[0].n_voxels
    return plan, Report(
        judge(goals, sampled((dose * scale)[:n_points], drawn), prescription),
        sum(len(field.segments) for field in fields),
        uncertain.matrices[0].n_bixels,
        n_points,
        sum(beam.mu for beam in plan.beams),
        wished,
        reached,
        scale,
        scenarios,
        tuple(b for b in told if any(same_name(b.goal.structure, name) for name in uncertain.robust)),
    )


def _segments(
    uncertain: Uncertain,
    drawn: Sample,
    terms: tuple[Objective, ...],
    weights: Tensor,
    wished: float,
    bixels: Sequence[Bixels],
    machine: Machine,
    settings: Settings,
    progress: Progress | None,
) -> tuple[tuple[Field, ...], float]:
    """Segments of all beams with their best weights, and the objective of their dose."""
    starts = uncertain.matrices[0].beam_starts
    parts = np.split(weights.cpu().numpy().astype(np.float64), starts[1:-1])
    fields: tuple[Field, ...] = tuple(
        Field(own, tuple(sequence(part, own, machine.mlc, settings.n_levels, settings.min_area)))
        for part, own in zip(parts, bixels, strict=True)
    )
    dose = _doses(uncertain, fields, machine)
    objective = robust_objective(
        uncertain, terms, drawn.regions, settings.aggregate, _TEMPERATURE * wished, like=dose
    )
    fields, _ = reweight(fields, dose, objective, max_iterations=settings.max_iterations, progress=progress)
    # Short segments go, and the others make up for them.
    fields, kept = without_short(fields, settings.min_mu * machine.fluence_per_mu)
    fields, result = reweight(
        fields, dose[:, kept], objective, max_iterations=settings.max_iterations, progress=progress
    )
    worst = robust_objective(uncertain, terms, drawn.regions, settings.aggregate, 0.0, like=dose)
    reached = worst(dose[:, kept] @ result.weights)[0]
    return without_short(fields, settings.min_mu * machine.fluence_per_mu / 2)[0], reached


def _doses(uncertain: Uncertain, fields: Sequence[Field], machine: Machine) -> Tensor:
    """Dose of every segment in all scenarios, one after another (Gy)."""
    return torch.cat([doses(matrix, fields, machine) for matrix in uncertain.matrices])


def _dose_of(uncertain: Uncertain, fields: Sequence[Field], machine: Machine) -> Tensor:
    """Dose of the weighted segments in all scenarios at the optimiser's points (Gy in one fraction)."""
    weights = [segment.weight for field in fields for segment in field.segments]
    found = _doses(uncertain, fields, machine)
    return found @ torch.tensor(weights).to(found)


def _delivered(beams: Sequence[Beam], fields: Sequence[Field], machine: Machine) -> tuple[Beam, ...]:
    """The beams that deliver the segments; those without any are left out."""
    return tuple(
        to_beam(beam, field.segments, machine)
        for beam, field in zip(beams, fields, strict=True)
        if field.segments
    )
