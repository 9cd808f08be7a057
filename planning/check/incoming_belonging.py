"""Whether what came in is of one patient, in one frame of reference, and names each other."""

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from .findings import Finding, flagged, refused
from .incoming_set import IncomingSet, text


def belonging_findings(came: IncomingSet) -> Iterator[Finding]:
    """What does not belong together, one sentence for each thing and kind of file."""
    yield from _patients(came)
    yield from _frames(came)
    yield from _references(came)


def _patients(came: IncomingSet) -> Iterator[Finding]:
    """Whether all files are of one patient, by ID; names and birth dates are looked at too."""
    own = text(came.plan, "PatientID")
    if not own:
        yield flagged("expected a plan with a patient ID, got none; ask whose it is")
    for what, headers in came.beside.items():
        if any(text(header, "PatientID") != own for header in headers):
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
    a, b = (text(header, keyword).rstrip("^").casefold() for header in (one, other))
    return bool(a and b) and a != b


def _frames(came: IncomingSet) -> Iterator[Finding]:
    """Whether all positions are counted from one place."""
    own = text(came.plan, "FrameOfReferenceUID")
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
        return {text(header, "FrameOfReferenceUID")}
    named = [*(header.get("ReferencedFrameOfReferenceSequence") or [])]
    drawn = [
        text(roi, "ReferencedFrameOfReferenceUID") for roi in header.get("StructureSetROISequence") or []
    ]
    return {*drawn, *(text(frame, "FrameOfReferenceUID") for frame in named)} or {""}


def _named(dataset: Dataset, keyword: str) -> set[str]:
    """SOP instances that a sequence of references names."""
    return {text(reference, "ReferencedSOPInstanceUID") for reference in dataset.get(keyword) or []}


def _references(came: IncomingSet) -> Iterator[Finding]:
    """Whether plan, structures, dose and images name each other."""
    own = text(came.plan, "SOPInstanceUID")
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
    if made_on and text(came.structures, "SOPInstanceUID") not in made_on:
        yield refused(
            "expected the structures that the plan was made on, got another structure set; take that one"
        )
    missing = _images(came.structures) - {text(image, "SOPInstanceUID") for image in came.ct}
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
