"""A deliverable plan without a planner: from goals to segments with monitor units."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

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
from planning.density import covering as lattice
from planning.dose.bixel_dose import FULL_CUTOFF
from planning.dose.bixels import Bixels, covering
from planning.dose.forward import calculate
from planning.dose.influence import Influence, apply, influence
from planning.goals import Goal, about
from planning.machine import Machine
from planning.plan import Plan, Prescription

from .fluence import optimise_fluence
from .from_goals import Sample, objectives_for, sample, strengthened
from .objectives import Objective, evaluate
from .segments import Field, doses, reweight, without_short
from .sequence import sequence, to_beam

Progress = Callable[[str, float], None]

# The plan is scaled to a median target dose of the prescription (ICRU 83), then raised while these allow.
# A thousandth inside each limit, so that rounding does not decide whether it is met.
_COVERAGE = 0.95 * 1.001
_HOTTEST = 1.07 / 1.001


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
    """

    n_levels: int = 12
    min_area: float = 200.0
    min_mu: float = 2.0
    n_rounds: int = 2
    max_iterations: int = 60


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
    """

    goals: tuple[GoalResult, ...]
    n_segments: int
    n_bixels: int
    n_points: int
    mu: float
    fluence_objective: float
    segment_objective: float
    scale: float


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
) -> tuple[Plan, Report]:
    """A step-and-shoot plan that reaches the goals as far as it can.

    Bixels that see the target, their dose at sampled points, fluence with the least objective
    (raised priorities where goals are missed), segments, segment weights optimised again, and the
    monitor units scaled on the dose of the segments.

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
    bixels = [covering(seen, beam, machine) for beam in beams]
    # As the dose of the segments is computed: depths on the dose grid's spacing, full lateral reach.
    coarse = resample(density, lattice(dose_grid, density.grid))
    matrix = influence(beams, bixels, coarse, drawn.points, machine, cutoff=FULL_CUTOFF, progress=progress)
    terms = objectives_for(goals, drawn, target, prescription)
    weights, terms, wished = _fluence(matrix, drawn, terms, goals, prescription, chosen, progress)
    fields, reached = _segments(matrix, drawn, terms, weights, bixels, machine, chosen, progress)
    plan, scale = _scaled(fields, beams, density, structures, prescription, machine, dose_grid, progress)
    seen_dose = _dose_of(matrix, fields, machine) * scale * prescription.n_fractions
    return plan, Report(
        judge(goals, sampled(seen_dose, drawn), prescription),
        sum(len(field.segments) for field in fields),
        matrix.n_bixels,
        matrix.n_voxels,
        sum(beam.mu for beam in plan.beams),
        wished,
        reached,
        scale,
    )


def _fluence(
    matrix: Influence,
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
        found = optimise_fluence(
            matrix,
            terms,
            drawn.regions,
            start=weights,
            max_iterations=settings.max_iterations,
            progress=progress,
        )
        weights = found.weights
        dose = apply(matrix, weights) * prescription.n_fractions
        missed = judge(goals, sampled(dose, drawn), prescription)
        if n == settings.n_rounds or all(result.met is not False for result in missed):
            break
        terms = strengthened(terms, missed)
    return found.weights, terms, found.value


def _segments(
    matrix: Influence,
    drawn: Sample,
    terms: tuple[Objective, ...],
    weights: Tensor,
    bixels: Sequence[Bixels],
    machine: Machine,
    settings: Settings,
    progress: Progress | None,
) -> tuple[tuple[Field, ...], float]:
    """Segments of all beams with their best weights, and the objective of their dose."""
    parts = np.split(weights.numpy().astype(np.float64), matrix.beam_starts[1:-1])
    fields: tuple[Field, ...] = tuple(
        Field(own, tuple(sequence(part, own, machine.mlc, settings.n_levels, settings.min_area)))
        for part, own in zip(parts, bixels, strict=True)
    )
    objective = partial(evaluate, terms, drawn.regions)
    dose = doses(matrix, fields, machine)
    fields, _ = reweight(fields, dose, objective, max_iterations=settings.max_iterations, progress=progress)
    # Short segments go, and the others make up for them.
    fields, kept = without_short(fields, settings.min_mu * machine.fluence_per_mu)
    fields, result = reweight(
        fields, dose[:, kept], objective, max_iterations=settings.max_iterations, progress=progress
    )
    return without_short(fields, settings.min_mu * machine.fluence_per_mu / 2)[0], result.value


def _dose_of(matrix: Influence, fields: Sequence[Field], machine: Machine) -> Tensor:
    """Dose of the weighted segments at the optimiser's points (Gy in one fraction)."""
    weights = [segment.weight for field in fields for segment in field.segments]
    return doses(matrix, fields, machine) @ torch.tensor(weights, dtype=torch.float32)


def _scaled(
    fields: Sequence[Field],
    beams: Sequence[Beam],
    density: Volume,
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
    dose = calculate(plan, density, _around(target, structures.grid, dose_grid), machine, progress=progress)
    scale = scale_for(histogram(dose, target, structures.grid), prescription)
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


def scale_for(target: Dvh, prescription: Prescription) -> float:
    """Factor on a dose that sets its median in the target to the prescription, or covers the target.

    Where D98% would stay under 95 % of the prescription it is raised as far as D2% of 107 % allows;
    D95% of 95 % comes before that.
    """
    prescribed = prescription.dose_gy
    median, d98, d95, d2 = (dose_at_share(target, x) for x in (50.0, 98.0, 95.0, 2.0))
    if d95 <= 0:
        raise ValueError(
            "expected dose in the target, got none in 5 % of it; check the isocentre and the body"
        )
    covered = min(_COVERAGE * prescribed / max(d98, 1e-6), _HOTTEST * prescribed / d2)
    return max(prescribed / median, covered, _COVERAGE * prescribed / d95)


def sampled(dose: Tensor, drawn: Sample) -> Mapping[str, Dvh]:
    """Histograms of a dose (Gy) at the optimiser's points, for the structures that were drawn."""
    return {
        name: Dvh(np.sort(dose[inside].numpy().astype(np.float32)), drawn.volumes_cc[name])
        for name, inside in drawn.regions.items()
        if name in drawn.volumes_cc
    }
