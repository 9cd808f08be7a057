"""``spindose synth cohort``: cases drawn from a recipe and a seed, by many processes, killed and gone on."""

import errno
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imaging.atomic import whole_file
from synth.case import name_of
from synth.recipe import Recipe, parse

from .cohort_cluster import run_cluster
from .cohort_job import STATE, Job, finished, identity, seal_path, software
from .cohort_local import run_local
from .cohort_manifest import (
    CASES,
    MANIFEST,
    PARAMETERS,
    RECIPE,
    row,
    write_manifest,
    write_recipe,
    write_tables,
)
from .cohort_sheet import PAGES, ROWS, write_sheets
from .cohort_summary import Tally, lines, summary
from .cohort_writers import FORMATS, PREVIEW
from .console import Progress
from .workers import sensible_workers

_MOST = 100_000  # case names have five digits
_SUMMARY = "summary.json"
_NAMED = Path(__file__).parent / "recipes"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_WORDS = {
    "layout": "layout of files",
    "version": "version of Spindose",
    "label numbers": "numbers of labels",
    "heads": "heads under --anatomy",
}


@dataclass(frozen=True, eq=False)
class Asked:
    """A cohort as it was asked for.

    Parameters
    ----------
    job
        What cases follow from.
    n
        How many.
    out
        Where they go.
    workers
        Processes of this machine; as many as make sense where None.
    cluster
        Address of a Ray cluster; empty to work on this machine.

    Raises
    ------
    ValueError
        If a number is out of range or the format unknown.
    """

    job: Job
    n: int
    out: Path
    workers: int | None = None
    cluster: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.n <= _MOST:
            raise ValueError(f"expected --n of 1 to {_MOST} cases, got {self.n}")
        if self.job.seed < 0:
            raise ValueError(f"expected --seed of 0 or more, got {self.job.seed}")
        if self.job.form not in FORMATS:
            raise ValueError(f"expected --format {', '.join(FORMATS)}, got {self.job.form!r}")
        if self.workers is not None and not 1 <= self.workers <= 1024:
            raise ValueError(f"expected --workers of 1 to 1024, got {self.workers}")
        if self.workers is not None and self.cluster:
            raise ValueError("expected --workers or --cluster, got both; a cluster has workers of its own")


def recipes() -> list[str]:
    """Names of the recipes that come with the software."""
    return sorted(path.stem for path in _NAMED.glob("*.toml"))


def read_recipe(given: str | None) -> Recipe:
    """A recipe from a TOML file, or one that comes with the software by its name; the default for None.

    Raises
    ------
    ValueError
        If there is no such file or name, or the recipe is bad.
    """
    if given is None:
        return Recipe()
    path = Path(given)
    if not path.is_file() and given in recipes():
        path = _NAMED / f"{given}.toml"
    if not path.is_file():
        raise ValueError(
            f"expected a recipe as a TOML file or one of {', '.join(recipes())}, got no such file; "
            "check --recipe"
        )
    try:
        return parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError("expected a recipe in TOML, got a file that is no UTF-8 text") from None


def walk_cohort(asked: Asked, progress: Progress) -> dict[str, Any]:
    """A cohort in its folder; whatever an earlier run finished there is kept.

    Parameters
    ----------
    asked
        What to make.
    progress
        Called with what happens now and the share of it that is done.

    Returns
    -------
    dict
        JSON values: where things lie, how many cases were made and kept, and the statistical summary.

    Raises
    ------
    ValueError
        If the folder holds something else, a case cannot be made, or the disk is full; whole cases stay.
    """
    out, n = asked.out, asked.n
    try:
        with _opened(asked):
            kept = _kept(asked, progress)
            left = (k for k in range(n) if k not in kept)
            done, title = len(kept), f"{n} cases"
            progress(title, done / n)
            for _ in _run(asked, left):
                done += 1
                progress(title, done / n)
            found = _published(asked, progress)
    except OSError as error:
        if error.errno in _FULL:
            whole = sum(seal_path(out, k).is_file() for k in range(n))
            raise ValueError(
                f"expected room for {n} cases, got a full disk after {whole}, which stay; free some and run "
                "the same command again to go on"
            ) from None
        raise
    return {"made": n - len(kept), "kept": len(kept), **found}


def answer_lines(facts: Mapping[str, Any]) -> list[str]:
    """What a person reads at the end."""
    return [
        *lines(facts["summary"]),
        f"Cases:    {facts['cohort']} ({facts['made']} made, {facts['kept']} kept)",
        f"Manifest: {facts['manifest']}",
        f"Sheet:    {facts['contact_sheets'][0]}",
    ]


def _run(asked: Asked, numbers: Iterator[int]) -> Iterator[int]:
    if asked.cluster:
        return run_cluster(asked.job, numbers, asked.out, asked.cluster)
    workers = asked.workers or sensible_workers(asked.n)
    return run_local(asked.job, numbers, asked.out, workers)


