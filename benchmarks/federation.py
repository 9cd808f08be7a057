"""Hospitals that train together: ``python -m benchmarks.federation --openkbp DIR --keep KEPT``.

OpenKBP's training patients as five hospitals, by levels of prescription and by voxels, unequal and unlike.
Each alone, all pooled in one place, and federated in several ways, through the gates of real nodes in this
process: equal optimiser steps in a row, the same first weights, 33 validation patients in one place, whom
no choice saw. Every arm and seed is kept when it is done, so that a killed run goes on and several may
share the arms (--arms, --seeds, --no-record) before one sums them up.
"""

import argparse
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.dose_material import prepare_doses
from app.dose_sources import dose_sources
from app.federation.approvals import approve
from app.federation.audit import lines_of
from app.federation.client import replied
from app.federation.dose_task import DoseTask
from app.federation.gate import first_weights, travelling
from app.federation.in_process import InProcessGrid
from app.federation.learning import Weights, learn, parted, score
from app.federation.node_file import NodeFile
from app.federation.privacy import noise_for
from app.federation.result import told_privacy
from app.federation.rounds import trained
from app.federation.study import Study, signed
from app.federation.tasks import dose_run, task_of
from imaging.atomic import whole_file

from .federation_faults import refused_requests, scaling, survived_faults
from .parts import Targets, missed
from .record import report, say

TARGETS: Targets = {"federated_over_centralised": ("<=", 1.05), "federated_over_best_single_site": ("<", 1.0)}
ROUNDS, STEPS, SEEDS = 8, 25, 3
_DELTA, _CLIP = 1e-5, 2.0
_MODEL = {"shape": [64, 48, 48], "net": {"features": [16, 24, 40, 56, 48, 16], "stages": 1}}
_PLAIN = Study("hospitals", "dose", _MODEL, ROUNDS, STEPS, least_sites=3)
_EQUAL = replace(_PLAIN, weighting="equal", privacy="central", clip=_CLIP, delta=_DELTA, noise=1.0)
FEDERATED: Mapping[str, Study] = {
    "fedavg": _PLAIN,
    "fedprox": replace(_PLAIN, strategy="fedprox", proximal=0.01),
    "fedadam": replace(_PLAIN, strategy="fedadam", server_rate=3e-3),
    "median": replace(_PLAIN, aggregation="median"),
    "trimmed mean": replace(_PLAIN, aggregation="trimmed", most_bad=1, least_sites=5),
    "krum": replace(_PLAIN, aggregation="krum", most_bad=1, least_sites=5),
    "8 bits": replace(_PLAIN, bits=8),
    "secure sums": replace(_PLAIN, secure=True, reach=1.0),
    "private, epsilon 8": replace(_EQUAL, noise=noise_for(8.0, ROUNDS, _DELTA)),
    "private, epsilon 1000": replace(_EQUAL, noise=noise_for(1000.0, ROUNDS, _DELTA)),
}
# In one place: as many steps as a site makes, and as many samples in each as all sites together see.
POOLED: Mapping[str, Study] = {"centralised": _PLAIN, "centralised, batch of 5": replace(_PLAIN, batch=5)}
_FINE = 40.0  # mm³ of a voxel; above it a hospital's scans are coarse
_LEAD = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def main() -> int:
    """Every arm of every seed, refusals, faults and scaling, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--openkbp", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--arms", nargs="*")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(SEEDS)))
    parser.add_argument("--no-record", action="store_true")
    parser.add_argument("--kept", action="store_true", help="sum up the arms and seeds that are there")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sites = hospitals(asked.openkbp / "provided-data" / "train-pats", asked.keep / "hospitals")
    arms = asked.arms or [*POOLED, *(f"alone, {name}" for name in sites), *FEDERATED]
    found = {
        name: [
            arm(name, seed, sites, asked.openkbp, asked.keep)
            for seed in asked.seeds
            if not asked.kept or kept(name, seed, asked.keep).is_file()
        ]
        for name in arms
    }
    found = {name: rows for name, rows in found.items() if rows}
    if asked.no_record:
        return 0
    figures = summary(found, sites)
    figures |= refused_requests(asked.keep / "refusals", next(iter(sites.values())), _PLAIN, _LEAD)
    figures |= survived_faults(asked.keep / "faults", _PLAIN) | {
        "scaling": scaling(asked.keep / "scaling", _PLAIN)
    }
    not_met = missed(figures, TARGETS)
    report("federation", figures)
    return 1 if not_met else 0


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


def arm(name: str, seed: int, sites: Mapping[str, Path], openkbp: Path, keep: Path) -> dict[str, Any]:
    """Errors (Gy) of one arm on the validation patients; read where an earlier run kept them."""
    path = kept(name, seed, keep)
    if path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    study = replace({**FEDERATED, **POOLED}.get(name, _PLAIN), seed=seed)
    if name in FEDERATED:
        weights, told = federated(study, sites, keep / path.stem, keep / "ready")
    else:
        folders = list(sites.values()) if name in POOLED else [sites[name.removeprefix("alone, ")]]
        weights, told = in_one_place(study, folders, keep / "ready"), {}
    out = {**told, **validated(study, weights, openkbp, keep / "ready")}
    with whole_file(path) as part:
        part.write_text(json.dumps(out), encoding="utf-8")
    print(name, seed, {k: v for k, v in out.items() if k.endswith("_gy")}, flush=True)
    return out


def kept(name: str, seed: int, keep: Path) -> Path:
    """Where an arm of a seed is kept once it is done."""
    return keep / f"{name.replace(' ', '_').replace(',', '')}_{seed}.json"


def in_one_place(study: Study, folders: Sequence[Path], ready: Path) -> Weights:
    """Weights after as many rounds of steps on the patients of some folders, a hundredth of them held out."""
    task = task_of(study, tuple(folders), ready, 0.01, say)
    like = travelling(study)
    weights: Weights = parted(first_weights(study), like)
    for number in range(1, study.rounds + 1):
        weights = learn(weights, task, study.budget(number), 1000 * study.seed + number).weights
    return weights


def federated(
    study: Study, sites: Mapping[str, Path], folder: Path, ready: Path
) -> tuple[Weights, dict[str, Any]]:
    """Weights that sites learnt together, and what it cost."""
    nodes = {n: node(f"site{n}", path, folder, ready) for n, path in enumerate(sites.values(), 1)}
    for one in nodes.values():
        approve(one, study, "benchmark", "a trial in one process")
    ways = {n: lambda message, own=one: replied(message, own) for n, one in nodes.items()}
    found = trained(InProcessGrid(ways), study, signed(study, _LEAD), folder / "server", say)
    sent = [
        sum(x.size for x in lines_of(one.log) if x.verdict in ("allowed", "sent")) for one in nodes.values()
    ]
    told = {
        "bytes_per_round": sum(sent) / len(found.rounds),
        "seconds_per_round": float(np.median([r.seconds for r in found.rounds])),
        "privacy": told_privacy(found, study),
        "errors_at_sites": found.rounds[-1].errors,
        "refused": sum(len(r.refused) for r in found.rounds),
    }
    return parted(found.weights, travelling(study)), told


def node(name: str, patients: Path, folder: Path, ready: Path) -> NodeFile:
    """A hospital's node in this process; patients that were made ready are shared."""
    state = folder / name
    state.mkdir(parents=True, exist_ok=True)
    ready.mkdir(parents=True, exist_ok=True)
    if not (state / "ready").is_symlink():
        (state / "ready").symlink_to(ready.resolve())
    own = NodeFile(name, state, {"dose": (patients,)}, {"lead": _LEAD.public_key()})
    return replace(own, limits=replace(own.limits, threads=1))


