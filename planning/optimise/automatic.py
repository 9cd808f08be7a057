"""A deliverable plan without a planner: from goals to control points with monitor units."""

from collections.abc import Sequence

from imaging.grid import Grid
from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.arcs import Arc
from planning.arrange import target_of
from planning.beams import Beam
from planning.goals import Goal
from planning.machine import Machine
from planning.plan import Plan, Prescription

from .from_goals import Sample, objectives_for
from .making import Progress, Report, Task, made_for
from .objectives import Objective
from .settings import Settings


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
    given = (density, structures, prescription, machine, beams, goals, dose_grid, progress)
    target = target_of(structures)

    def aim(drawn: Sample) -> tuple[Objective, ...]:
        return objectives_for(goals, drawn, target, prescription)

    return made_for(Task(*given, settings or Settings(), deviation), aim)
