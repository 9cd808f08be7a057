"""A deliverable plan without a planner: from goals to segments with monitor units."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from imaging.grid import Grid, indices, positions
from imaging.resample import resample
from imaging.shapes import Mask
from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.arrange import target_of
from planning.beams import Beam
from planning.check.dvh import Dvh, dose_at_share, histogram
from planning.check.judge import GoalResult, judge
from planning.check.robust import Band
from planning.check.robust import doses as dose_in_each
from planning.density import covering as lattice
from planning.dose.bixel_dose import FULL_CUTOFF
from planning.dose.bixels import Bixels, covering
from planning.dose.influence import influence
from planning.goals import Goal, about, same_name
from planning.machine import Machine
from planning.plan import Plan, Prescription
from planning.scenarios import NOMINAL, Scenario, combined, density_scenarios, setup_scenarios

from .from_goals import Sample, objectives_for, sample, strengthened
from .objectives import Objective
from .outlook import bands_of, sampled, unmet
from .robust import (
    Aggregate,
    Uncertain,
    apply_all,
    influences,
    only_as_planned,
    optimise_robustly,
    robust_objective,
)
from .segments import Field, doses, reweight, without_short
from .sequence import sequence, to_beam

Progress = Callable[[str, float], None]

# The plan is scaled to a median target dose of the prescription (ICRU 83), then raised while these allow.
# A thousandth inside each limit, so that rounding does not decide whether it is met.
_COVERAGE = 0.95 * 1.001
_HOTTEST = 1.07 / 1.001
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
        If the target or the body is missing, or a beam cannot be delivered.
    """
    chosen = settings or Settings()
    target = target_of(structures)
    asked = [name for name in structures.structures if about(goals, name)]
    drawn = sample(structures, dose_grid, asked)
    voxels = torch.nonzero(structures.mask(target)).numpy().astype(np.float64)
    seen = positions(structures.grid, voxels)
    bixels = [covering(seen, beam, machine, _MARGIN + chosen.setup_error_mm) for beam in beams]
    # As the dose of the segments is computed: depths on the dose grid's spacing, full lateral reach.
    coarse = resample(density, lattice(dose_grid, density.grid))
    terms = objectives_for(goals, drawn, target, prescription)
    scenarios = chosen.scenarios(deviation)
    if len(scenarios) == 1:
        uncertain = only_as_planned(
            influence(beams, bixels, coarse, drawn.points, machine, cutoff=FULL_CUTOFF, progress=progress)
        )
    else:
        organs = {t.structure for t in terms if t.structure in asked} if chosen.robust_organs else set()
        uncertain = influences(
            scenarios,
            beams,
            bixels,
            coarse,
            drawn.points,
            drawn.regions,
            {target, *organs},
            machine,
            deviation=deviation,
            cutoff=FULL_CUTOFF,
            progress=progress,
        )
    weights, terms, wished = _fluence(uncertain, drawn, terms, goals, prescription, chosen, progress)
    fields, reached = _segments(uncertain, drawn, terms, weights, wished, bixels, machine, chosen, progress)
    dose = _dose_of(uncertain, fields, machine) * prescription.n_fractions
    plan, scale = _scaled(
        fields,
        beams,
        scenarios,
        density,
        deviation,
        structures,
        prescription,
        machine,
        dose_grid,
        progress,
    )
    told = bands_of(uncertain, drawn, dose * scale, goals, prescription)
    matrix = uncertain.matrices[0]
    return plan, Report(
        judge(goals, sampled((dose * scale)[: matrix.n_voxels], drawn), prescription),
        sum(len(field.segments) for field in fields),
        matrix.n_bixels,
        matrix.n_voxels,
        sum(beam.mu for beam in plan.beams),
        wished,
        reached,
        scale,
        scenarios,
        tuple(b for b in told if any(same_name(b.goal.structure, name) for name in uncertain.robust)),
    )


