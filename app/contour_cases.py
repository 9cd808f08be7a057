"""MRI with contours, in whatever layout a folder keeps them.

Found by looking, several in one folder if need be:

- BraTS: ``CASE/CASE-t1n.nii.gz`` and other contrasts with ``CASE-seg.nii.gz``, of any year.
- DICOM: an RTSTRUCT with the MR series that it was drawn on below its folder, or in one beside its own.
- 3D Slicer and label maps: MRI as NIfTI whose names tell their contrasts, with one ``.seg.nrrd``, or with one
  label map (a name with ``label`` or ``seg``) and a table of its names: the ``.txt`` of ITK-SNAP, or a TOML,
  in the same folder or above it in DATA.
- The project's: cases with a ``case.json``.

A case is told of by its number, since names of folders may be names of patients: cases are numbered as their
folders are sorted.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from imaging.brats_folder import find_cases
from imaging.dicom.structure_sets import structure_sets
from imaging.segmentations_reader import label_names

BRATS, RTSTRUCT, SLICER, LABELS, CASES = "BraTS", "RTSTRUCT", "3D Slicer", "label maps", "the project's cases"
_DEEPEST = 5  # folders below the one that is given
_NIFTI = (".nii.gz", ".nii")
_MAP = re.compile(r"(^|[^a-z])(labels?|labelmap|seg|segmentation)([^a-z]|$)")
_VISIT = re.compile(r"(BraTS-[A-Za-z]+-\d{5})-\d{3}")  # a patient and an examination, since BraTS 2023
_TABLES = (".txt", ".toml")


@dataclass(frozen=True, repr=False)
class LabelledFiles:
    """Where one case lies; printing it shows its number alone.

    Parameters
    ----------
    name
        Neutral: ``case 3``.
    layout
        How it is kept.
    patient
        A hash that cases of one patient share.
    folder
        Where its MRI are.
    drawn
        The file of its contours, or its index.
    names
        The table of names of a label map.
    files
        All that it is made of.
    """

    name: str
    layout: str
    patient: str
    folder: Path
    drawn: Path
    names: Path | None = None
    files: tuple[Path, ...] = field(default_factory=tuple)

    def __repr__(self) -> str:
        return f"LabelledFiles({self.name})"


def labelled_cases(folders: Sequence[Path]) -> list[LabelledFiles]:
    """Every case with contours of folders, in the order of their numbers.

    Parameters
    ----------
    folders
        Of one case, or of cases up to five folders down.

    Raises
    ------
    ValueError
        If there is none, a case's index is damaged, or a file of a case lies outside its folder.
    """
    found: dict[Path, LabelledFiles] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError("expected DATA to name folders of MRI with contours, got a path that is none")
        root = folder.resolve()
        for case in _cases(root, None, _DEEPEST):
            for path in case.files:
                if not path.resolve().is_relative_to(root):
                    raise ValueError(
                        "expected files of DATA inside its folder, got a link that leads out; copy them"
                    )
            found.setdefault(case.drawn.resolve(), case)
    if not found:
        raise ValueError(
            "expected cases of MRI with contours (BraTS, RTSTRUCT, .seg.nrrd, label maps with a table of "
            "their names, or the project's), got none; name their folder"
        )
    return [replace(case, name=f"case {n}") for n, case in enumerate(found.values(), start=1)]


def _cases(folder: Path, names: Path | None, deeper: int) -> Iterator[LabelledFiles]:
    """Cases of a folder and of those below it; ``names`` is the table that a folder above has."""
    names = _table(folder) or names
    if (folder / "case.json").is_file():
        yield _own(folder)
    elif case := _nifti(folder, names) or _brats(folder):
        yield case
    elif drawn := structure_sets(folder):
        yield from _dicom(folder, drawn)
    elif deeper:
        below = (p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith("."))
        for path in below:
            yield from _cases(path, names, deeper - 1)


def _own(folder: Path) -> LabelledFiles:
    index = folder / "case.json"
    try:
        told = json.loads(index.read_text(encoding="utf-8"))
        patient = str(told["source"]["patient_id"])
    except (ValueError, KeyError, TypeError):
        raise ValueError("expected a case.json as write_case writes it, got a damaged one") from None
    files = tuple(sorted(folder.glob("*.nii.gz")))
    return LabelledFiles("", CASES, _hashed(patient or str(folder)), folder, index, files=(index, *files))


def _brats(folder: Path) -> LabelledFiles | None:
    if not any(folder.glob("*seg.nii.gz")):
        return None
    try:
        case = find_cases(folder)[0]
    except ValueError:
        return None
    if case.folder != folder or case.seg is None:
        return None
    visit = _VISIT.fullmatch(folder.name)
    patient = visit[1] if visit else str(folder)
    files = (case.seg, *case.contrasts.values())
    return LabelledFiles("", BRATS, _hashed(patient), folder, case.seg, files=files)


def _nifti(folder: Path, names: Path | None) -> LabelledFiles | None:
    segments = sorted(folder.glob("*.seg.nrrd"))
    images = scans(folder)
    maps = sorted(p for p in _niftis(folder) if p not in images)
    told = _hashed(str(folder))
    if len(segments) == 1 and images:
        return LabelledFiles("", SLICER, told, folder, segments[0], files=(segments[0], *images))
    if len(maps) == 1 and images and names is not None:
        return LabelledFiles("", LABELS, told, folder, maps[0], names, (maps[0], names, *images))
    return None


def _dicom(folder: Path, drawn: Sequence[tuple[Path, str]]) -> Iterator[LabelledFiles]:
    images = tuple(sorted(p for p in folder.rglob("*") if p.is_file()))
    for path, patient in drawn:
        yield LabelledFiles("", RTSTRUCT, _hashed(patient or str(folder)), folder, path, files=images)


def scans(folder: Path) -> list[Path]:
    """NIfTI files of a folder that are no label maps, by their names."""
    return [path for path in _niftis(folder) if not _MAP.search(_stem(path))]


def _niftis(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name.endswith(_NIFTI))


def _stem(path: Path) -> str:
    return path.name.lower().removesuffix(".gz").removesuffix(".nii")


def _table(folder: Path) -> Path | None:
    """The table of label names of a folder; files that are none are passed over."""
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in _TABLES):
        try:
            label_names(path)
        except ValueError:
            continue
        return path
    return None


def _hashed(patient: str) -> str:
    return hashlib.sha256(patient.encode()).hexdigest()
