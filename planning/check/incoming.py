"""A plan that comes in with its structures, dose and CT: whether they are of one piece.

Every departure is told in one sentence that names no patient, no UID and no file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RTDoseStorage, RTPlanStorage, RTStructureSetStorage

from imaging.dicom.files import image_headers
from imaging.dicom.opening import complete_object, open_object
from imaging.dicom.rtdose import read_rtdose
from imaging.grid import Grid, indices
from planning.plan import Prescription
from planning.rtplan_machine import treatment_beams
from planning.rtplan_reader import read_rtplan

from .findings import Finding, Severity, flagged, refused, unreadable
from .incoming_beams import beam_findings, n_fractions, prescribed

__all__ = ["Finding", "Severity", "check_set"]

# The hottest voxel of a plan over what is prescribed: less would not treat, and even a dose prescribed to
# the 50 % isodose is not hotter. Our choice.
_COLDEST, _HOTTEST = 0.8, 2.5
# The same for the dose of one fraction, of at least so many that the two cannot be mixed up.
_ONE_FRACTION = (0.8, 1.6)
_FEWEST_FRACTIONS = 3


@dataclass(frozen=True, eq=False)
class _Set:
    """Headers of what came, and where the doses are."""

    plan: Dataset
    structures: Dataset | None
    doses: Mapping[Path, Dataset]
    ct: Sequence[Dataset]

    @property
    def beside(self) -> dict[str, Sequence[Dataset]]:
        """What came with the plan, by what it is."""
        drawn = [] if self.structures is None else [self.structures]
        return {"structures": drawn, "dose": list(self.doses.values()), "CT": self.ct}


def check_set(
    plan: Path, structures: Path | None = None, doses: Sequence[Path] = (), ct: Sequence[Path] = ()
) -> list[Finding]:
    """What is wrong with a plan and what came with it; nothing where all is well.

    Whether all are of one patient and one frame of reference; whether dose, structures and images are
    those that the plan and each other name; whether monitor units, shares, leaves and fractions can be;
    whether what is prescribed to is drawn; whether the dose kept its scaling; whether a machine here is
    the plan's.

    Parameters
    ----------
    plan
        An RTPLAN.
    structures
        The RTSTRUCT that came with it.
    doses
        RTDOSE files that came with it.
    ct
        Images of the CT that came with it.
    """
    try:
        came = _Set(
            plan=open_object(plan, RTPlanStorage),
            structures=None if structures is None else open_object(structures, RTStructureSetStorage),
            doses={path: open_object(path, RTDoseStorage) for path in doses},
            ct=[header for path in ct for _, header in image_headers(path)],
        )
    except ValueError as error:
        return [unreadable(error)]
    beams = _told(beam_findings(came.plan))
    findings = [
        *_told(_patients(came)),
        *_told(_frames(came)),
        *_told(_references(came)),
        *beams,
        # A reader that stumbles over what has been told says nothing new.
        *(_told(_readable(plan, came.plan)) if not _any_refused(beams) else []),
        *_told(_structures(came)),
        *[finding for path in came.doses for finding in _told(_dose(path, came.plan))],
    ]
    return list(dict.fromkeys(findings))


def _any_refused(findings: Sequence[Finding]) -> bool:
    return any(finding.severity is Severity.REFUSED for finding in findings)


def _told(check: Iterator[Finding]) -> list[Finding]:
    """What a check finds; what it cannot read is found too."""
    found: list[Finding] = []
    try:
        with complete_object("set of files"):
            for finding in check:
                found.append(finding)  # noqa: PERF402 - what was found before the file breaks counts
    except ValueError as error:
        found.append(unreadable(error))
    return found


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _patients(came: _Set) -> Iterator[Finding]:
    """Whether all files are of one patient, by ID; names and birth dates are looked at too."""
    own = _text(came.plan, "PatientID")
    if not own:
        yield flagged("expected a plan with a patient ID, got none; ask whose it is")
    for what, headers in came.beside.items():
        if any(_text(header, "PatientID") != own for header in headers):
            yield refused(
                f"expected the {what} of the plan's patient, got another patient's; take the files of one"
            )
        elif any(
            _differ(came.plan, h, word) for h in headers for word in ("PatientName", "PatientBirthDate")
        ):
            yield flagged(
                f"expected the plan's patient in the {what}, got the same ID with another name or birth "
                "date; make sure whose they are"
            )


def _differ(one: Dataset, other: Dataset, keyword: str) -> bool:
    """Whether both say something, and not the same."""
    a, b = (_text(header, keyword).rstrip("^").casefold() for header in (one, other))
    return bool(a and b) and a != b


def _frames(came: _Set) -> Iterator[Finding]:
    """Whether all positions are counted from one place."""
    own = _text(came.plan, "FrameOfReferenceUID")
    if not own:
        yield flagged("expected a plan with a frame of reference, got none; look whether it fits the CT")
        return
    for what, headers in came.beside.items():
        frames = {frame for header in headers for frame in _frames_of(header)}
        if frames - {own, ""}:
            yield refused(
                f"expected the {what} in the plan's frame of reference, got another; take what the plan was "
                "made on, or register the scans first"
            )
        elif "" in frames:
            yield flagged(
                f"expected the {what} in a frame of reference, got none; look whether it fits the plan"
            )


def _frames_of(header: Dataset) -> set[str]:
    if header.SOPClassUID != RTStructureSetStorage:
        return {_text(header, "FrameOfReferenceUID")}
    named = [*(header.get("ReferencedFrameOfReferenceSequence") or [])]
    drawn = [
        _text(roi, "ReferencedFrameOfReferenceUID") for roi in header.get("StructureSetROISequence") or []
    ]
    return {*drawn, *(_text(frame, "FrameOfReferenceUID") for frame in named)} or {""}


def _named(dataset: Dataset, keyword: str) -> set[str]:
    """SOP instances that a sequence of references names."""
    return {_text(reference, "ReferencedSOPInstanceUID") for reference in dataset.get(keyword) or []}


def _references(came: _Set) -> Iterator[Finding]:
    """Whether plan, structures, dose and images name each other."""
    own = _text(came.plan, "SOPInstanceUID")
    for dose in came.doses.values():
        of = _named(dose, "ReferencedRTPlanSequence")
        if of and own not in of:
            yield refused(
                "expected the dose of this plan, got the dose of another plan; take the plan's own dose"
            )
        elif not of:
            yield flagged(
                "expected a dose that names its plan, got one that names none; make sure which it is of"
            )
    made_on = _named(came.plan, "ReferencedStructureSetSequence")
    if came.structures is None:
        if made_on:
            yield flagged("expected the structures that the plan was made on, got none; ask for them")
        return
    if made_on and _text(came.structures, "SOPInstanceUID") not in made_on:
        yield refused(
            "expected the structures that the plan was made on, got another structure set; take that one"
        )
    missing = _images(came.structures) - {_text(image, "SOPInstanceUID") for image in came.ct}
    if came.ct and missing:
        yield refused(
            f"expected the images that the structures were drawn on, got a CT without {len(missing)} of "
            "them; take the whole series"
        )


def _images(structures: Dataset) -> set[str]:
    """SOP instances of the images that a structure set was drawn on."""
    return {
        uid
        for frame in structures.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for series in study.get("RTReferencedSeriesSequence") or []
        for uid in _named(series, "ContourImageSequence")
    }


def _readable(path: Path, plan: Dataset) -> Iterator[Finding]:
    """Whether the plan is one that can be computed: the reader's own sentence where it is not."""
    for group in plan.get("FractionGroupSequence") or []:
        # What is prescribed has been looked at; any prescription will do here.
        read_rtplan(path, prescription=Prescription(1.0, 1), fraction_group=int(group.FractionGroupNumber))
    yield from ()


