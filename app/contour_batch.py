"""``spindose contour-batch``: every patient of a folder, overnight; one that fails stops no other."""

import csv
import json
import logging
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imaging.atomic import whole_file
from models.artefacts import sha256

from .batch_folder import INDEX, fingerprint, name_of, numbered, reason, swept, write_private
from .console import RESEARCH_ONLY, Progress
from .contour_models import ContourModels
from .contoured import Asked, contour_scans
from .drawn_folder import Entries, begun, enter, journal, kept
from .patient_scans import patient_scans
from .spread import TRIES, Died, Do, Way, cluster, processes, spread
from .workers import sensible_workers

SUMMARY, TABLE = "batch.json", "batch.csv"
GIB_EACH = 2.4  # of memory for one head of 1 mm
_LAYOUT = 1
_DONE, _FAILED = "contoured", "failed"
_COLUMNS = ("patient", "state", "reason", "contrasts", "look_at", "seconds")

Record = Mapping[str, Any]
Open = Callable[[Do], AbstractContextManager[Way]]


@dataclass(frozen=True, repr=False)
class Batch:
    """What is to be contoured.

    Parameters
    ----------
    folder
        Of a folder for each patient, as :func:`app.patient_scans.patient_scans` reads it.
    out
        Where results go; an earlier run there is gone on with.
    models, derive, register, device
        As :class:`app.contoured.Asked` has them.
    index
        Whether a private file there says which patient is which.
    """

    folder: Path
    out: Path
    models: ContourModels
    derive: tuple[str, ...] = ()
    register: bool = False
    device: str = "cpu"
    index: bool = True

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise ValueError("expected a folder with a folder for each patient, got a path that is none")
        here, there = self.folder.resolve(), self.out.resolve()
        if there.is_relative_to(here) or here.is_relative_to(there):
            raise ValueError("expected --out beside the patients' folder, got one inside the other")


def way_of(n: int | None, address: str, device: str) -> Open:
    """How patients are spread: over processes of this machine, or a Ray cluster.

    Parameters
    ----------
    n
        Processes; as many as cores and memory allow where None, and one where they share a GPU.
    address
        Of the cluster; empty to work on this machine.
    device
        Where networks run.

    Raises
    ------
    ValueError
        If both are given.
    """
    if n is not None and address:
        raise ValueError("expected --workers or --cluster, got both; a cluster has workers of its own")
    if address:
        return lambda do: cluster(do, address, GIB_EACH)
    most = 1 if device.startswith("cuda") else 1024
    return lambda do: processes(do, n or sensible_workers(most, GIB_EACH))


def walk_batch(batch: Batch, way: Open, progress: Progress) -> dict[str, Any]:
    """Contours of every patient, each in a folder of its own under a neutral name.

    ``batch.json`` and ``batch.csv`` tell of each, without who it is, and are there from the first patient
    on. Killed at any time, the same call goes on: whole patients stay as they are, if neither their scans nor
    their results were changed since; those that failed are tried again.

    Parameters
    ----------
    batch
        What is asked for.
    way
        How patients are spread.
    progress
        Called with what happens now and the share of it that is done.

    Raises
    ------
    ValueError
        If there is no patient, or the folder holds something else, or an earlier run with other settings.
    """
    out = batch.out
    with begun(out, _settings(batch), "batch"):
        patients = numbered(batch.folder, out)
        _write_index(batch, patients)
        inputs = {k: fingerprint(folder) for k, folder in patients.items()}
        entries = _whole(out, inputs, progress)
        swept(out, entries)
        records = {k: entry["traits"]["record"] for k, entry in entries.items() if k in patients}
        left, n = [k for k in patients if k not in records], len(patients)
        progress(f"{n} patients", len(records) / n)
        with journal(out) as file, way(partial(contour_patient, batch, patients)) as open_way:
            for k, told in spread(open_way, left):
                records[k] = _record(k, told)
                if records[k]["state"] == _DONE:
                    files = sorted(p for p in (out / name_of(k)).rglob("*") if p.is_file())
                    enter(file, out, k, files, {"record": records[k], "scans": inputs[k]})
                _publish(batch, records)
                progress(f"{n} patients", len(records) / n)
        swept(out, [k for k, of in records.items() if of["state"] == _DONE] + list(entries))
        return _publish(batch, records)


