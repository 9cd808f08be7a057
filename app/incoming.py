"""Files of one plan, sorted by what they are, and checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
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

    Parameters
    ----------
    paths
        Files, and folders that are searched to their ends; what is no DICOM object of a plan is passed over.

    Raises
    ------
    ValueError
        If there is not exactly one RTPLAN, or more than one RTSTRUCT.
    """
    found = _sorted_by_kind(paths)
    for kind, at_least in (("RTPLAN", 1), ("RTSTRUCT", 0)):
        if not at_least <= len(found[kind]) <= 1:
            raise ValueError(
                f"expected {'one' if at_least else 'at most one'} {kind} among the files, got "
                f"{len(found[kind]) or 'none'}; give the files of one plan"
            )
    structures = found["RTSTRUCT"][0] if found["RTSTRUCT"] else None
    findings = check_set(found["RTPLAN"][0], structures, found["RTDOSE"], found["CT"])
    return Checked({kind: len(files) for kind, files in found.items()}, tuple(findings))


def _sorted_by_kind(paths: Sequence[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {kind: [] for kind in _KINDS.values()}
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(2, "no such file or folder", str(path))
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            kind = _kind(file)
            if kind:
                found[kind].append(file)
    return found


def _kind(file: Path) -> str:
    try:
        header = dcmread(file, specific_tags=["SOPClassUID"], stop_before_pixels=True)
        return _KINDS.get(header.get("SOPClassUID"), "")
    except InvalidDicomError:
        # Some plans of other systems begin without the preamble of a file.
        return _kind_without_preamble(file)
    except Exception:  # noqa: BLE001 - what a broken file makes pydicom raise is not a closed list
        return ""


def _kind_without_preamble(file: Path) -> str:
    try:
        header = dcmread(file, specific_tags=["SOPClassUID"], stop_before_pixels=True, force=True)
        return _KINDS.get(header.get("SOPClassUID"), "")
    except Exception:  # noqa: BLE001 - as above
        return ""
