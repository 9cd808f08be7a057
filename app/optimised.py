"""The plan of a walk: its beams, its optimisation on a CT, its dose, and what is kept of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from imaging.grid import Grid, axial, positions
from imaging.shapes import Mask
from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.arcs import Arc
from planning.arrange import arrange, arrange_arcs
from planning.beams import Beam
from planning.density import relative_electron_density
from planning.dose.forward import calculate
from planning.machine import load_machine
from planning.optimise.automatic import plan_automatically
from planning.optimise.making import Task
from planning.optimise.mimic import plan_mimicking, quickly
from planning.plan import Plan
from planning.plan_file import write_plan

from . import goal_sheet, predicted_dose, robust
from .console import Progress
from .request import Request, Technique

BODY = "Body"
_AIR_AROUND = 6.0  # mm of dose grid beyond the body


def beams_asked(request: Request) -> dict[str, object]:
    """What a request says of beams, for the key of a step."""
    if request.technique is Technique.VMAT:
        return {"arcs": list(request.arcs) or request.n_arcs}
    return {"beams": request.n_beams}


def optimised(
    ct: Volume,
    structures: StructureSet,
    request: Request,
    progress: Progress,
    sigma: Volume | None = None,
    told: predicted_dose.Foretold | None = None,
) -> Plan:
    """A plan that meets its goals as well as it can, on a CT that may be off by ``sigma``.

    Where a dose was foretold the plan mimics it, which takes fewer points and rounds than goals alone.
    """
    density = relative_electron_density(ct, structures.mask(BODY))
    task = Task(
        density,
        structures,
        request.prescription,
        load_machine(request.machine),
        directions(structures, request),
        goal_sheet.goals_of(request),
        dose_grid(ct.grid, structures.mask(BODY), request.dose_spacing),
        progress,
        robust.settings_of(request),
        robust.deviation_of(request, density, ct, sigma),
    )
    if told is None:
        return plan_automatically(task)[0]
    quick = quickly(task.settings)
    return plan_mimicking(replace(task, settings=quick), told.dose)[0]


def directions(structures: StructureSet, request: Request) -> tuple[Beam, ...] | tuple[Arc, ...]:
    """Where the plan's beams come from."""
    if request.technique is Technique.VMAT:
        return arrange_arcs(structures, request.n_arcs, request.arcs)
    return arrange(structures, request.n_beams)


def keep_plan(plan: Plan, request: Request, here: Path) -> None:
    """A plan, and the goals that it was made from where they are the planner's own."""
    write_plan(plan, here / "plan.json")
    goal_sheet.keep(request, here)


def dose_on(plan: Plan, ct: Volume, body: Mask, grid: Grid) -> Volume:
    """Total dose (Gy) of a plan's segments on a CT, on a dose grid."""
    return calculate(plan, relative_electron_density(ct, body), grid, load_machine(plan.machine))


def dose_grid(grid: Grid, body: Mask, spacing: float) -> Grid:
    """An upright grid of cubes of ``spacing`` mm around a body on ``grid``."""
    inside = body.nonzero()
    ends = torch.stack([inside.amin(0), inside.amax(0)]).double().numpy()
    low, high = positions(grid, ends)
    return axial(
        np.minimum(low, high) - _AIR_AROUND, np.maximum(low, high) + _AIR_AROUND, (spacing, spacing, spacing)
    )
