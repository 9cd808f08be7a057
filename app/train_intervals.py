"""``spindose train intervals``: what an ensemble does not know, held against patients that it never saw."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file

from imaging.atomic import whole_file
from imaging.tissue import Tissue
from mr2ct.calibration import Calibration, Observed, calibrated, observed, write_calibration
from mr2ct.convert import SyntheticCt, convert
from mr2ct.unseen import shown
from planning.check.dose_bands import widths_off
from planning.plan import Prescription

from .console import Progress
from .ct_nets import INTERVALS, read_nets
from .dose_bands import SHARE
from .held_out import HeldOut, held_out
from .request import Request
from .steps import file_hash
from .treated import treated_on

_CONTRASTS = ("t1", "t2", "flair")


@dataclass(frozen=True)
class IntervalsRun:
    """One calibration.

    Parameters
    ----------
    weights
        The ensemble; none for the networks that ship.
    patients
        How many synthetic ones; each is seen in one contrast, in turn.
    seed
        Of the patients.
    plans
        Whether bands of dose are calibrated too, on a plan for each.
    request
        How plans are asked for.
    workers
        Processes that share the patients.
    """

    weights: tuple[Path, ...] = ()
    patients: int = 10
    seed: int = 41_000
    plans: bool = True
    request: Request = field(default_factory=lambda: Request(Prescription(60.0, 30)))
    workers: int = 1


def train_intervals(run: IntervalsRun, out: Path, progress: Progress) -> dict[str, Any]:
    """Writes ``mr2ct-intervals.json`` into a folder; what an earlier run there did is gone on with.

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
        Where it lies, factors, and how wide bands of dose had to be.

    Raises
    ------
    ValueError
        If there are no networks, no patients, or the folder holds another calibration.
    """
    if min(run.patients, run.workers) < 1:
        raise ValueError(f"expected one patient and process or more, got {run.patients} and {run.workers}")
    read_nets(run.weights)  # refuses what is none before anything is written
    out.mkdir(parents=True, exist_ok=True)
    _same(out, {"seed": run.seed, "weights": [file_hash(path) for path in run.weights]})
    numbers = range(run.patients)
    _each(run, partial(_tell, run, out), numbers, partial(progress, "CT numbers of patients"))
    calibration = calibrated([_kept(_told(out, k)) for k in numbers])
    off: list[list[float]] = []
    if run.plans:
        _each(run, partial(_plan, run, out, calibration), numbers, partial(progress, "Doses of patients"))
        off = [json.loads(_planned(out, k).read_text()) for k in numbers]
    calibration = replace(calibration, dose_factor=dose_factor(off), plans=sum(map(bool, off)))
    write_calibration(calibration, out / INTERVALS)
    return {"intervals": str(out / INTERVALS), **asdict(calibration)}


def dose_factor(off: Sequence[Sequence[float]]) -> float:
    """What half widths have to be multiplied by to hold their share of points, patients counting alike.

    A patient's points go together, so the guarantee of split conformal prediction is lost; what is left is
    the quantile over all patients, to be checked on others. 1 without any.
    """
    having = [np.sort(one) for one in off if len(one)]
    if not having:
        return 1.0
    n = min(map(len, having))
    pooled = np.concatenate([one[np.linspace(0, len(one) - 1, n).astype(int)] for one in having])
    return float(np.quantile(pooled, SHARE, method="higher"))


def _each(
    run: IntervalsRun, work: Callable[[int], None], numbers: Sequence[int], tell: Callable[[float], None]
) -> None:
    """Work on every patient, in processes of its own where there are several."""
    if run.workers == 1:
        for k in numbers:
            work(k)
            tell((k + 1) / len(numbers))
        return
    with ProcessPoolExecutor(run.workers, get_context("spawn")) as pool:
        waiting = [pool.submit(work, k) for k in numbers]
        for n, done in enumerate(as_completed(waiting)):
            done.result()
            tell((n + 1) / len(numbers))


def _tell(run: IntervalsRun, out: Path, k: int) -> None:
    """What the CT numbers of one patient tell, kept."""
    if _told(out, k).is_file():
        return
    patient = _patient(run, k)
    (scan,) = patient.scans.values()
    here = (patient.tissues.data[0] != Tissue.OUTSIDE) & shown(scan)
    _keep(observed(_found(run, patient), patient.truth, here), _told(out, k))


def _plan(run: IntervalsRun, out: Path, calibration: Calibration, k: int) -> None:
    """How far the true points of one patient's histograms lie from the middle of their bands, kept."""
    if _planned(out, k).is_file():
        return
    patient = _patient(run, k)
    widths = _dose_off(_found(run, patient), patient, calibration, run.request, k)
    with whole_file(_planned(out, k)) as part:
        part.write_text(json.dumps(widths))


def _told(out: Path, k: int) -> Path:
    return out / f"patient_{k:03d}.safetensors"


def _planned(out: Path, k: int) -> Path:
    return out / f"patient_{k:03d}_dose.json"


def _patient(run: IntervalsRun, k: int) -> HeldOut:
    return held_out(run.seed, k, (_CONTRASTS[k % len(_CONTRASTS)],))


def _found(run: IntervalsRun, patient: HeldOut) -> SyntheticCt:
    return convert(next(iter(patient.scans.values())), *read_nets(run.weights))


def _dose_off(
    found: SyntheticCt, patient: HeldOut, calibration: Calibration, request: Request, seed: int
) -> list[float]:
    """In half widths of the bands that a factor of 1 gives; none of a patient who has no target."""
    unscaled = replace(calibration, dose_factor=1.0)
    treated = treated_on(found, patient, unscaled, request, seed)
    return [] if treated is None else widths_off(treated.bands.bands, treated.true_histograms)


def _quiet(_title: str, _share: float) -> None:
    pass


def _keep(told: Observed, path: Path) -> None:
    tensors = {
        f"{kind}/{name}": t for kind in ("ratios", "squares") for name, t in getattr(told, kind).items()
    }
    with whole_file(path) as part:
        save_file(tensors, part)


def _kept(path: Path) -> Observed:
    with safe_open(path, framework="pt") as file:
        found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    kinds = [
        {k.split("/")[1]: t for k, t in found.items() if k.startswith(kind)} for kind in ("ratios", "sq")
    ]
    return Observed(*kinds)


def _same(out: Path, now: dict[str, Any]) -> None:
    """Refuses a folder that an earlier run with other networks or patients left."""
    kept = out / "run.json"
    if kept.is_file() and json.loads(kept.read_text()) != now:
        raise ValueError(
            "expected the networks and patients that this folder was begun with, got others; use a new folder"
        )
    with whole_file(kept) as part:
        part.write_text(json.dumps(now))