def contour_patient(batch: Batch, patients: Mapping[int, Path], k: int) -> Record:
    """One patient contoured, or why it was not; never an error."""
    start, folder, out = time.monotonic(), patients[k], batch.out / name_of(k)
    try:
        with _silent():
            scans = patient_scans(folder)
            shutil.rmtree(out, ignore_errors=True)  # of a process that died after all was written
            asked = Asked(
                scans.mri,
                out,
                batch.models,
                scans.contrasts,
                scans.series,
                batch.device,
                batch.derive,
                batch.register,
            )
            told = contour_scans(asked, lambda *_: None)
    except Exception as error:  # noqa: BLE001 - whatever scans make a library raise, others go on
        return {"state": _FAILED, "reason": reason(error, folder), "seconds": time.monotonic() - start}
    return {
        "state": _DONE,
        "contrasts": told["contrasts"],
        "look_at": told["look_at"],
        "seconds": time.monotonic() - start,
    }


def lines(told: Mapping[str, Any]) -> list[str]:
    """A table for a person."""
    rows = []
    for of in told["patients"]:
        said = of["reason"] or (f"look at {', '.join(of['look_at'])}" if of["look_at"] else "")
        rows.append(f"{of['patient']}  {of['state']:<9}  {', '.join(of['contrasts']):<18}  {said}".rstrip())
    return [*rows, _counted(told), f"Contours: {told['out']}"]


def _counted(told: Mapping[str, Any]) -> str:
    counts = told["counts"]
    return (
        f"{counts['contoured']} of {len(told['patients'])} patients contoured, {counts['to_look_at']} of "
        f"them with structures to look at; {counts['failed']} failed."
    )


def _settings(batch: Batch) -> dict[str, Any]:
    """What must be the same for contours of two patients to belong to one batch."""
    models = batch.models
    return {
        "layout": _LAYOUT,
        "version": version("spindose"),
        "models": [dict(m) for m in models.models],
        "networks": {name: sha256(path) for name, path in models.files.items()},
        "mark": models.mark,
        "template": [[e.of, e.name, e.kind.value, list(e.color)] for e in models.template],
        "derived structures": list(batch.derive),
        "registration": batch.register,
    }


def _whole(out: Path, inputs: Mapping[int, str], progress: Progress) -> Entries:
    """Patients that are whole, and of whom no scan has changed."""
    known = kept(out, 1_000_000, progress)
    # Nothing is taken away of patients whose folder is elsewhere for now.
    return {k: e for k, e in known.items() if k not in inputs or inputs[k] == e["traits"].get("scans")}


def _write_index(batch: Batch, patients: Mapping[int, Path]) -> None:
    path = batch.out / INDEX
    if batch.index:
        write_private(path, {name_of(k): folder.name for k, folder in patients.items()})
    else:
        path.unlink(missing_ok=True)


def _record(k: int, told: object) -> Record:
    empty = {"patient": name_of(k), "state": _FAILED, "reason": "", "contrasts": [], "look_at": []}
    if isinstance(told, Died):
        why = f"expected a process that lives, got one killed {TRIES} times over; give it more memory"
        return {**empty, "reason": why, "seconds": None}
    of = dict(told) if isinstance(told, Mapping) else {}
    return {**empty, **of, "seconds": round(of.get("seconds", 0.0), 1)}


def _publish(batch: Batch, records: Mapping[int, Record]) -> dict[str, Any]:
    """The tables of a batch as far as it is; gives what the command answers."""
    rows = [records[k] for k in sorted(records)]
    states = Counter(of["state"] for of in rows)
    told = {
        "note": RESEARCH_ONLY,
        "mark": batch.models.mark,
        "models": [dict(m) for m in batch.models.models],
        "counts": {
            "contoured": states[_DONE],
            "to_look_at": sum(bool(of["look_at"]) for of in rows),
            "failed": states[_FAILED],
        },
        "patients": rows,
    }
    with whole_file(batch.out / SUMMARY) as part:
        part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    with whole_file(batch.out / TABLE) as part, part.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, _COLUMNS)
        table.writeheader()
        for of in rows:
            several = {key: " ".join(of[key]) for key in ("contrasts", "look_at")}
            table.writerow({key: of[key] for key in _COLUMNS} | several)
    return {"out": str(batch.out), **told}


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing that libraries say of files: it quotes names."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