def _fluence(
    uncertain: Uncertain,
    drawn: Sample,
    terms: tuple[Objective, ...],
    goals: Sequence[Goal],
    prescription: Prescription,
    settings: Settings,
    progress: Progress | None,
) -> tuple[Tensor, tuple[Objective, ...], float]:
    """The best bixel weights, the terms they were found with, and the objective."""
    weights = None
    for n in range(settings.n_rounds + 1):
        found = optimise_robustly(
            uncertain,
            terms,
            drawn.regions,
            settings.aggregate,
            start=weights,
            max_iterations=settings.max_iterations,
            progress=progress,
        )
        weights = found.weights
        dose = apply_all(uncertain, weights) * prescription.n_fractions
        missed = unmet(bands_of(uncertain, drawn, dose, goals, prescription))
        if n == settings.n_rounds or not missed:
            break
        terms = strengthened(terms, missed)
    return found.weights, terms, found.value


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
    parts = np.split(weights.numpy().astype(np.float64), starts[1:-1])
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
    return _doses(uncertain, fields, machine) @ torch.tensor(weights, dtype=torch.float32)


def _scaled(
    fields: Sequence[Field],
    beams: Sequence[Beam],
    scenarios: Sequence[Scenario],
    density: Volume,
    deviation: Volume | None,
    structures: StructureSet,
    prescription: Prescription,
    machine: Machine,
    dose_grid: Grid,
    progress: Progress | None,
) -> tuple[Plan, float]:
    """The plan with monitor units scaled on the dose of its segments, and the factor."""
    delivered = tuple(
        to_beam(beam, field.segments, machine)
        for beam, field in zip(beams, fields, strict=True)
        if field.segments
    )
    plan = Plan(delivered, prescription, machine.name)
    target = structures.mask(target_of(structures))
    # Only the target's part of the dose grid is needed, voxel for voxel the same.
    near = _around(target, structures.grid, dose_grid)
    seen = [
        histogram(dose, target, structures.grid)
        for dose in dose_in_each(
            plan, scenarios, density, near, machine, deviation=deviation, progress=progress
        )
    ]
    covered = [dose_at_share(dvh, 98.0) for dvh in seen]
    loss = min(covered) / covered[0] if covered[0] > 0 else 1.0
    scale = scale_for(seen[0], prescription, loss)
    louder = tuple(replace(beam, mu=beam.mu * scale) for beam in delivered)
    return replace(plan, beams=louder), scale


def _around(target: Mask, grid: Grid, dose_grid: Grid) -> Grid:
    """The part of the dose grid that reaches one voxel beyond a target that is drawn on ``grid``."""
    seen = indices(dose_grid, positions(grid, torch.nonzero(target).numpy().astype(np.float64)))
    low = np.clip(np.floor(seen.min(axis=0)).astype(int) - 1, 0, None)
    high = np.minimum(np.ceil(seen.max(axis=0)).astype(int) + 2, dose_grid.shape)
    affine = np.array(dose_grid.affine)
    affine[:3, 3] = positions(dose_grid, low[None].astype(np.float64))[0]
    counts = high - low
    return Grid((int(counts[0]), int(counts[1]), int(counts[2])), affine)


def scale_for(target: Dvh, prescription: Prescription, loss: float = 1.0) -> float:
    """Factor on a dose that sets its median in the target to the prescription, or covers the target.

    Where D98% would stay under 95 % of the prescription it is raised as far as D2% of 107 % allows;
    D95% of 95 % comes before that.

    Parameters
    ----------
    target
        Histogram of the target as planned.
    prescription
        Dose and fractions.
    loss
        What the worst scenario leaves of D98%; coverage is asked for there.
    """
    prescribed = prescription.dose_gy
    median, d98, d95, d2 = (dose_at_share(target, x) for x in (50.0, 98.0, 95.0, 2.0))
    if d95 <= 0:
        raise ValueError(
            "expected dose in the target, got none in 5 % of it; check the isocentre and the body"
        )
    covered = min(_COVERAGE * prescribed / max(loss * d98, 1e-6), _HOTTEST * prescribed / d2)
    return max(prescribed / median, covered, _COVERAGE * prescribed / d95)
