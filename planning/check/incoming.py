"""A plan that comes in with its structures, dose and CT: whether they are of one piece.

Every departure is told in one sentence that names no patient, no UID and no file.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import RTDoseStorage, RTPlanStorage, RTStructureSetStorage

from imaging.dicom.files import image_headers
from imaging.dicom.opening import complete_object, open_object
from planning.plan import Prescription
from planning.rtplan_reader import read_rtplan

from .findings import Finding, Severity, unreadable
from .incoming_beams import beam_findings
from .incoming_belonging import belonging_findings
from .incoming_content import dose_findings, structure_findings
from .incoming_set import IncomingSet

__all__ = ["Finding", "Severity", "check_set"]


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
        came = IncomingSet(
            plan=open_object(plan, RTPlanStorage),
            structures=None if structures is None else open_object(structures, RTStructureSetStorage),
            doses={path: open_object(path, RTDoseStorage) for path in doses},
            ct=[header for path in ct for _, header in image_headers(path)],
        )
    except ValueError as error:
        return [unreadable(error)]
    beams = _told(beam_findings(came.plan))
    findings = [
        *_told(belonging_findings(came)),
        *beams,
        # A reader that stumbles over what has been told says nothing new.
        *(_told(_readable(plan, came.plan)) if not _any_refused(beams) else []),
        *_told(structure_findings(came)),
        *[finding for path in came.doses for finding in _told(dose_findings(path, came.plan))],
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


def _readable(path: Path, plan: Dataset) -> Iterator[Finding]:
    """Whether the plan is one that can be computed: the reader's own sentence where it is not."""
    for group in plan.get("FractionGroupSequence") or []:
        # What is prescribed has been looked at; any prescription will do here.
        read_rtplan(path, prescription=Prescription(1.0, 1), fraction_group=int(group.FractionGroupNumber))
    yield from ()
