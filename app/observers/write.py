"""``spindose evaluate contours``: an observer study in tables, pictures and one page."""

import csv
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.console import RESEARCH_ONLY, Progress
from app.plain import plain
from app.steps import file_hash
from imaging.atomic import new_folder
from imaging.dicom.header import software_version

from .collected import Collected, Row, Value, collect
from .page import write_page
from .plots import pictures
from .study import FILE, Study, read_study
from .summary import tables

JSON, PAGE = "contours.json", "contours.html"
_LONG = (
    "pairs",
    "against_consensus",
    "fleiss",
    "volumes",
)  # tables of single contours: files of their own alone
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute


def evaluate_contours(
    path: Path,
    out: Path,
    progress: Progress,
    models: Sequence[str] = (),
    *,
    resample: bool = False,
) -> Mapping[str, Any]:
    """Evaluates a study into ``out``: ``contours.json``, ``contours.html``, PNGs and a CSV of each table.

    Parameters
    ----------
    path
        The study's TOML file or folder.
    out
        A new or empty folder; all files are there or none.
    progress
        Called with what happens and the share that is done.
    models
        Observers that are models, where there is no TOML file to say so.
    resample
        Bring contours on other grids to the first person's.

    Returns
    -------
    Mapping
        What the JSON file holds, and where the files lie.

    Raises
    ------
    ValueError
        If the study cannot be read, or ``out`` holds something.
    """
    with new_folder(out) as part:
        study = read_study(path, models)
        if resample:
            study = dataclasses.replace(study, analysis=dataclasses.replace(study.analysis, resample=True))
        found = collect(study, progress)
        progress("Tables and pictures", 0.0)
        told, drawn = tables(found), pictures(found)
        for name, rows in told.items():
            _write_csv(part / f"{name}.csv", rows)
        for name, png in drawn.items():
            (part / f"{name}.png").write_bytes(png)
        write_page(part / PAGE, found, told, drawn)
        whole = _facts(found, told, path, {f.name: file_hash(f) for f in sorted(part.iterdir())})
        (part / JSON).write_text(json.dumps(whole, indent=1, allow_nan=False), encoding="utf-8")
        progress("Tables and pictures", 1.0)
    return {"page": str(out / PAGE), "json": str(out / JSON), **whole}


def lines(facts: Mapping[str, Any]) -> list[str]:
    """A few lines for a person."""
    dice = [r for r in facts["summary"] if r["figure"] == "dice" and r["compared"].endswith("pairs")]
    said = [
        f"{r['structure']}, {r['compared']}: Dice {_told(r['median'])} "
        f"({_told(r['lower_quartile'])}–{_told(r['upper_quartile'])}), n = {r['n']}"
        for r in dice
    ]
    said += [
        f"{r['model']}, {r['structure']}, {r['figure']}: {r['verdict']}"
        for r in facts["models_against_people"]
        if r["reference"].startswith("staple")
    ]
    said += [
        f"Time saved: {_told(r['saved_percent_median'])} % in the middle of {r['n']} pairs"
        for r in facts["times"][:1]
    ]
    if facts["missing"]:
        said.append(f"Missing:  {len(facts['missing'])} contours, listed in missing.csv")
    return [
        *said,
        *(f"Caution:  {note}" for note in facts["cautions"]),
        f"Page:     {facts['page']}",
        f"Figures:  {facts['json']}",
    ]


def _told(value: Value | None) -> str:
    return "–" if value is None else f"{float(value):.3g}"


def _facts(
    found: Collected, told: Mapping[str, list[Row]], path: Path, files: Mapping[str, str]
) -> dict[str, Any]:
    study = found.study
    whole = {
        "note": RESEARCH_ONLY,
        "version": software_version(),
        "title": study.title,
        "patients": len(study.patients),
        "observers": [
            {"name": o.name, "kind": "model" if o.model else "person", "site": o.site}
            for o in study.observers
        ],
        "structures": list(found.structures),
        "analysis": dataclasses.asdict(study.analysis),
        "region": "STAPLE: the box around its readers' contours and region mm more; kappas: that of all",
        **{name: rows for name, rows in told.items() if name not in _LONG},
        "cautions": list(found.notes),
        "inputs": {**_study_hash(path, study), **found.inputs},
        "files": dict(files),
    }
    return dict(plain(whole))


def _study_hash(path: Path, study: Study) -> dict[str, str]:
    file = path if path.is_file() else study.folder / FILE
    return {"study": file_hash(file)} if file.is_file() else {}


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    """A table; its first line says what it is for, and NaN is an empty cell."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# {RESEARCH_ONLY}\n")
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Value) -> Value:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return "" if math.isnan(value) else value
