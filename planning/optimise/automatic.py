"""A deliverable plan without a planner: from goals to control points with monitor units."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
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
from planning.goals import Goal, about, same_name
from planning.machine import Machine
from planning.plan import Plan, Prescription
from planning.scenarios import NOMINAL, Scenario

from .apertures import window_over
from .arc import sectors
from .delivering import Wish, cut_fields, shaped
from .direct import expect_free_leaves
from .from_goals import Sample, objectives_for, sample
from .monitor_units import scaled
from .outlook import bands_of, sampled
from .raising import fluence_for
from .reach import reaching
from .settings import Settings
from .uncertain import Uncertain, influences, only_as_planned

Progress = Callable[[str, float], None]

# Bixels reach this far beyond the target (mm), and beyond where it may lie.
_MARGIN = 5.0
# Fluence that leaves are shaped from is searched on bixels this long (mm).
_COARSE = 5.0
# Iterations of the fluence that leaves shall sweep over, in each round of priorities.
_SMOOTH = 12
# Arcs see the dose from many directions, which leave room for fewer points.
_ARC_SHARE = 0.35


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


def plan_automatically(
    density: Volume,
    structures: StructureSet,
    prescription: Prescription,
    machine: Machine,
    beams: Sequence[Beam] | Sequence[Arc],
    goals: Sequence[Goal],
    dose_grid: Grid,
    progress: Progress | None = None,
    settings: Settings | None = None,
    deviation: Volume | None = None,
) -> tuple[Plan, Report]:
    """A plan of standing fields or of arcs that reaches the goals as far as it can.

    Bixels that see the target, their dose at sampled points, fluence with the least objective (raised
    priorities where goals are missed), segments or the control points of arcs, whose leaves and monitor
    units are shaped by gradient, and the monitor units scaled on the dose of what is delivered. Where the
    settings tell a set-up error, or a deviation of the density is given, fluence and leaves are robust
    against them, priorities are raised for what is missed in any scenario, and the target is covered in
    the worst one as far as its hottest part allows.

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

    Raises
    ------
    ValueError
        If the target or the body is missing, two goals contradict each other, the dose grid is coarser than
        the bixels, arcs are asked for where leaves may not interdigitate, or for what
        :func:`planning.optimise.reach.reaching`, :func:`planning.optimise.apertures.window_over` and
        :func:`planning.dose.influence.influence` refuse.
    MemoryError
        If the influence would not fit, in all scenarios together, before any of it is computed.
    """
    chosen = settings or Settings()
    target = target_of(structures)
    arcs = [one for one in beams if isinstance(one, Arc)]
    spans = [span for arc in arcs for span in arc.spans()] or [b for b in beams if isinstance(b, Beam)]
    # Arcs begin with what the middles of their sectors would give as standing fields.
    fields = [part.middle for part in sectors(arcs)] if arcs else spans
    margin = _MARGIN + chosen.setup_error_mm
    bixels = reaching(structures, density, fields, machine, dose_grid, margin)
    free = bool(arcs) or (chosen.shape_leaves and machine.mlc.interdigitation)
    if arcs:
        expect_free_leaves(machine)
    drawn = sample(
        structures,
        dose_grid,
        [name for name in structures.structures if about(goals, name)],
        _ARC_SHARE if arcs else 1.0,
    )
    terms = objectives_for(goals, drawn, target, prescription)
    scenarios = chosen.scenarios(deviation)
    robust = {t.structure for t in terms if about(goals, t.structure)} if chosen.robust_organs else set()
    # As the dose of what is delivered is computed: depths on the dose grid's spacing, full reach.
    tissue = resample(density, lattice(dose_grid, density.grid))
    seen = partial(
        _seen,
        scenarios=scenarios,
        density=tissue,
        drawn=drawn,
        robust={target, *robust},
        machine=machine,
        deviation=deviation,
        progress=progress,
    )
    voxels = positions(structures.grid, torch.nonzero(structures.mask(target)).numpy().astype(np.float64))
    coarse = window_over(voxels, fields, machine, margin, _COARSE) if free else None
    uncertain = seen(fields, [coarse.bixels] * len(fields) if coarse else bixels)
    weights, terms, wished = fluence_for(
        goals,
        terms,
        uncertain,
        drawn,
        prescription,
        aggregate=chosen.aggregate,
        n_rounds=chosen.n_rounds,
        max_iterations=min(_SMOOTH, chosen.max_iterations) if arcs else chosen.max_iterations,
        progress=progress,
    )
    wish = Wish(weights, wished, terms, goals, prescription, drawn)
    if coarse is None:
        made = cut_fields(fields, bixels, wish, uncertain, machine, chosen, progress)
    else:
        window = window_over(voxels, spans, machine, margin)
        uncertain = seen(spans, [window.bixels] * len(spans))
        made = shaped(arcs or fields, coarse, window, wish, uncertain, tissue, machine, chosen, progress)
    plan, scale = scaled(
        Plan(made.beams, prescription, machine.name),
        scenarios,
        density,
        structures,
        machine,
        dose_grid,
        deviation=deviation,
        progress=progress,
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
        wished,
        made.objective,
        scale,
        scenarios,
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
) -> Uncertain:
    """Influence of bixels at the drawn points, in every scenario where there are several."""
    given = (density, drawn.points)
    if len(scenarios) == 1:
        return only_as_planned(
            influence(beams, bixels, *given, machine, cutoff=FULL_CUTOFF, progress=progress)
        )
    return influences(
        scenarios,
        beams,
        bixels,
        *given,
        drawn.regions,
        robust,
        machine,
        deviation=deviation,
        cutoff=FULL_CUTOFF,
        progress=progress,
    )
