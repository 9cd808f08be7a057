"""One case of a cohort made and sealed, by whoever makes it: this machine's processes, or others'."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from imaging.atomic import whole_file
from synth.case import make, name_of
from synth.recipe import Recipe, fingerprint
from synth.subject import Subject

from .cohort_writers import write_made
from .steps import file_hash, whole_folder

STATE = ".cohort"  # beside the cases: what was asked, and a seal for each case that is whole
_LAYOUT = 1
_ROOT = Path(__file__).parents[1]
_ROOMS = ("imaging", "synth")


@dataclass(frozen=True, eq=False)
class Job:
    """What every case of a cohort follows from.

    Parameters
    ----------
    recipe
        What cases are like.
    seed
        Which cohort.
    form
        Format of the files.
    heads
        Heads to vary; none where they are made by code.
    """

    recipe: Recipe
    seed: int
    form: str
    heads: tuple[Subject, ...] = ()


def identity(job: Job) -> dict[str, Any]:
    """What must be the same for two cases to belong to one cohort, as JSON values."""
    return {
        "layout": _LAYOUT,
        "version": software(),
        "recipe": fingerprint(job.recipe),
        "seed": job.seed,
        "format": job.form,
        "label numbers": list(job.recipe.labels.table),
        "heads": [_head_hash(head) for head in job.heads],
    }


@cache
def software() -> str:
    """Version of Spindose with a hash of the code that cases are made by."""
    digest = hashlib.sha256()
    for path in sorted(
        p for room in _ROOMS for p in (_ROOT / room).rglob("*") if p.suffix in (".py", ".json")
    ):
        digest.update(f"{path.relative_to(_ROOT)}\n".encode() + path.read_bytes())
    return f"{version('spindose')} {digest.hexdigest()[:16]}"


def identity_hash(job: Job) -> str:
    """SHA-256 of a cohort's identity."""
    return hashlib.sha256(json.dumps(identity(job), sort_keys=True).encode()).hexdigest()


def produce(job: Job, k: int, folder: Path, threads: int = 1) -> dict[str, Any]:
    """Case k written into an existing, empty folder; gives its seal.

    Parameters
    ----------
    job
        What it follows from.
    k
        Which case.
    folder
        Where its files go.
    threads
        Files packed at once.

    Returns
    -------
    dict
        JSON values: ``case`` (its name), ``software`` that made it, ``files`` (size and SHA-256 of each, by
        path in the folder) and ``traits``.
    """
    torch.set_num_threads(threads)
    made = make(job.recipe, job.seed, k, job.heads)
    write_made(made, folder, job.form, job.recipe.labels.table, threads)
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        "case": made.name,
        "software": software(),
        "files": {
            name: {"bytes": path.stat().st_size, "sha256": file_hash(path)} for name, path in files.items()
        },
        "traits": made.traits,
    }


def keep(job: Job, k: int, out: Path, threads: int = 1) -> None:
    """Case k in the cohort's folder, with its seal: both are there and whole, or neither."""
    folder = out / name_of(k)
    with whole_folder(folder) as empty:
        seal = produce(job, k, empty, threads)
    _sealed(seal, k, out, folder)


def keep_packed(seal: dict[str, Any], files: Mapping[str, bytes], k: int, out: Path) -> None:
    """Case k in the cohort's folder from the bytes of its files, as another machine made them.

    Raises
    ------
    ValueError
        If that machine has another version of the software, whose cases are others.
    """
    if seal["software"] != software():
        raise ValueError(
            f"expected Spindose {software()} on every machine, got {seal['software']}; install one version"
        )
    folder = out / name_of(k)
    with whole_folder(folder) as empty:
        for name, content in files.items():
            path = empty / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    _sealed(seal, k, out, folder)


def seal_path(out: Path, k: int) -> Path:
    """Where the seal of case k lies."""
    return out / STATE / f"{name_of(k)}.json"


def finished(out: Path, k: int) -> bool:
    """Whether case k is whole: its seal is there, and every file is as it says."""
    try:
        files = json.loads(seal_path(out, k).read_text())["files"]
        folder = out / name_of(k)
        here = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        return bool(here == set(files)) and all(
            file_hash(folder / name) == one["sha256"] for name, one in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sealed(seal: dict[str, Any], k: int, out: Path, folder: Path) -> None:
    try:
        with whole_file(seal_path(out, k)) as part:
            part.write_text(json.dumps(seal))
    except BaseException:
        # A case without a seal is nobody's.
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _head_hash(head: Subject) -> str:
    digest = hashlib.sha256(json.dumps(dict(head.traits), sort_keys=True).encode())
    for volume in (head.labels, head.organs):
        digest.update(volume.grid.affine.tobytes() + repr(volume.grid.shape).encode())
        digest.update(volume.data.contiguous().numpy().tobytes())
    return digest.hexdigest()
