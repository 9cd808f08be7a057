"""What an evaluation is given: doses, structures and plans, from files of this system or another one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import RTDoseStorage, RTPlanStorage, RTStructureSetStorage

from imaging.dicom.rtdose import read_rtdose
from imaging.dicom.rtstruct_reader import read_contours
from imaging.folder import read_case
from imaging.nifti import read_nifti
from imaging.source import Source
from imaging.structures import TARGETS, RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.check.contoured import contoured_histograms
from planning.check.dvh import Dvh, histograms
from planning.check.findings import Severity
from planning.check.incoming import check_set
from planning.machine import Machine
from planning.plan import Plan
from planning.rtplan_reader import read_rtplan

from .single import Reading, read_with_machine

_GREY = (160, 160, 160)
_NIFTI = (".nii", ".nii.gz")
_KINDS = {RTPlanStorage: "RTPLAN", RTDoseStorage: "RTDOSE", RTStructureSetStorage: "RTSTRUCT"}


@dataclass(frozen=True, eq=False)
class Regions:
    """Structures, however they are drawn.

    Parameters
    ----------
    kinds
        What each structure is for, by its name.
    histograms
        Gives the histogram of every structure in a dose.
    """

    kinds: Mapping[str, RoiType]
    histograms: Callable[[Volume], dict[str, Dvh]]


@dataclass(frozen=True)
class PlanFiles:
    """The files of one plan; what there is none of is None."""

    plan: Path
    dose: Path | None = None
    structures: Path | None = None


def plan_files(path: Path, dose: Path | None = None, structures: Path | None = None) -> PlanFiles:
    """The files to evaluate: an RTPLAN and what is given with it, or those that a folder holds.

    Parameters
    ----------
    path
        An RTPLAN; the folder of a finished ``spindose plan``; or any folder with one RTPLAN in it.
    dose, structures
        Taken instead of those in the folder.

    Raises
    ------
    ValueError
        If there is nothing at the path, or a folder holds no RTPLAN or several of a kind.
    """
    if path.is_file():
        return PlanFiles(path, dose, structures)
    if not path.is_dir():
        raise ValueError("expected an RTPLAN or a folder that holds one, got a path where there is nothing")
    inside = path / "dicom" if (path / "dicom").is_dir() else path
    found: dict[str, list[Path]] = {kind: [] for kind in _KINDS.values()}
    for file in sorted(p for p in inside.rglob("*") if p.is_file()):
        kind = _kind(file)
        if kind:
            found[kind].append(file)
    taken = {"RTDOSE": dose, "RTSTRUCT": structures}
    for kind, files in found.items():
        if len(files) > 1 and not taken.get(kind):
            raise ValueError(
                f"expected one {kind} in the folder, got {len(files)}; name the one that you mean"
            )
    if not found["RTPLAN"]:
        raise ValueError("expected a folder with an RTPLAN, got one without; name the RTPLAN")
    return PlanFiles(
        found["RTPLAN"][0], dose or _only(found["RTDOSE"]), structures or _only(found["RTSTRUCT"])
    )


def read_dose(path: Path) -> tuple[Volume, Source]:
    """A dose (Gy) from an RTDOSE or a NIfTI file, and whose it is.

    Raises
    ------
    ValueError
        If the file is neither, or holds values below 0.
    """
    if not path.is_file():
        raise ValueError("expected an RTDOSE or a NIfTI file of a dose, got a path where there is no file")
    if not path.name.endswith(_NIFTI):
        return read_rtdose(path)
    dose = read_nifti(path, Quantity.DOSE)
    if float(dose.data.min()) < 0:
        raise ValueError("expected doses of 0 Gy and more, got some below; give a dose, not a difference")
    return dose, Source()


def expect_together(dose: Volume, source: Source, other: Volume, owner: Source) -> None:
    """Refuse two doses of which the headers say that they are of two patients or frames of reference.

    NIfTI names neither, and is taken at the caller's word.

    Raises
    ------
    ValueError
        If they do not belong together.
    """
    if source.patient_id and owner.patient_id and source.patient_id != owner.patient_id:
        raise ValueError("expected files of one patient, got those of two; check that they belong together")
    if dose.frame and other.frame and dose.frame != other.frame:
        raise ValueError(
            "expected doses in one frame of reference, got two; register them, or compute both on one scan"
        )


def read_plan_and_machine(path: Path, reading: Reading) -> tuple[Plan, Machine | None, list[str]]:
    """An RTPLAN, a machine with its leaves where one is described here, and what to say of that.

    Parameters
    ----------
    path
        The RTPLAN.
    reading
        What is asked for beside it; a machine that is named there must have the plan's leaves.

    Raises
    ------
    ValueError
        As :func:`planning.rtplan_reader.read_rtplan`, and for a named machine as
        :func:`app.single.read_with_machine`.
    """
    plan = read_rtplan(path, prescription=reading.prescription, fraction_group=reading.fraction_group)
    try:
        with_leaves, machine, cautions = read_with_machine(path, reading)
    except ValueError as error:
        if reading.machine:
            raise
        # The plan itself could be read: nothing is said of its leaves and speed, and why.
        return plan, None, [str(error)]
    return with_leaves, machine, cautions


def expect_of_one_piece(files: PlanFiles) -> list[str]:
    """What to look at in a plan and what came with it, one sentence each.

    Raises
    ------
    ValueError
        If the files must not be used together, as :func:`planning.check.incoming.check_set` finds.
    """
    findings = check_set(
        files.plan, _if_dicom(files.structures), [dose for dose in [_if_dicom(files.dose)] if dose]
    )
    for finding in findings:
        if finding.severity is Severity.REFUSED:
            raise ValueError(finding.sentence)
    return [finding.sentence for finding in findings]


def _if_dicom(path: Path | None) -> Path | None:
    """A file that may be DICOM; masks and NIfTI files say nothing of whose they are."""
    return path if path is not None and path.is_file() and not path.name.endswith(_NIFTI) else None


def read_regions(path: Path, dose: Volume, source: Source) -> Regions:
    """Structures of an RTSTRUCT, or masks: a folder that Spindose wrote, or one NIfTI file for each.

    Parameters
    ----------
    path
        The RTSTRUCT or the folder; NIfTI masks have the names of their structures.
    dose, source
        The dose that the structures are laid over, and whose it is.

    Raises
    ------
    ValueError
        If there is neither, or they belong to another patient or frame of reference.
    """
    if path.is_dir():
        return _of_masks(_masks(path), dose)
    if not path.is_file():
        raise ValueError("expected an RTSTRUCT or a folder of masks, got a path where there is nothing")
    # A NIfTI dose says whose it is no more than where it lies: then only the contours can be looked at.
    drawn = read_contours(path, source if source.frame else None, other_series=True)
    if not drawn.rois:
        raise ValueError("expected structures with contours, got none; draw them and export again")
    kinds = {name: roi.kind for name, roi in drawn.rois.items()}
    return Regions(kinds, lambda other: contoured_histograms(other, drawn))


def _of_masks(structures: StructureSet, dose: Volume) -> Regions:
    if structures.frame and dose.frame and structures.frame != dose.frame:
        raise ValueError("expected structures in the dose's frame of reference, got those of another")
    return Regions(
        {name: s.kind for name, s in structures.structures.items()},
        lambda other: histograms(other, structures),
    )


def _masks(folder: Path) -> StructureSet:
    """Masks that Spindose kept as a case, or one NIfTI file for each structure."""
    for kept in (folder, folder / "masks", folder / "contours"):
        if (kept / "case.json").is_file():
            case = read_case(kept)
            if case.structures is not None:
                return case.structures
    files = sorted(p for p in folder.iterdir() if p.name.endswith(_NIFTI))
    if not files:
        raise ValueError("expected a folder of NIfTI masks, or one that Spindose wrote, got another folder")
    volumes = {
        file.name.removesuffix(".gz").removesuffix(".nii"): read_nifti(file, Quantity.LABEL) for file in files
    }
    grid = next(iter(volumes.values())).grid
    if any(volume.grid != grid for volume in volumes.values()):
        raise ValueError("expected masks on one grid, got several; resample them to one")
    return StructureSet(
        grid,
        {name: Structure(volume.data[0] > 0, _kind_by_name(name), _GREY) for name, volume in volumes.items()},
    )


def _kind_by_name(name: str) -> RoiType:
    """What a structure is for by the first letters of its name (AAPM TG-263), as in an RTSTRUCT."""
    if name.upper() in {"BODY", "EXTERNAL"}:
        return RoiType.EXTERNAL
    return next((kind for kind in TARGETS if name.upper().startswith(kind.value)), RoiType.ORGAN)


def _kind(file: Path) -> str:
    """RTPLAN, RTDOSE or RTSTRUCT; empty for anything else."""
    try:
        header = dcmread(file, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except (InvalidDicomError, OSError, ValueError):
        return ""
    return _KINDS.get(header.get("SOPClassUID"), "")


def _only(files: list[Path]) -> Path | None:
    return files[0] if len(files) == 1 else None
