"""Arms of an experiment in federation: each site alone, all in one place, and together in several ways.

Federated arms go through the gates of real nodes in this process. Every arm makes equal optimiser steps in
a row from the same first weights of its seed, and is kept when it is done, so that a killed run goes on and
several may share the arms.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.federation.approvals import approve
from app.federation.audit import lines_of
from app.federation.client import replied
from app.federation.gate import first_weights, travelling
from app.federation.in_process import InProcessGrid
from app.federation.learning import Weights, learn, parted
from app.federation.node_file import NodeFile
from app.federation.privacy import noise_for
from app.federation.result import told_privacy
from app.federation.rounds import trained
from app.federation.study import Study, signed
from app.federation.tasks import task_of
from imaging.atomic import whole_file

from .record import say

LEAD = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_DELTA, _CLIP = 1e-5, 2.0
_FOR_ROBUST = 5  # sites, among whom one poisoned is found


@dataclass(frozen=True)
class Experiment:
    """Hospitals, what they learn, and how it is judged.

    Parameters
    ----------
    base
        The study of plain FedAvg.
    sites
        Folders of patients by the name of a hospital.
    ready
        Keeps patients that were made ready.
    keep
        Keeps arms that are done.
    judge
        Errors of a study's weights on patients whom no arm saw.
    error
        The one of them that claims are of.
    """

    base: Study
    sites: Mapping[str, Path]
    ready: Path
    keep: Path
    judge: Callable[[Study, Weights], Mapping[str, float]]
    error: str

    def kept(self, name: str, seed: int) -> Path:
        """Where an arm of a seed is kept once it is done."""
        return self.keep / f"{name.replace(' ', '_').replace(',', '')}_{seed}.json"

    @property
    def pooled(self) -> dict[str, Study]:
        """In one place: as many steps as a site makes, and as many samples in each as all sites see."""
        n = len(self.sites)
        return {"centralised": self.base, f"centralised, batch of {n}": replace(self.base, batch=n)}

    @property
    def federated(self) -> dict[str, Study]:
        """Ways to learn together."""
        base = self.base
        equal = replace(base, weighting="equal", privacy="central", clip=_CLIP, delta=_DELTA, noise=1.0)
        robust = replace(base, least_sites=_FOR_ROBUST, aggregation="krum", most_bad=1)
        return {
            "fedavg": base,
            "fedprox": replace(base, strategy="fedprox", proximal=0.01),
            "fedadam": replace(base, strategy="fedadam", server_rate=0.02),
            "median": replace(base, aggregation="median"),
            **(
                {
                    "trimmed mean": replace(robust, aggregation="trimmed"),
                    "krum": robust,
                }
                if len(self.sites) >= _FOR_ROBUST
                else {}
            ),
            "8 bits": replace(base, bits=8),
            "secure sums": replace(base, secure=True, reach=1.0),
            "private, epsilon 8": replace(equal, noise=noise_for(8.0, base.rounds, _DELTA)),
            "private, epsilon 1000": replace(equal, noise=noise_for(1000.0, base.rounds, _DELTA)),
        }

    @property
    def arms(self) -> list[str]:
        """All of them."""
        return [*self.pooled, *(f"alone, {name}" for name in self.sites), *self.federated]


def arm(name: str, seed: int, of: Experiment) -> dict[str, Any]:
    """Errors of one arm on the validation patients; read where an earlier run kept them."""
    path = of.kept(name, seed)
    if path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    study = replace({**of.federated, **of.pooled}.get(name, of.base), seed=seed)
    if name in of.federated:
        weights, told = federated(study, of.sites, of.keep / path.stem, of.ready)
    else:
        folders = list(of.sites.values()) if name in of.pooled else [of.sites[name.removeprefix("alone, ")]]
        weights, told = in_one_place(study, folders, of.ready), {}
    out = {**told, **of.judge(study, weights)}
    with whole_file(path) as part:
        part.write_text(json.dumps(out), encoding="utf-8")
    print(name, seed, out[of.error], flush=True)
    return out


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
    nodes = {n: node(f"site{n}", study.task, path, folder, ready) for n, path in enumerate(sites.values(), 1)}
    for one in nodes.values():
        approve(one, study, "benchmark", "a trial in one process")
    ways = {n: lambda message, own=one: replied(message, own) for n, one in nodes.items()}
    found = trained(InProcessGrid(ways), study, signed(study, LEAD), folder / "server", say)
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


def node(name: str, task: str, patients: Path, folder: Path, ready: Path) -> NodeFile:
    """A hospital's node in this process; patients that were made ready are shared."""
    state = folder / name
    state.mkdir(parents=True, exist_ok=True)
    ready.mkdir(parents=True, exist_ok=True)
    if not (state / "ready").is_symlink():
        (state / "ready").symlink_to(ready.resolve())
    own = NodeFile(name, state, {task: (patients,)}, {"lead": LEAD.public_key()})
    return replace(own, limits=replace(own.limits, threads=1))


def summary(found: Mapping[str, Sequence[Mapping[str, Any]]], of: Experiment) -> dict[str, Any]:
    """Means and spreads over seeds; claims are of plain FedAvg against the better of both in one place."""
    errors = {name: [float(one[of.error]) for one in each] for name, each in found.items()}
    mean = {name: float(np.mean(each)) for name, each in errors.items()}
    alone = {name: mean[name] for name in mean if name.startswith("alone")}
    ways = [name for name in found if name in of.federated]
    told = {k: v for k, v in asdict(of.base).items() if k in ("model", "learning_rate", "muon", "batch")}
    return {
        "error": of.error,
        "seeds": {name: len(rows) for name, rows in found.items()},
        "rounds": of.base.rounds,
        "steps": of.base.steps,
        "study": told,
        "patients": {n: sum(p.is_dir() for p in path.iterdir()) for n, path in of.sites.items()},
        "validation": mean,
        "validation_sd": {name: float(np.std(each)) for name, each in errors.items()},
        "federated_over_centralised": mean["fedavg"] / min(mean[n] for n in of.pooled if n in mean),
        "federated_over_equal_steps": mean["fedavg"] / mean["centralised"],
        "federated_over_best_single_site": mean["fedavg"] / min(alone.values()),
        "bytes_per_round": {n: float(np.mean([o["bytes_per_round"] for o in found[n]])) for n in ways},
        "seconds_per_round": {n: float(np.median([o["seconds_per_round"] for o in found[n]])) for n in ways},
        "privacy": {n: found[n][0]["privacy"] for n in ways if found[n][0]["privacy"] != "none"},
    }
