"""The report of a planned patient: at the end of a walk, or again from the folder that it left."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.patient import Planned, kept_structures
from app.steps import file_hash
from imaging.case import Case
from imaging.folder import read_case
from planning.check.dvh import Dvh, histograms_at, parts_of
from planning.goals import Goal, brain_goals, read_sheet
from planning.plan_file import read_plan

from .facts import Report
from .gather import Found, gather, identity_of, surface_distances
from .html import write_html
from .pdf import write_pdf
from .pictures import apertures
from .seal import expect_sealed, files_of, write_seal
from .sign import expect_signed, sign

_ENDINGS = (".pdf", ".html")


def publish_report(
    folder: Path,
    planned: Planned,
    goals: Sequence[Goal],
    dvhs: Mapping[str, Dvh],
    true_dvhs: Mapping[str, Dvh] | None = None,
) -> None:
    """``report.pdf``, ``report.html`` and their seal ``report.json`` in the folder of a walk.

    Parameters
    ----------
    folder
        Where everything else is written already: the seal holds the hash of every file.
    planned
        What the walk gave.
    goals
        What was asked.
    dvhs
        Histograms of the plan's dose by structure.
    true_dvhs
        The same of its dose on the true CT, where there is one.
    """
    facts, files = _facts(folder), files_of(folder)
    rtplan = folder / "dicom" / "RTPLAN.dcm"
    report = gather(
        Found(planned, facts, goals, dvhs, files, surface_distances(rtplan), true_dvhs, apertures(rtplan))
    )
    _write(folder / "report.pdf", report, facts["inputs"], files)


def report_of_folder(
    folder: Path, out: Path, *, key: Path | None = None, trusted: Path | None = None, identity: bool = False
) -> dict[str, object]:
    """The report of a folder that ``spindose plan`` or ``demo`` left, if no file in it has changed since.

    Parameters
    ----------
    folder
        The planned folder.
    out
        A PDF or HTML file; the other one, and the seal in JSON, are written beside it.
    key
        A private Ed25519 key in PEM to sign the seal with.
    trusted
        A public key in PEM: the folder's own seal must be signed by its owner.
    identity
        Whether the report says whose plan it is.

    Raises
    ------
    ValueError
        If the folder holds no sealed report, a file changed, or a signature is missing or wrong.
    """
    if out.suffix not in _ENDINGS:
        raise ValueError(f"expected a report that ends in .pdf or .html, got {out.name!r}")
    told = expect_sealed(folder)
    written = {_ending(out, ending).resolve() for ending in (*_ENDINGS, ".json")}
    if written & {(folder / name).resolve() for name in told["files"]}:
        raise ValueError(
            "expected a new file or an older report, got the name of a file of the plan; rename it"
        )
    if trusted is not None:
        expect_signed(folder / "report.json", trusted)
    files: dict[str, str] = told["files"]
    found = _found(folder, files, identity=identity)
    _write(out, gather(found), found.facts["inputs"], files)
    manifest = _ending(out, ".json")
    signature = None if key is None else sign(manifest, key)
    return {
        "report": str(out),
        "seal": told["seal"],
        "manifest": str(manifest),
        "signature": None if signature is None else str(signature),
        "files": len(files),
    }


def _write(out: Path, report: Report, inputs: Mapping[str, str], files: Mapping[str, str]) -> None:
    paths = [_ending(out, ending) for ending in _ENDINGS]
    write_pdf(paths[0], report)
    write_html(paths[1], report)
    write_seal(_ending(out, ".json"), inputs, files, {path.name: file_hash(path) for path in paths})


def _ending(out: Path, ending: str) -> Path:
    return out.with_name(out.stem + ending)


def _found(folder: Path, files: Mapping[str, str], *, identity: bool) -> Found:
    """What the steps of a walk kept."""
    ct = read_case(folder / "synthetic_ct").volumes["ct"]
    structures = kept_structures(read_case(folder / "contours"))
    dose = read_case(folder / "dose").volumes["dose"]
    # The report looks at the plan on its CT; the MRI is sealed with the rest.
    planned = Planned(Case({}), ct, structures, read_plan(folder / "delivery" / "plan.json"), dose)
    parts = parts_of(structures)
    own = folder / "delivery" / "goals.toml"
    true_dose = folder / "true_dose"
    rtplan = folder / "dicom" / "RTPLAN.dcm"
    return Found(
        planned,
        _facts(folder),
        read_sheet(own.read_text(encoding="utf-8")) if own.is_file() else brain_goals(),
        histograms_at(dose, parts),
        files,
        surface_distances(rtplan),
        histograms_at(read_case(true_dose).volumes["dose"], parts) if true_dose.is_dir() else None,
        apertures(rtplan),
        identity_of(rtplan) if identity else {},
    )


def _facts(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "plan.json").read_text(encoding="utf-8")))
