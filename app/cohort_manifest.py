"""What a cohort says of itself: a Croissant manifest, a table of its cases, the parameters of each.

Croissant 1.0 (MLCommons, docs.mlcommons.org/croissant/docs/croissant-spec.html) is JSON-LD. Everything
is written as it is read, case after case, so that a cohort may be of any size.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from imaging.atomic import whole_file
from synth.recipe import to_toml

from .cohort_job import Job, identity_hash
from .console import RESEARCH_ONLY
from .steps import file_hash

CASES, PARAMETERS, MANIFEST, RECIPE = "cases.csv", "parameters.jsonl", "croissant.json", "recipe.toml"

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_MEDIA = {
    ".gz": "application/gzip",
    ".dcm": "application/dicom",
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".csv": "text/csv",
    ".png": "image/png",
    ".toml": "application/toml",
}
# Column of the table, its type, what it holds.
_COLUMNS = (
    ("id", "sc:Text", "Name of the case and of its folder"),
    ("number", "sc:Integer", "Number that the case is drawn from, with recipe and seed"),
    ("kind", "sc:Text", "Kind of tumour"),
    ("lesions", "sc:Integer", "Number of tumours"),
    (
        "tumour_cc",
        "sc:Float",
        "All tumours: rim and necrosis of a glioblastoma, all of others (cc)",
    ),
    ("oedema_cc", "sc:Float", "Volume of oedema (cc)"),
    ("midline_shift_mm", "sc:Float", "Shift of the midline (mm)"),
    ("operated", "sc:Boolean", "Whether the head has been operated on"),
    ("age_years", "sc:Float", "Age (years); empty where heads were given"),
    ("sex", "sc:Text", "Sex, F or M; empty where heads were given"),
    ("brain_cc", "sc:Float", "Volume of the brain before the tumour grew (cc); empty where heads were given"),
    ("field_tesla", "sc:Float", "Field strength (T)"),
)

Row = dict[str, Any]


def row(traits: Mapping[str, Any]) -> Row:
    """One case's line of the table."""
    anatomy, tumour = traits["anatomy"], traits["tumour"]
    return {
        "id": traits["id"],
        "number": traits["number"],
        "kind": tumour["kind"],
        "lesions": tumour["count"],
        "tumour_cc": round(sum(one["core_cc"] for one in tumour["lesions"]), 4),
        "oedema_cc": tumour["volumes_cc"].get("oedema", 0.0),
        "midline_shift_mm": tumour["midline_shift_mm"],
        "operated": bool(traits["surgery"]),
        "age_years": anatomy.get("age_years", ""),
        "sex": anatomy.get("sex", ""),
        "brain_cc": anatomy.get("brain_cc", ""),
        "field_tesla": traits["mri"]["field"],
    }


def write_tables(seals: Iterable[Mapping[str, Any]], out: Path) -> None:
    """``cases.csv`` and ``parameters.jsonl``: a line for each case, in its order."""
    with (
        whole_file(out / CASES) as table_part,
        whole_file(out / PARAMETERS) as lines_part,
        table_part.open("w", newline="") as table,
        lines_part.open("w") as lines,
    ):
        writer = csv.DictWriter(table, [name for name, _, _ in _COLUMNS], lineterminator="\n")
        writer.writeheader()
        for seal in seals:
            writer.writerow(row(seal["traits"]))
            lines.write(json.dumps(seal["traits"]) + "\n")


def write_recipe(job: Job, out: Path) -> None:
    """The recipe with every value, so that the cohort can be made again when defaults have changed."""
    with whole_file(out / RECIPE) as part:
        part.write_text(to_toml(job.recipe))


def write_manifest(
    job: Job, n: int, seals: Iterable[Mapping[str, Any]], beside: list[Path], out: Path
) -> None:
    """``croissant.json``: what the cohort is, the hash of every file, and the fields of its table.

    Parameters
    ----------
    job
        What cases follow from.
    n
        How many there are.
    seals
        Seal of each case.
    beside
        Files of the cohort as a whole.
    out
        The cohort's folder.
    """
    head = json.dumps(_head(job, n), indent=1, ensure_ascii=False)
    tail = json.dumps({"recordSet": [_records()]}, indent=1, ensure_ascii=False)
    with whole_file(out / MANIFEST) as part, part.open("w") as file:
        file.write(head.rstrip("}").rstrip() + ',\n "distribution": [')
        _write_files(_files(seals, beside, out), file)
        file.write("\n ],\n" + tail.lstrip("{").lstrip("\n") + "\n")


def _write_files(files: Iterator[dict[str, str]], file: TextIO) -> None:
    file.writelines(
        (",\n  " if n else "\n  ") + json.dumps(one, ensure_ascii=False) for n, one in enumerate(files)
    )


def _head(job: Job, n: int) -> dict[str, Any]:
    about = job.recipe.about
    origin = "heads made by code, of no patient,"
    if job.heads:
        origin = f"{len(job.heads)} heads given as label maps, whose own licences apply,"
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": about.name,
        "description": (
            f"{n} synthetic heads with brain tumours: MRI, CT, tissue labels and structures for "
            f"radiotherapy planning, made from {origin} a recipe and seed {job.seed} alone. "
            f"{RESEARCH_ONLY} Made by Spindose {version('spindose')}; what it was drawn from stands in "
            f"{RECIPE}, what came of it in {PARAMETERS}."
        ),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": about.licence,
        "url": about.url or f"urn:sha256:{identity_hash(job)}",
        "creator": {"@type": "sc:Organization", "name": about.creator},
        "datePublished": datetime.now(UTC).date().isoformat(),
        "version": "1.0.0",
        "isLiveDataset": False,
        "keywords": ["synthetic", "brain tumour", "MRI", "CT", "segmentation", "radiotherapy"],
        "citeAs": f"{about.creator}: {about.name}, recipe and seed {identity_hash(job)[:16]}",
    }


def _files(seals: Iterable[Mapping[str, Any]], beside: list[Path], out: Path) -> Iterator[dict[str, str]]:
    for path in beside:
        yield _file(str(path.relative_to(out)), path.stat().st_size, file_hash(path))
    for seal in seals:
        for name, one in seal["files"].items():
            yield _file(f"{seal['case']}/{name}", one["bytes"], one["sha256"])


def _file(name: str, n_bytes: int, sha256: str) -> dict[str, str]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{n_bytes} B",
        "encodingFormat": _MEDIA.get(Path(name).suffix, "application/octet-stream"),
        "sha256": sha256,
    }


def _records() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "cases",
        "name": "cases",
        "description": "One line for each case.",
        "key": {"@id": "cases/id"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"cases/{name}",
                "name": name,
                "description": text,
                "dataType": kind,
                "source": {"fileObject": {"@id": CASES}, "extract": {"column": name}},
            }
            for name, kind, text in _COLUMNS
        ],
    }