def _structures(came: _Set) -> Iterator[Finding]:
    """Whether what the plan prescribes to is drawn, and a body and a target are."""
    if came.structures is None:
        return
    rois = {int(roi.ROINumber) for roi in came.structures.get("StructureSetROISequence") or []}
    drawn = {
        int(c.ReferencedROINumber)
        for c in came.structures.get("ROIContourSequence") or []
        if c.get("ContourSequence")
    }
    for reference in came.plan.get("DoseReferenceSequence") or []:
        number = reference.get("ReferencedROINumber")
        if number is not None and int(number) not in drawn:
            lacks = "which has no contours" if int(number) in rois else "which the structure set lacks"
            yield refused(
                f"expected structure {int(number)} that the plan prescribes to among the structures, got "
                f"one {lacks}; take the structures that the plan was made on"
            )
    kinds = {
        _text(o, "RTROIInterpretedType")
        for o in came.structures.get("RTROIObservationsSequence") or []
        if int(o.ReferencedROINumber) in drawn
    }
    for wanted, what in (({"EXTERNAL"}, "a body outline"), ({"GTV", "CTV", "PTV"}, "a target")):
        if not kinds & wanted:
            yield flagged(
                f"expected {what} among the structures ({', '.join(sorted(wanted))}), got none with "
                "contours; name one before the plan is judged"
            )


def _isocenters(plan: Dataset, grid: Grid) -> Iterator[Finding]:
    """Whether the beams meet where the dose lies: a frame of reference can be right by name alone."""
    for beam in treatment_beams(plan):
        points = beam.get("ControlPointSequence") or []
        place = points[0].get("IsocenterPosition") if points else None
        if not place:
            continue
        (index,) = indices(grid, np.asarray(place, dtype=np.float64)[None])
        if (index < -0.5).any() or (index > np.array(grid.shape) - 0.5).any():
            yield flagged(
                f"expected the isocentre of beam {int(beam.BeamNumber)} inside the dose, got one outside it; "
                "look whether plan and dose belong together"
            )
            return


def _dose(path: Path, plan: Dataset) -> Iterator[Finding]:
    """Whether the dose is the whole plan's, in Gy, and of the size of what is prescribed."""
    dose, _ = read_rtdose(path)
    yield from _isocenters(plan, dose.grid)
    hottest = float(dose.data.max())
    if hottest <= 0:
        yield refused("expected a dose above 0 Gy somewhere, got none; export the dose again")
        return
    wanted, fractions = prescribed(plan), n_fractions(plan)
    if wanted is None or _COLDEST <= hottest / wanted <= _HOTTEST:
        return
    share = hottest / wanted * (fractions or 1)
    if fractions and fractions >= _FEWEST_FRACTIONS and _ONE_FRACTION[0] <= share <= _ONE_FRACTION[1]:
        yield refused(
            f"expected the dose of all {fractions} fractions, about {wanted:g} Gy, got one of at most "
            f"{hottest:.3g} Gy as of one fraction; export the dose of the whole plan"
        )
        return
    yield refused(
        f"expected a greatest dose near the prescribed {wanted:g} Gy, got {hottest:.3g} Gy: its scaling is "
        "lost or it is another dose; export the dose again"
    )
