"""Files of one plan, sorted by what they are, and checked."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    RTDoseStorage,
    RTPlanStorage,
    RTStructureSetStorage,
)

from planning.check.incoming import Finding, Severity, check_set

_KINDS = {
    RTPlanStorage: "RTPLAN",
    RTStructureSetStorage: "RTSTRUCT",
    RTDoseStorage: "RTDOSE",
    CTImageStorage: "CT",
    EnhancedCTImageStorage: "CT",
    LegacyConvertedEnhancedCTImageStorage: "CT",
}


_TOLD = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "ReferencedStructureSetSequence",
    "ReferencedFrameOfReferenceSequence",
]
Header = tuple[Path, Dataset]


@dataclass(frozen=True)
class Checked:
    """What was looked at, and what was found.

    Parameters
    ----------
    counts
        Files of each kind.
    findings
        What is wrong.
    """

    counts: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def is_refused(self) -> bool:
        """Whether anything forbids the use of the files."""
        return any(finding.severity is Severity.REFUSED for finding in self.findings)

    def as_json(self) -> dict[str, object]:
        """For a program."""
        found = [{"severity": f.severity.value, "sentence": f.sentence} for f in self.findings]
        return {"checked": self.counts, "refused": self.is_refused, "findings": found}

    def lines(self) -> list[str]:
        """For a person: what forbids the use first."""
        found = sorted(self.findings, key=lambda finding: finding.severity is not Severity.REFUSED)
        said = [f"{finding.severity.value}: {finding.sentence}" for finding in found]
        return [f"Checked {_counted(self.counts)}.", *(said or ["Nothing was found."])]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in counts.items())


def check_files(paths: Sequence[Path]) -> Checked:
    """What is wrong with the plan among files and folders, and with what lies beside it.

    Of several structure sets the one that the plan names is taken, of several CT series the one that the
    structures were drawn on.

    Parameters
    ----------
    paths
        Files, and folders that are searched to their ends; what is no DICOM object of a plan is passed over.

    Raises
    ------
    ValueError
        If there is not exactly one RTPLAN, or several RTSTRUCT of which the plan names none.
    """
    found = [(file, header) for file in _files(paths) if (header := _header(file)) is not None]
    of_kind = {
        kind: [pair for pair in found if _KINDS[pair[1].SOPClassUID] == kind] for kind in _KINDS.values()
    }
    if len(of_kind["RTPLAN"]) != 1:
        raise ValueError(
            f"expected one RTPLAN among the files, got {len(of_kind['RTPLAN']) or 'none'}; "
            "give the files of one plan"
        )
    plan = of_kind["RTPLAN"][0]
    structures = _made_on(plan[1], of_kind["RTSTRUCT"])
    used = {
        "RTPLAN": [plan[0]],
        "RTSTRUCT": [file for file, _ in structures],
        "RTDOSE": [file for file, _ in of_kind["RTDOSE"]],
        "CT": [file for file, _ in _drawn_on(structures, of_kind["CT"])],
    }
    drawn = used["RTSTRUCT"][0] if structures else None
    findings = check_set(plan[0], drawn, used["RTDOSE"], used["CT"])
    return Checked({kind: len(files) for kind, files in used.items()}, tuple(findings))


def _made_on(plan: Dataset, structures: Sequence[Header]) -> list[Header]:
    """The structure set that a plan was made on, or the only one."""
    named = {str(r.get("ReferencedSOPInstanceUID")) for r in plan.get("ReferencedStructureSetSequence") or []}
    own = [pair for pair in structures if str(pair[1].get("SOPInstanceUID")) in named]
    chosen = own or list(structures)
    if len(chosen) > 1:
        raise ValueError(
            f"expected one RTSTRUCT among the files, got {len(chosen)}; give the files of one plan"
        )
    return chosen


def _drawn_on(structures: Sequence[Header], images: Sequence[Header]) -> list[Header]:
    """The images of the series that structures were drawn on, or all of them where none is."""
    series = {
        str(series.get("SeriesInstanceUID"))
        for _, header in structures
        for frame in header.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for series in study.get("RTReferencedSeriesSequence") or []
    }
    return [pair for pair in images if str(pair[1].get("SeriesInstanceUID")) in series] or list(images)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(2, "no such file or folder", str(path))
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _header(file: Path) -> Dataset | None:
    """What tells the objects of a plan apart; None for any other file."""
    for force in (False, True):  # some plans of other systems begin without the preamble of a file
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                header = dcmread(file, specific_tags=_TOLD, stop_before_pixels=True, force=force)
                return header if header.get("SOPClassUID") in _KINDS else None
        except InvalidDicomError:
            continue
        except Exception:  # noqa: BLE001 - what a broken file makes pydicom raise is not a closed list
            return None
    return None
