"""The patient's walk: from one MRI to a deliverable plan and its dose, step by step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from imaging.case import Case
from imaging.grid import Grid, axial, positions
from imaging.shapes import Mask
from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.arcs import Arc
from planning.arrange import arrange, arrange_arcs
from planning.beams import Beam
from planning.contour.barriers import walls
from planning.contour.body import body_of
from planning.contour.prior import contours
from planning.contour.targets import add_target
from planning.density import relative_electron_density
from planning.dose.forward import calculate
from planning.machine import load_machine
from planning.optimise.automatic import plan_automatically
from planning.optimise.making import Task
from planning.optimise.mimic import plan_mimicking, quickly
from planning.plan import Plan
from planning.plan_file import read_plan, write_plan

from . import ct_trust, goal_sheet, head_ct, independent, predicted_dose, robust
from .console import Progress
from .plan_organs import organs
from .request import Request, Technique
from .steps import Walk

BODY = "Body"
_AIR_AROUND = 6.0  # mm of dose grid beyond the body


@dataclass(frozen=True, eq=False)
class Planned:
    """What the walk gave for one patient.

    Parameters
    ----------
    scan
        The MRI (volume ``mr``) and whose it is.
    ct
        Synthetic CT (HU) on an upright grid.
    structures
        Organs and targets, on the grid of the CT.
    plan
        Beams with their segments.
    dose
        Total dose of the segments (Gy) on the dose grid.
    robustness
        How it fares in every scenario, where that was asked for.
    independent
        How far its dose is from the second engine's.
    trust
        Where the synthetic CT may be off and what that does to dose, where networks made it.
    cautions
        What the reader of the synthetic CT must know, one sentence each.
    predicted
        The dose that the plan mimics, where networks foretold one.
    """

    scan: Case
    ct: Volume
    structures: StructureSet
    plan: Plan
    dose: Volume
    robustness: Mapping[str, object] = field(default_factory=dict)
    independent: Mapping[str, object] = field(default_factory=dict)
    trust: ct_trust.Trust | None = None
    cautions: tuple[str, ...] = ()
    predicted: predicted_dose.Foretold | None = None


def plan_patient(
    walk: Walk, scan: Case, target: str, gtv: Callable[[Grid], Mask], request: Request
) -> Planned:
    """A plan for one scan, every step kept in the walk's folder.

    Parameters
    ----------
    walk
        Keeps the steps; its step ``scan`` has been walked.
    scan
        Holds the MRI as the volume ``mr``.
    target
        Hash or text that the target follows from.
    gtv
        Gives the gross tumour on a grid.
    request
        What is asked for.
    """
    made = walk.step(
        "synthetic_ct",
        "Synthetic CT",
        head_ct.asked(request),
        lambda: head_ct.head_ct(scan.volumes["mr"], request, walk.inside),
        head_ct.write,
        head_ct.read,
        after=("scan",),
    )
    head = made.case.volumes
    ct, sigma = head["ct"], head.get(head_ct.SIGMA)
    found = organs(walk, scan.volumes["mr"], ct.grid, request)
    drawn = walk.case(
        "contours",
        "Contours",
        {
            "target": target,
            "ctv": request.ctv_margin,
            "barriers": str(request.barriers),
            "ptv": request.ptv_margin,
        },
        lambda: Case(
            {},
            contoured(
                head["tissues"],
                gtv(ct.grid),
                request,
                None if sigma is None else ct,
                head.get(head_ct.PARTITIONS),
                found.structures,
            ),
        ),
        after=("synthetic_ct", "organs") if found.structures else ("synthetic_ct",),
    )
    structures = kept_structures(drawn)
    told = predicted_dose.foretold(walk, ct, structures, BODY, directions(structures, request), request)
    plan = walk.step(
        "delivery",
        "Plan",
        {
            "prescription": f"{request.prescription.dose_gy:g}/{request.prescription.n_fractions}",
            **_beams_asked(request),
            "machine": request.machine,
            "dose_spacing": request.dose_spacing,
            **robust.asked(request),
            **goal_sheet.asked(request),
        },
        lambda: optimised(ct, structures, request, walk.inside, sigma, told),
        lambda result, here: keep_plan(result, request, here),
        lambda here: read_plan(here / "plan.json"),
        after=("contours", predicted_dose.STEP) if told else ("contours",),
    )
    kept = walk.case(
        "dose",
        "Dose of the segments",
        {},
        lambda: Case(
            {
                "dose": dose_on(
                    plan,
                    ct,
                    structures.mask(BODY),
                    dose_grid(ct.grid, structures.mask(BODY), request.dose_spacing),
                )
            }
        ),
        after=("delivery",),
    )
    dose = kept.volumes["dose"]
    return Planned(
        scan,
        ct,
        structures,
        plan,
        dose,
        _in_scenarios(walk, plan, ct, sigma, structures, dose, request),
        _second_opinion(walk, plan, ct, structures, dose, request),
        ct_trust.told(walk, ct, sigma, plan, structures, dose.grid),
        (*made.cautions, *found.cautions),
        told,
    )


def _in_scenarios(
    walk: Walk,
    plan: Plan,
    ct: Volume,
    sigma: Volume | None,
    structures: StructureSet,
    dose: Volume,
    request: Request,
) -> Mapping[str, object]:
    """How a plan fares in every scenario; nothing where none was asked for."""
    if not robust.asked(request):
        return {}

    def made() -> dict[str, object]:
        density = relative_electron_density(ct, structures.mask(BODY))
        unsure = robust.deviation_of(request, density, ct, sigma)
        return robust.check(plan, density, structures, dose, request, unsure, walk.inside)

    return walk.step(
        robust.STEP,
        "Dose in every scenario",
        {"margin": request.ptv_margin, **robust.asked(request)},
        made,
        robust.write,
        robust.read,
        after=("dose",),
    )


def _second_opinion(
    walk: Walk, plan: Plan, ct: Volume, structures: StructureSet, dose: Volume, request: Request
) -> Mapping[str, object]:
    """How far a plan's dose is from the second engine's."""
    spacing = max(request.dose_spacing, independent.FINEST)
    body = structures.mask(BODY)
    return walk.step(
        independent.STEP,
        "Dose by the second engine",
        {"spacing": spacing, "points": independent.N_POINTS},
        lambda: independent.check(
            plan,
            relative_electron_density(ct, body),
            structures,
            dose,
            dose_grid(ct.grid, body, spacing),
            walk.inside,
        ),
        independent.write,
        independent.read,
        after=("dose",),
    )


def _beams_asked(request: Request) -> dict[str, object]:
    if request.technique is Technique.VMAT:
        return {"arcs": list(request.arcs) or request.n_arcs}
    return {"beams": request.n_beams}


def contoured(
    tissues: Volume,
    gtv: Mask,
    request: Request,
    ct: Volume | None = None,
    parted: Volume | None = None,
    drawn: StructureSet | None = None,
) -> StructureSet:
    """Organs of the tissues, with GTV, CTV and PTV; the body is that of a CT which other means made.

    Parameters
    ----------
    tissues
        Labels (:class:`imaging.tissue.Tissue`).
    gtv
        Gross tumour on their grid.
    request
        Margins, barriers and dose.
    ct
        HU on the same grid, where they do not follow from the tissues.
    parted
        Flags (:class:`imaging.partition.Partition`) there; without them the CTV is cut at bone alone.
    drawn
        Organs that networks drew there, in place of those of the tissues.
    """
    of_tissues = contours(tissues)
    structures = {**of_tissues.structures, **(drawn.structures if drawn else {})}
    if ct is not None:
        structures[BODY] = replace(structures[BODY], mask=body_of(ct))
    here = replace(of_tissues, structures=structures)
    known = {} if parted is None else walls(parted, tissues)
    dose = request.prescription.dose_gy
    return add_target(here, gtv, request.ctv_margin, request.ptv_margin, dose, known, request.barriers)


def kept_structures(case: Case) -> StructureSet:
    """The structures of a case that must have some."""
    if case.structures is None:
        raise ValueError("expected a case with structures, got none; contour it first")
    return case.structures


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
