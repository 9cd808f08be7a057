"""A deliverable plan without a planner: from goals to control points with monitor units."""

from planning.plan import Plan

from .from_goals import Sample, objectives_for
from .making import Report, Task, made_for
from .objectives import Objective


def plan_automatically(task: Task) -> tuple[Plan, Report]:
    """A plan of standing fields or of arcs that reaches the goals as far as it can.

    Bixels that see the target, their dose at sampled points, fluence with the least objective (raised
    priorities where goals are missed), segments or the control points of arcs, whose leaves and monitor
    units are shaped by gradient, and the monitor units scaled on the dose of what is delivered. Where the
    settings tell a set-up error, or a deviation of the density is given, fluence and leaves are robust
    against them, priorities are raised for what is missed in any scenario, and the target is covered in
    the worst one as far as its hottest part allows.

    Parameters
    ----------
    task
        What it is made for and with.

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

    def aim(drawn: Sample) -> tuple[Objective, ...]:
        return objectives_for(task.goals, drawn, task.target, task.prescription)

    return made_for(task, aim)
