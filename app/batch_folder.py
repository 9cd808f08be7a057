"""Patients of a folder under neutral names, which stay theirs; and files of a batch that name nobody else."""

import hashlib
import hmac
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from imaging.atomic import whole_file

from .cohort_job import STATE

INDEX = "index.json"
_FOLDERS = "folders.json"
_OURS_ALONE = 0o600
_LEAST_TOLD = 3  # letters of a name
_NO_NAMES = {"t1c", "flair", "dicom", "nifti", "scan", "scans", "series", "head", "mri", "images", "image"}
_NO_MEMORY = ("out of memory", "allocate memory")  # as torch says it


def name_of(k: int) -> str:
    """What a patient is called in a batch."""
    return f"patient-{k:04d}"


def numbered(folder: Path, out: Path) -> dict[int, Path]:
    """Patients' folders by their numbers, which they keep when others come or go.

    The batch remembers them by keyed hashes, so that it need not keep their names.

    Parameters
    ----------
    folder
        Of a folder for each patient; what is hidden, and files beside them, are passed over.
    out
        The batch's own, begun already.

    Raises
    ------
    ValueError
        If there is no patient, or the batch was begun with another folder.
    """
    patients = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not patients:
        raise ValueError("expected a folder with a folder of scans for each patient, got none in it")
    path = out / STATE / _FOLDERS
    known: dict[str, Any] = {"key": secrets.token_hex(32), "numbers": {}}
    if path.is_file():
        known = json.loads(path.read_text())
    key, numbers = bytes.fromhex(known["key"]), dict(known["numbers"])
    whose = _keyed(key, str(folder.resolve()))
    if known.setdefault("folder", whose) != whose:
        raise ValueError("expected the folder that the batch was begun with, got another; give another --out")
    found = {}
    for patient in patients:
        k = numbers.setdefault(_keyed(key, patient.name), len(numbers) + 1)
        found[int(k)] = patient
    write_private(path, {**known, "numbers": numbers})
    return dict(sorted(found.items()))


def write_private(path: Path, told: Mapping[str, Any]) -> None:
    """A JSON file that its owner alone may read."""
    how = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with whole_file(path) as part, os.fdopen(os.open(part, how, _OURS_ALONE), "w") as file:
        json.dump(told, file, indent=1)


def fingerprint(folder: Path) -> str:
    """Changes when a file of a folder comes, goes, or is written to."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        with suppress(OSError):  # a link that leads nowhere says nothing
            at = path.stat()
            digest.update(f"{path.relative_to(folder)} {at.st_size} {at.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def swept(out: Path, whole: Iterable[int]) -> None:
    """Takes away what a killed run left half done, and patients that are to be done again."""
    there = {name_of(k) for k in whole}
    for path in out.iterdir():
        half = path.name.startswith(".") and ".part." in path.name
        if half or (path.name.startswith("patient-") and path.name not in there):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def reason(error: BaseException, folder: Path) -> str:
    """Why a patient failed, without a word of the path to the scans."""
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return "expected enough memory for a patient, got too little; give --workers fewer"
    if isinstance(error, OSError):
        return f"expected files that can be read and written, got: {error.strerror or type(error).__name__}"
    if not isinstance(error, ValueError):
        return f"expected scans that can be contoured, got {type(error).__name__}; look at them"
    said = str(error).splitlines()[0] if str(error) else "expected other scans"
    return said if not _tells(said, folder) else "expected other scans; contour the patient alone to see why"


def _tells(said: str, folder: Path) -> bool:
    """Whether a sentence holds the name of a patient's folder or of a file in it."""
    names = {name.lower() for name in (folder.name, *(p.name for p in folder.rglob("*")))}
    # A folder of a contrast is nobody's name, and sentences name contrasts.
    telling = {name for name in names if len(name) >= _LEAST_TOLD and name.split(".")[0] not in _NO_NAMES}
    return str(folder) in said or any(name in said.lower() for name in telling)


def _keyed(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), "sha256").hexdigest()