@contextmanager
def _opened(asked: Asked) -> Iterator[None]:
    """The cohort's folder, ours alone: new, or begun by an earlier run of the same cohort."""
    state, out = asked.out / STATE, asked.out
    wanted = json.loads(json.dumps(identity(asked.job)))
    if out.exists() and (not out.is_dir() or (not state.is_dir() and any(out.iterdir()))):
        raise ValueError(
            "expected a new or empty folder for the cohort, or one that an earlier run began; "
            "got one that holds other files"
        )
    if state.is_dir():
        _expect_same(state / "cohort.json", wanted)
    fresh = not out.exists()
    state.mkdir(parents=True, exist_ok=True)
    try:
        with (state / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    "expected a cohort that nobody writes to, got one that another run is making; wait for it"
                ) from None
            if not (state / "cohort.json").is_file():
                with whole_file(state / "cohort.json") as part:
                    part.write_text(json.dumps(wanted, indent=1))
            _swept(out)
            yield
    except OSError:
        if fresh and not (state / "cohort.json").is_file():
            shutil.rmtree(out, ignore_errors=True)  # not even begun
        raise


def _expect_same(path: Path, wanted: Mapping[str, Any]) -> None:
    """Refuse a folder of another cohort, saying in what they differ."""
    try:
        begun = json.loads(path.read_text())
    except FileNotFoundError:
        return  # killed before it began
    except ValueError:
        begun = {}
    begun = begun if isinstance(begun, dict) else {}
    differ = [_WORDS.get(name, name) for name in wanted if begun.get(name) != wanted[name]]
    if differ:
        raise ValueError(
            f"expected a folder begun with the same recipe, seed, format and heads, got one of another "
            f"{' and '.join(differ)}; give another --out"
        )


def _swept(out: Path) -> None:
    """Takes away what a killed run left half done."""
    for path in (*out.glob(".SPD-*.part"), *out.glob(".SPD-*.old"), *out.glob("SPD-*-000")):
        if path.name.startswith(".") or not (out / STATE / f"{path.name}.json").is_file():
            shutil.rmtree(path, ignore_errors=True)
    for path in (*out.glob(".*.part.*"), *(out / STATE).glob(".*.part.*")):
        path.unlink(missing_ok=True)


def _kept(asked: Asked, progress: Progress) -> set[int]:
    """Cases that are whole already.

    Raises
    ------
    ValueError
        If there are more than are asked for.
    """
    numbers = sorted(int(path.name[4:9]) for path in (asked.out / STATE).glob("SPD-*-000.json"))
    if numbers and numbers[-1] >= asked.n:
        raise ValueError(
            f"expected --n of at least {numbers[-1] + 1}, as many as the folder holds already, got {asked.n}"
        )
    kept = set()
    for at, k in enumerate(numbers, start=1):
        if finished(asked.out, k):
            kept.add(k)
        progress("Checking finished cases", at / len(numbers))
    return kept


def _seals(asked: Asked) -> Iterator[dict[str, Any]]:
    for k in range(asked.n):
        yield json.loads(seal_path(asked.out, k).read_text())


def _published(asked: Asked, progress: Progress) -> dict[str, Any]:
    """Tables, summary, contact sheets and manifest of a whole cohort."""
    out, tally = asked.out, Tally(asked.job.recipe)
    title = "Tables, pictures and manifest"
    progress(title, 0.0)
    strips: list[tuple[str, Path]] = []
    for seal in _seals(asked):
        tally.add(seal["traits"])
        if len(strips) < ROWS * PAGES:
            strips.append((_caption(seal["traits"]), out / seal["case"] / PREVIEW))
    found = summary(tally)
    write_tables(_seals(asked), out)
    write_recipe(asked.job, out)
    with whole_file(out / _SUMMARY) as part:
        part.write_text(json.dumps(found, indent=1) + "\n")
    sheets = write_sheets(strips, out)
    progress(title, 0.5)
    beside = [out / CASES, out / PARAMETERS, out / RECIPE, out / _SUMMARY, *sheets]
    write_manifest(asked.job, asked.n, _seals(asked), beside, out)
    progress(title, 1.0)
    return {
        "cohort": str(out),
        "cases": asked.n,
        "seed": asked.job.seed,
        "format": asked.job.form,
        "recipe": identity(asked.job)["recipe"],
        "version": software(),
        "manifest": str(out / MANIFEST),
        "contact_sheets": [str(sheet) for sheet in sheets],
        "summary": found,
    }


def _caption(traits: Mapping[str, Any]) -> str:
    one = row(traits)
    age = f"{one['age_years']:.0f} y {one['sex']}" if one["age_years"] != "" else ""
    size = f" {one['tumour_cc']:.1f} cc" if one["lesions"] else ""
    several = f" × {one['lesions']}" if one["lesions"] > 1 else ""
    operated = ", operated" if one["operated"] else ""
    return (
        f"{name_of(one['number'])}   {age}\n{one['kind']}{several}{size}{operated}\n{one['field_tesla']:g} T"
    )
