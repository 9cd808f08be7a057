"""Hospitals that train together: ``python -m benchmarks.federation --openkbp DIR --keep KEPT``.

Two experiments (:mod:`benchmarks.federation_arms`): OpenKBP's training patients as five hospitals, by levels
of prescription and by voxels, unequal and unlike, who learn to predict dose, judged on the 33 validation
patients in one place; and three synthetic hospitals, each with a scanner of its own, who learn to make CT of
MRI (:mod:`benchmarks.federation_scanners`). No choice saw a validation patient. Several runs may share the
arms (--arms, --seeds, --no-record) before one sums them up.
"""

import argparse
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.dose_material import prepare_doses
from app.dose_sources import dose_sources
from app.federation.dose_task import DoseTask
from app.federation.learning import Weights, score
from app.federation.study import Study
from app.federation.tasks import dose_run

from .federation_arms import LEAD, Experiment, arm, summary
from .federation_faults import refused_requests, scaling, survived_faults
from .federation_scanners import scanners
from .parts import Targets, missed
from .record import report, say

TARGETS: Targets = {"federated_over_centralised": ("<=", 1.05), "federated_over_best_single_site": ("<", 1.0)}
SEEDS = 3
_MODEL = {"shape": [64, 48, 48], "net": {"features": [16, 24, 40, 56, 48, 16], "stages": 1}}
_PLAIN = Study("hospitals", "dose", _MODEL, rounds=8, steps=25, least_sites=3)
_FINE = 40.0  # mm³ of a voxel; above it a hospital's scans are coarse


def main() -> int:
    """Every arm of every seed, refusals, faults and scaling, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--openkbp", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument(
        "--which", choices=("openkbp", "scanners"), nargs="*", default=["openkbp", "scanners"]
    )
    parser.add_argument("--arms", nargs="*")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(SEEDS)))
    parser.add_argument("--no-record", action="store_true")
    parser.add_argument("--kept", action="store_true", help="sum up the arms and seeds that are there")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    makers: dict[str, Callable[[Path], Experiment]] = {
        "openkbp": partial(openkbp, asked.openkbp),
        "scanners": scanners,
    }
    done = {}
    for name in asked.which:
        of = makers[name](asked.keep)
        done[name] = of, seeds_of(of, asked.arms or of.arms, asked.seeds, asked.kept)
    if asked.no_record:
        return 0
    figures = summary(done["openkbp"][1], done["openkbp"][0]) | {
        "scanners": summary(done["scanners"][1], done["scanners"][0])
    }
    first = next(iter(done["openkbp"][0].sites.values()))
    figures |= refused_requests(asked.keep / "refusals", first, _PLAIN, LEAD)
    figures |= survived_faults(asked.keep / "faults", _PLAIN) | {
        "scaling": scaling(asked.keep / "scaling", _PLAIN)
    }
    not_met = missed(figures, TARGETS)
    report("federation", figures)
    return 1 if not_met else 0


def seeds_of(
    of: Experiment, arms: Sequence[str], seeds: Sequence[int], kept: bool
) -> dict[str, list[dict[str, Any]]]:
    """What each arm gave with each seed, or with those that were kept."""
    found = {
        name: [arm(name, seed, of) for seed in seeds if not kept or of.kept(name, seed).is_file()]
        for name in arms
    }
    return {name: rows for name, rows in found.items() if rows}


def openkbp(folder: Path, keep: Path) -> Experiment:
    """Five hospitals of OpenKBP's training patients."""
    sites = hospitals(folder / "provided-data" / "train-pats", keep / "hospitals")
    judge = partial(validated, folder / "provided-data" / "validation-pats", keep / "ready")
    return Experiment(_PLAIN, sites, keep / "ready", keep, judge, "dose_gy")


def hospitals(patients: Path, folder: Path) -> dict[str, Path]:
    """A folder of each hospital's patients, in hard links: by levels of prescription and voxels' volume."""
    for path in sorted(patients.iterdir()):
        levels = sum((path / f"PTV{dose}.csv").is_file() for dose in (56, 63, 70))
        mm = np.loadtxt(path / "voxel_dimensions.csv")
        size = "" if levels == 1 else (", fine" if float(np.prod(mm)) < _FINE else ", coarse")
        home = folder / f"{levels} level{'s' if levels > 1 else ''}{size}"
        if not (home / path.name).is_dir():
            shutil.copytree(path, home / path.name, copy_function=os.link)
    return {home.name: home for home in sorted(folder.iterdir())}


def validated(patients: Path, ready: Path, study: Study, weights: Weights) -> dict[str, float]:
    """Errors on OpenKBP's validation patients, at the network's resolution."""
    run = dose_run(study)
    cases, _ = prepare_doses(dose_sources([patients]), run.site, run.config.sizes, ready, say)
    return dict(score(weights, DoseTask(run, (), cases)).errors)


if __name__ == "__main__":
    raise SystemExit(main())
