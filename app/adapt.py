"""``spindose adapt``: a second MRI of a patient who was planned before, replanned from that plan."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from imaging.grid import Grid
from imaging.resample import resample_structures
from imaging.shapes import Mask
from imaging.structures import RoiType, StructureSet, named

from . import head_ct
from .console import Progress
from .first_plan import First, expect_same_patient, moved, without_targets
from .patient import kept_structures, planned_on
from .plan_organs import Organs
from .predicted_dose import with_prediction
from .publish import Summary, publish
from .read_scans import scan_step
from .request import Request, Target
from .robust import expect_uncertainty
from .steps import Walk, file_hash
from .targets import expect_seen, gtv_of, target_key

# Of CTs that may be, fewer than a first plan takes: bands are wider for it by as much as so few tell less.
_N_DRAWS = 4


def asked_again(first: First, seed: int | None, allow_unapproved: bool = False) -> Request:
    """What the first plan was asked for, with the networks that foretell doses today.

    Parameters
    ----------
    first
        The first plan; what it says of models that nobody has approved stays said.
    seed
        What UIDs follow from; fresh ones where there is none.
    allow_unapproved
        Whether networks that nobody has approved may foretell the dose.

    Raises
    ------
    ValueError
        If an approved model's files were altered.
    """
    request = with_prediction(replace(first.request, seed=seed), allow_unapproved)
    return replace(request, mark=request.mark or first.request.mark)


def walk_adapted(
    first: First,
    mri: Path,
    target: Target | None,
    out: Path,
    request: Request,
    progress: Progress,
    series: int | None = None,
) -> Summary:
    """From a second scan on disk to a plan as :func:`app.plan.walk_plan` leaves it.

    Parameters
    ----------
    first
        The first plan, whose CT and organs are moved to where the second scan shows the head.
    mri
        NIfTI file or DICOM series.
    target
        The gross tumour of the day; with none the first plan's, moved with the head.
    out
        Where results go; an earlier run there is gone on with.
    request
        What is asked for.
    progress
        Called with what happens now and the share of it that is done.
    series
        Which series of a DICOM folder to take where there are several, 1 for the first.

    Raises
    ------
    ValueError
        If the scan is another patient's, or it or the target cannot be planned, in one sentence.
    """
    expect_uncertainty(request)
    drawn = "of the first plan" if target is None else target_key(target)
    inputs = {"first plan": first.seal, "MRI": file_hash(mri), "target": drawn}
    walk = Walk(out, progress)
    scan = scan_step(walk, mri, request.seed, series)
    expect_same_patient(first, scan)
    mr = scan.volumes["mr"]
    gtv = None if target is None else gtv_of(target, scan)
    if gtv is not None:
        expect_seen(gtv(head_ct.ct_grid(mr.grid)))
    head = walk.step(
        "synthetic_ct",
        "First synthetic CT and organs, moved",
        {"first": first.seal},
        lambda: moved(first, mr, walk.inside),
        head_ct.write,
        head_ct.read,
        after=("scan",),
    )
    structures = kept_structures(head.case)
    gtv = gtv or _first_gtv(structures)
    organs = Organs(without_targets(structures), whole=True)
    planned = planned_on(walk, scan, head, organs, drawn, gtv, request, n_draws=_N_DRAWS)
    return publish(walk, planned, request, inputs)


def _first_gtv(structures: StructureSet) -> Callable[[Grid], Mask]:
    """The first plan's gross tumour, where it was moved to."""
    name = named(structures, RoiType.GTV)[0]
    only = replace(structures, structures={name: structures.structures[name]})
    return lambda grid: resample_structures(only, grid).mask(name)
