"""Which files of a folder are RT Structure Sets, and whose."""

import warnings
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import RTStructureSetStorage

_PREAMBLE, _MAGIC = 128, b"DICM"


def structure_sets(folder: Path) -> list[tuple[Path, str]]:
    """Structure sets in a folder, or in folders right below it that hold nothing else, and patients' IDs.

    Parameters
    ----------
    folder
        What is looked through; files that are no DICOM are passed over.
    """
    own = _sets_in(folder)
    if own:
        return own
    found = []
    for below in sorted(p for p in folder.iterdir() if p.is_dir()):
        sets, files = _sets_in(below), [p for p in below.rglob("*") if p.is_file()]
        found += sets if len(sets) == len(files) else []
    return found


def _sets_in(folder: Path) -> list[tuple[Path, str]]:
    files = (p for p in sorted(folder.iterdir()) if p.is_file())
    return [(path, patient) for path in files if (patient := _patient(path)) is not None]


def _patient(path: Path) -> str | None:
    """The patient's ID of a structure set; None of any other file."""
    with path.open("rb") as file:
        if file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] != _MAGIC:
            return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about odd values quote them
            header = dcmread(path, specific_tags=["SOPClassUID", "PatientID"], stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError):
        return None
    if header.get("SOPClassUID") != RTStructureSetStorage:
        return None
    return str(header.get("PatientID") or "")
