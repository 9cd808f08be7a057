"""The patient's walk: from one MRI to a deliverable plan and its dose, step by step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from imaging.case import Case
from imaging.grid import Grid
from imaging.shapes import Mask
from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.contour.barriers import walls
from planning.contour.body import body_of
from planning.contour.prior import contours
from planning.contour.targets import add_target
from planning.density import relative_electron_density
from planning.plan import Plan
from planning.plan_file import read_plan

from . import ct_trust, goal_sheet, head_ct, independent, predicted_dose, robust
from .dose_bands import N_DRAWS
from .optimised import BODY, beams_asked, directions, dose_grid, dose_on, keep_plan, optimised
from .plan_organs import Organs, organs
from .request import Request
from .steps import Walk


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
    found = organs(walk, scan.volumes["mr"], made.case.volumes["ct"].grid, request)
    return planned_on(walk, scan, made, found, target, gtv, request)


def planned_on(
    walk: Walk,
    scan: Case,
    head: head_ct.HeadCt,
    found: Organs,
    target: str,
    gtv: Callable[[Grid], Mask],
    request: Request,
    n_draws: int = N_DRAWS,
) -> Planned:
    """The same on a synthetic CT with organs that are there already.

    Parameters
    ----------
    walk
        Its steps ``scan`` and ``synthetic_ct`` have been walked, and ``organs`` where there was one.
    scan, target, gtv, request
        As for :func:`plan_patient`.
    head, found
        The synthetic CT, and organs on its grid.
    n_draws
        How many CTs that may be the dose is computed on, where networks made the CT.
    """
    volumes = head.case.volumes
    ct, sigma = volumes["ct"], volumes.get(head_ct.SIGMA)
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
                volumes["tissues"],
                gtv(ct.grid),
                request,
                None if sigma is None else ct,
                volumes.get(head_ct.PARTITIONS),
                found,
            ),
        ),
        after=("synthetic_ct", "organs") if "organs" in walk.keys else ("synthetic_ct",),
    )
    structures = kept_structures(drawn)
    told = predicted_dose.foretold(walk, ct, structures, BODY, directions(structures, request), request)
    plan = walk.step(
        "delivery",
        "Plan",
        {
            "prescription": f"{request.prescription.dose_gy:g}/{request.prescription.n_fractions}",
            **beams_asked(request),
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
        ct_trust.told(walk, ct, sigma, plan, structures, dose.grid, n_draws),
        (*head.cautions, *found.cautions),
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


def contoured(
    tissues: Volume,
    gtv: Mask,
    request: Request,
    ct: Volume | None = None,
    parted: Volume | None = None,
    drawn: Organs | None = None,
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
        Organs there, in place of those of the tissues.
    """
    here = _organs_of(tissues, drawn)
    if ct is not None:
        body = replace(here.structures[BODY], mask=body_of(ct))
        here = replace(here, structures={**here.structures, BODY: body})
    known = {} if parted is None else walls(parted, tissues)
    dose = request.prescription.dose_gy
    return add_target(here, gtv, request.ctv_margin, request.ptv_margin, dose, known, request.barriers)


def _organs_of(tissues: Volume, drawn: Organs | None) -> StructureSet:
    found = drawn.structures if drawn else None
    if drawn and found and drawn.whole:
        return found
    of_tissues = contours(tissues)
    return replace(of_tissues, structures={**of_tissues.structures, **(found.structures if found else {})})


def kept_structures(case: Case) -> StructureSet:
    """The structures of a case that must have some."""
    if case.structures is None:
        raise ValueError("expected a case with structures, got none; contour it first")
    return case.structures
