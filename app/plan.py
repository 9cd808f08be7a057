"""``spindose plan``: a user's scan, planned and published."""

from pathlib import Path

from .console import Progress
from .goal_sheet import goals_of
from .head_ct import ct_grid
from .patient import plan_patient
from .publish import Summary, publish
from .read_scans import scan_step
from .request import Request, Target
from .robust import expect_uncertainty
from .steps import Walk, file_hash
from .targets import expect_seen, gtv_of, target_key
from .truth import truth_of_file


def walk_plan(
    mri: Path,
    target: Target,
    out: Path,
    request: Request,
    progress: Progress,
    series: int | None = None,
    true_ct: Path | None = None,
) -> Summary:
    """From a scan on disk to DICOM files, ``plan.json`` and a review page in ``out``.

    Parameters
    ----------
    mri
        NIfTI file or DICOM series.
    target
        The gross tumour.
    out
        Where results go; an earlier run there is gone on with.
    request
        What is asked for.
    progress
        Called with what happens now and the share of it that is done.
    series
        Which series of a DICOM folder to take where there are several, 1 for the first.
    true_ct
        A CT of the patient registered to the MRI, NIfTI or DICOM: the plan is compared on it and never made
        from it.

    Raises
    ------
    ValueError
        If the scan, the target or the request cannot be planned, in one sentence.
    """
    # What cannot be is refused before anybody waits for a synthetic CT.
    goals_of(request)
    expect_uncertainty(request)
    inputs = {"MRI": file_hash(mri), "target": target_key(target)}
    if true_ct is not None:
        inputs["true CT"] = file_hash(_existing(true_ct))
    walk = Walk(out, progress)
    scan = scan_step(walk, mri, request.seed, series)
    gtv = gtv_of(target, scan)
    expect_seen(gtv(ct_grid(scan.volumes["mr"].grid)))
    planned = plan_patient(walk, scan, inputs["target"], gtv, request)
    truth = None
    if true_ct is not None:
        # A scan without a header has a frame that was made up and says nothing of the CT's.
        frame = scan.source.frame if scan.source.modality else ""
        truth = truth_of_file(walk, planned, true_ct, inputs["true CT"], frame)
    return publish(walk, planned, request, inputs, truth)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise ValueError("expected a true CT as a NIfTI file or a DICOM series, got nothing there")
    return path
