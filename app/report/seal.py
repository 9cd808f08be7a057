"""The seal of a report: the hashes of everything that it was made of, chained, and held against the files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.steps import file_hash
from imaging.atomic import whole_file
from imaging.dicom.header import RESEARCH_ONLY, software_version

_FORMAT = 1
_SEALED_TOO = ("plan.json", "review.html")
_NOTHING = hashlib.sha256(b"spindose report").hexdigest()


def chain(links: Mapping[str, str], first: str = _NOTHING) -> str:
    """The last link of a chain of SHA-256, in which every link holds the one before.

    Parameters
    ----------
    links
        Hash (or other words) by name, in their order.
    first
        The link that this chain goes on from.
    """
    for name, value in links.items():
        first = hashlib.sha256(f"{first} {name} {value}\n".encode()).hexdigest()
    return first


def files_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that a walk made, by its path in the folder: its steps, and what it published."""
    steps = sorted(seal.stem for seal in (folder / ".steps").glob("*.json"))
    files = [file for step in steps for file in sorted((folder / step).rglob("*")) if file.is_file()]
    files += [folder / name for name in _SEALED_TOO if (folder / name).is_file()]
    return {file.relative_to(folder).as_posix(): file_hash(file) for file in files}


def write_seal(
    path: Path, inputs: Mapping[str, str], files: Mapping[str, str], reports: Mapping[str, str]
) -> None:
    """The manifest of a report, and beside it its own hash as ``sha256sum -c`` reads it.

    Whoever can write the folder can make a new seal as well: it tells accidents and later changes, not
    forgery. Against that stands a signature (:mod:`app.report.sign`).

    Parameters
    ----------
    path
        The manifest; an older signature of it is removed.
    inputs
        Hash of each input of the plan, by what it is.
    files
        Hash of each file, by its path in the planned folder.
    reports
        Hash of each report, by its name beside the manifest.
    """
    seal = chain({**inputs, **files})
    told = {
        "note": RESEARCH_ONLY,
        "format": _FORMAT,
        "version": software_version(),
        "inputs": dict(inputs),
        "files": dict(files),
        "seal": seal,
        "reports": dict(reports),
        "chain": chain(reports, seal),
    }
    _beside(path, ".sig").unlink(missing_ok=True)
    with whole_file(path) as part:
        part.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    with whole_file(_beside(path, ".sha256")) as part:
        part.write_text(f"{file_hash(path)}  {path.name}\n", encoding="utf-8", newline="\n")


def expect_sealed(folder: Path) -> dict[str, Any]:
    """The manifest ``report.json`` of a planned folder, if every file in it is as it was sealed.

    Raises
    ------
    ValueError
        If there is none, or it or a file changed, is missing, or came to the DICOM files later.
    """
    told = _read(folder / "report.json")
    for name, sealed in told["files"].items():
        file = folder / name
        if not file.is_file():
            raise ValueError(f"expected every sealed file in the folder, got none at {name}; plan again")
        if file_hash(file) != sealed:
            raise ValueError(f"expected the files as they were sealed, got {name} changed; plan again")
    for name, sealed in told["reports"].items():
        if (folder / name).is_file() and file_hash(folder / name) != sealed:
            raise ValueError(f"expected the report as it was sealed, got {name} changed; plan again")
    dicom = {p.relative_to(folder).as_posix() for p in (folder / "dicom").rglob("*") if p.is_file()}
    later = sorted(dicom - set(told["files"]))
    if later:
        raise ValueError(f"expected no DICOM files beside the sealed ones, got {later[0]}; take it away")
    return told


def _read(path: Path) -> dict[str, Any]:
    """A manifest that agrees with its own hash and its own chain."""
    if not path.is_file():
        raise ValueError(
            "expected a planned folder with a sealed report.json, got one without; run the plan again"
        )
    try:
        told = dict(json.loads(path.read_text(encoding="utf-8")))
        own = _beside(path, ".sha256").read_text(encoding="utf-8").split()[0]
        seal = chain({**told["inputs"], **told["files"]})
        agrees = told["seal"] == seal and told["chain"] == chain(told["reports"], seal)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise ValueError(
            "expected a whole report.json and its hash, got others; run the plan again"
        ) from None
    if told.get("format") != _FORMAT:
        raise ValueError(f"expected a seal of format {_FORMAT}, got {told.get('format')}; run the plan again")
    if own != file_hash(path) or not agrees:
        raise ValueError("expected report.json as it was sealed, got it changed; run the plan again")
    return told


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
