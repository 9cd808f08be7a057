"""The plan of ``spindose evaluate ct``: one that is given, or one made on the synthetic CT."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydicom.uid import RTPlanStorage

from imaging.case import Case
from imaging.dicom.opening import open_object
from imaging.resample import resample
from imaging.source import Source
from imaging.volume import Volume
from planning.check.dvh import histograms
from planning.machine import load_machine
from planning.plan import parse_prescription

from .console import Progress
from .ct_dose_figures import on_both
from .evaluate_files import PlanFiles, Regions, expect_of_one_piece, plan_files, read_regions
from .head_ct import ct_grid
from .optimised import optimised
from .patient import contoured
from .request import Request, Target, parse_target
from .single import Reading, read_with_machine
from .targets import expect_seen, gtv_of

_USUAL = "60/30"  # of `spindose plan`


@dataclass(frozen=True)
class Given:
    """A plan that there is.

    Parameters
    ----------
    plan
        An RTPLAN, or a folder that holds one.
    structures
        Its RTSTRUCT or masks; those in the folder for None.
    reading
        How the plan is read.
    spacing
        Voxel size of the dose grid (mm).
    """

    plan: Path
    structures: Path | None
    reading: Reading
    spacing: float


@dataclass(frozen=True)
class Made:
    """A plan to make on the synthetic CT: of what target, and how."""

    target: Target
    request: Request


@dataclass(frozen=True)
class Options:
    """What a command line may say of the dose; nothing is asked for by default.

    Parameters
    ----------
    plan, structures
        As in :class:`Given`.
    make
        Whether to make a plan.
    target, roi
        Of what, as ``spindose plan`` takes it.
    prescription, machine
        In words; what the plan says, or 60/30 and the generic machine, where empty.
    spacing
        Voxel size of the dose grid (mm).
    """

    plan: Path | None = None
    structures: Path | None = None
    make: bool = False
    target: str = ""
    roi: str = ""
    prescription: str = ""
    machine: str = ""
    spacing: float = 3.0


def dose_asked(options: Options) -> Given | Made | None:
    """What is asked for, if anything.

    Raises
    ------
    ValueError
        If it cannot be both, or something is missing or unreadable.
    """
    if options.plan is not None and options.make:
        raise ValueError("expected a plan to recompute or one to make, got both; leave out --plan or --dose")
    if options.make != bool(options.target):
        raise ValueError(
            "expected --dose and --target together, to make a plan, got one without the other; add it"
        )
    if options.plan is not None:
        rx = parse_prescription(options.prescription) if options.prescription else None
        reading = Reading(options.machine, prescription=rx)
        return Given(options.plan, options.structures, reading, options.spacing)
    if options.structures is not None:
        raise ValueError("expected structures beside the plan that they belong to, got no plan; add --plan")
    if not options.make:
        return None
    request = Request(parse_prescription(options.prescription or _USUAL), dose_spacing=options.spacing)
    if options.machine:
        request = replace(request, machine=options.machine)
    return Made(parse_target(options.target, options.roi), request)


def recomputed(
    given: Given, ct: Volume, truth: Volume, sources: tuple[Source, Source], progress: Progress
) -> dict[str, Any]:
    """Figures of a plan's dose on both CTs.

    Parameters
    ----------
    given
        The plan.
    ct, truth
        HU on one grid.
    sources
        Whose the files of these two are.
    progress
        Told what happens now and the share of it that is done.

    Raises
    ------
    ValueError
        If files cannot be read or do not belong together, or there are no structures.
    """
    found = plan_files(given.plan, structures=given.structures)
    if found.structures is None:
        raise ValueError("expected structures beside the plan, got none; add --structures")
    cautions = expect_of_one_piece(PlanFiles(found.plan, None, found.structures))
    frame = str(open_object(found.plan, RTPlanStorage).get("FrameOfReferenceUID") or "")
    if any(source.frame and source.frame != frame for source in sources):
        raise ValueError(
            "expected CTs in the plan's frame of reference, got one in another; register it and write it in "
            "that frame"
        )
    plan, machine, others = read_with_machine(found.plan, given.reading)
    regions = read_regions(found.structures, truth, sources[1])
    figures = on_both(plan, machine, (ct, truth), regions, given.spacing, progress)
    return {"plan": "given", **figures, "cautions": list(dict.fromkeys([*cautions, *others]))}


def seen(made: Made, scan: Case, truth: Volume) -> None:
    """Refuses what cannot be planned before anybody waits for it.

    Raises
    ------
    ValueError
        If the scans lie in two frames of reference, or the MRI does not show the target.
    """
    mr = scan.volumes["mr"]
    if mr.frame and truth.frame and mr.frame != truth.frame:
        raise ValueError(
            "expected an MRI in the true CT's frame of reference, got one in another; register it and write "
            "it in that frame"
        )
    expect_seen(gtv_of(made.target, scan)(ct_grid(mr.grid)))


def made_and_recomputed(
    made: Made, ct: Volume, truth: Volume, scan: Case, tissues: Volume, progress: Progress
) -> dict[str, Any]:
    """Figures on both CTs of a plan that is made on the synthetic one, as ``spindose plan`` makes it.

    Parameters
    ----------
    made
        The target and what is asked for.
    ct, truth
        HU on one grid.
    scan
        The MRI (volume ``mr``) that :func:`seen` let pass, and whose it is.
    tissues
        Its tissues, which organs are drawn from.
    progress
        Told what happens now and the share of it that is done.

    Raises
    ------
    ValueError
        If the target cannot be planned.
    """
    here = resample(ct, tissues.grid)
    labels, gtv = replace(tissues, frame=truth.frame), gtv_of(made.target, scan)(tissues.grid)
    drawn = contoured(labels, gtv, made.request, here)
    plan = optimised(here, drawn, made.request, progress)
    kinds = {name: structure.kind for name, structure in drawn.structures.items()}
    regions = Regions(kinds, lambda dose: histograms(dose, drawn))
    machine = load_machine(plan.machine)
    figures = on_both(plan, machine, (ct, truth), regions, made.request.dose_spacing, progress)
    return {"plan": "made on the synthetic CT", **figures, "cautions": []}
