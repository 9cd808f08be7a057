"""``spindose train quality``: what agreement of contours is worth, on patients that no network saw."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from imaging.atomic import whole_file
from planning.contour.quality import calibrated, write_quality

from .console import Progress
from .contour_models import QUALITY
from .contour_score import SETS, scored_patient
from .contoured import read_contourer
from .ct_nets import ZOO
from .spread import processes, spread
from .steps import file_hash

_RUN = "run.json"


@dataclass(frozen=True)
class QualityRun:
    """One calibration.

    Parameters
    ----------
    weights
        Folder of the networks.
    patients
        How many synthetic ones.
    seed
        Of the patients.
    workers
        Processes that share them.

    Raises
    ------
    ValueError
        If there is no patient or no process.
    """

    weights: Path = ZOO
    patients: int = 6
    seed: int = 20_271
    workers: int = 1

    def __post_init__(self) -> None:
        if min(self.patients, self.workers) < 1:
            raise ValueError(
                f"expected one patient and process or more, got {self.patients} and {self.workers}"
            )


def train_quality(run: QualityRun, out: Path, progress: Progress) -> dict[str, Any]:
    """Writes ``contour-quality.json`` into a folder; what an earlier run there did is gone on with.

    Parameters
    ----------
    run
        What to do.
    out
        The folder.
    progress
        Told what happens and the share of it that is done.

    Returns
    -------
    dict
        Where it lies, what it rests on, and each structure's mean Dice.

    Raises
    ------
    ValueError
        If there are no networks, the folder holds another calibration, or a patient's process died twice.
    """
    read_contourer(run.weights)  # refuses what is none before anything is written
    out.mkdir(parents=True, exist_ok=True)
    _same(out, run)
    with processes(partial(_one, run, out), run.workers) as way:
        for n, (k, ended) in enumerate(spread(way, range(run.patients)), start=1):
            _expect_lived(k, ended)
            progress("Contours of patients", n / run.patients)
    rows = [json.loads((out / f"{run.seed}_{k}.json").read_text()) for k in range(run.patients)]
    quality = calibrated(pairs(rows), run.patients)
    with whole_file(out / QUALITY) as part:
        write_quality(quality, part)
    return {"quality": str(out / QUALITY), "patients": run.patients, "spread": quality.spread}


def pairs(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Agreement and Dice of each structure, of what :func:`app.contour_score.scored_patient` gives.

    Those of CTs are left out: the networks' agreement on one is worth something else.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name in SETS:
            for structure, agreement in row[name]["agreement"].items():
                if structure in row[name]["dice"]:
                    found.setdefault(structure, []).append((agreement, row[name]["dice"][structure]))
    return found


def _one(run: QualityRun, out: Path, k: int) -> None:
    scored_patient(run.seed, k, read_contourer(run.weights), out)


def _expect_lived(k: int, ended: object) -> None:
    if ended is not None:
        raise ValueError(f"expected patient {k} to be contoured, but its process died; free some memory")


def _same(out: Path, run: QualityRun) -> None:
    """Refuses a folder of another calibration; more patients may be added to one."""
    hashes = [file_hash(path) for path in sorted(run.weights.glob("contour-*.safetensors"))]
    told = {"seed": run.seed, "weights": hashes}
    path = out / _RUN
    if not path.is_file():
        path.write_text(json.dumps(told))
    elif json.loads(path.read_text()) != told:
        raise ValueError("expected a folder of the same networks and seed, got another's; use a new folder")