def validated(study: Study, weights: Weights, openkbp: Path, ready: Path) -> dict[str, float]:
    """Errors on OpenKBP's validation patients, at the network's resolution."""
    run = dose_run(study)
    sources = dose_sources([openkbp / "provided-data" / "validation-pats"])
    cases, _ = prepare_doses(sources, run.site, run.config.sizes, ready, say)
    return dict(score(weights, DoseTask(run, (), cases)).errors)


def summary(found: Mapping[str, Sequence[Mapping[str, Any]]], sites: Mapping[str, Path]) -> dict[str, Any]:
    """Means and spreads over seeds; claims are of plain FedAvg against the better of both in one place."""
    dose = {name: [float(one["dose_gy"]) for one in each] for name, each in found.items()}
    mean = {name: float(np.mean(each)) for name, each in dose.items()}
    alone = {name: mean[name] for name in mean if name.startswith("alone")}
    return {
        "seeds": {name: len(rows) for name, rows in found.items()},
        "rounds": ROUNDS,
        "steps": STEPS,
        "study": {
            k: v for k, v in asdict(_PLAIN).items() if k in ("model", "learning_rate", "muon", "batch")
        },
        "patients": {name: len(list(path.iterdir())) for name, path in sites.items()},
        "validation_dose_gy": mean,
        "validation_dose_sd_gy": {name: float(np.std(each)) for name, each in dose.items()},
        "validation_counted_gy": {n: float(np.mean([o["counted_gy"] for o in e])) for n, e in found.items()},
        "federated_over_centralised": mean["fedavg"] / min(mean[name] for name in POOLED if name in mean),
        "federated_over_best_single_site": mean["fedavg"] / min(alone.values()),
        "bytes_per_round": {
            n: float(np.mean([o["bytes_per_round"] for o in e])) for n, e in found.items() if n in FEDERATED
        },
        "seconds_per_round": {
            n: float(np.median([o["seconds_per_round"] for o in e]))
            for n, e in found.items()
            if n in FEDERATED
        },
        "privacy": {
            n: e[0]["privacy"] for n, e in found.items() if n in FEDERATED and e[0]["privacy"] != "none"
        },
    }


if __name__ == "__main__":
    raise SystemExit(main())
