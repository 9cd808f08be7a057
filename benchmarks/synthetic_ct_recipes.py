"""Recipes of a synthetic CT on one split: ``python -m benchmarks.synthetic_ct_recipes --heads F --start F``.

From one regression's weights each arm trains for the same time on the same stream of pairs: the regression
itself with and without features of CTs, with a judge of pairs, with a judge and no pairs, and the flow of
what it leaves open, which is scored by its mean (one step) and by one sample. ``start`` is what they began
with. Patients are those of `synthetic_ct`, never seen; arms are compared with the regression over them by
Wilcoxon's signed-rank test. Colin27 needs SPINDOSE_DATA. What is trained or scored in ``--out`` is not done
again: several may share the training (--recipes, --cases 0) and the patients (--first, --cases, --no-record)
before one sums them up.
"""

import argparse
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from scipy.stats import wilcoxon

from app.ct_nets import read_nets
from app.held_out import held_out
from app.train import parse_budget
from app.train_mr2ct import Mr2ctRun
from app.training_heads import Heads
from imaging.atomic import whole_file
from imaging.tissue import Tissue
from imaging.volume import Volume
from models.fit import Fit
from models.weights import save_weights
from mr2ct.adversarial import AdversarialNet
from mr2ct.convert import SyntheticCt, convert
from mr2ct.ct_features import CtFeatures, SegmenterOfCts, ct_features
from mr2ct.quality import BONE_LEVELS, quality
from mr2ct.recipes import RECIPES, read_flow
from mr2ct.residual_flow import mean_of, samples_of
from mr2ct.unseen import shown
from synth.on_the_fly import Library
from synth.paired import Pairs

from .record import report, say
from .synthetic_ct import colin27

Convert = Callable[[Volume], SyntheticCt]
# Arms by what trains them, and whether features of CTs join the loss.
ARMS = {
    "regression": ("regression", True),
    "plain": ("regression", False),
    "gan": ("gan", True),
    "unpaired": ("unpaired", False),
    "flow": ("flow", False),
}
START, REFERENCE = "start", "regression"
FIGURES = ("mae", "mae_bone", "mae_air", "bone_dice", "air_dice", "ssim", "bone_surface_mm", "seconds")
_PATIENTS = 20260  # seed of those that synthetic_ct makes
_STREAM, _FEATURES_STREAM = 7_000_003, 1_000_003  # of samples: none that the start was trained on
_STEPS = 4  # of a sample of the flow
_SURE = 0.05


@dataclass(frozen=True)
class Asked:
    """What is compared: where it is kept, the first weights, heads, arms, seeds, and seconds of training."""

    out: Path
    start: Path
    heads: Path
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    budget_s: float
    features: SegmenterOfCts
    cases: range
    contrasts: tuple[str, ...]
    device: str


def main() -> int:
    """Trains what is not trained, scores what is not scored, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=Path, required=True, help="heads.safetensors of a training")
    parser.add_argument("--start", type=Path, required=True, help="weights of a regression")
    parser.add_argument("--out", type=Path, default=Path("synthetic_ct_recipes"))
    parser.add_argument("--budget", default="8m")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--recipes", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--contrasts", nargs="+", default=["t1", "t2star"], help="the first one is tested")
    parser.add_argument("--feature-steps", type=int, default=SegmenterOfCts().fit.steps)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    judge = SegmenterOfCts()
    asked = Asked(
        given.out,
        given.start,
        given.heads,
        tuple(given.recipes),
        tuple(given.seeds),
        parse_budget(given.budget),
        replace(judge, fit=replace(judge.fit, steps=given.feature_steps)),
        range(given.first, given.cases),
        tuple(given.contrasts),
        given.device,
    )
    _same_comparison(asked)
    train_all(asked)
    if not asked.cases:
        return 0
    ways = dict(converters(asked))
    rows = [_patient(asked, k, ways) for k in asked.cases]
    figures: dict[str, Any] = {
        "budget_s": asked.budget_s,
        "seeds": len(asked.seeds),
        "cases": len(rows),
        **summary(rows, asked.contrasts),
    }
    if "SPINDOSE_DATA" in os.environ:
        figures["colin27"] = _colin27(asked, ways)
    print(table(figures, asked.contrasts))
    report("synthetic_ct_recipes", figures, keep=not given.no_record)
    return 0


def _same_comparison(asked: Asked) -> None:
    """Refuses a folder of other weights, heads or time: what lies there would stand for something else."""
    now = {"start": _digest(asked.start), "heads": _digest(asked.heads), "budget_s": asked.budget_s}
    path = asked.out / "comparison.json"
    if not path.is_file():
        _write(path, now)
    elif json.loads(path.read_text(encoding="utf-8")) != now:
        raise ValueError(
            "expected the weights, heads and budget that --out was begun with; take a new folder"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, values: object) -> None:
    with whole_file(path) as part:
        part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _weights(asked: Asked, arm: str, seed: int) -> Path:
    return asked.out / f"{arm}-{seed}" / "weights.safetensors"


def train_all(asked: Asked) -> None:
    """Weights of every arm and seed that has none yet."""
    missing = [(arm, s) for s in asked.seeds for arm in asked.arms if not _weights(asked, arm, s).is_file()]
    if not missing:
        return
    _, config = read_nets([asked.start])
    with safe_open(asked.heads, framework="pt") as file:
        library = Library(file.get_tensor("labels").to(asked.device), Heads().spacing)
    how = replace(Mr2ctRun().samples, shape=config.shape, spacing=config.spacing)
    features: CtFeatures | None = None
    if any(ARMS[arm][1] for arm, _ in missing):
        cts = Pairs(library, how, _FEATURES_STREAM)
        kept = asked.out / "ct_features"
        features = ct_features(cts, config.shape, kept, say, asked.features, asked.device)
    # All go on from trained weights: the regression at the judge's network's rate.
    rate = AdversarialNet().fit.learning_rate
    config = replace(config, fit=Fit(budget_s=asked.budget_s, learning_rate=rate))
    for arm, seed in missing:
        recipe, with_features = ARMS[arm]
        print(f"training {arm}, seed {seed}", flush=True)
        pairs = Pairs(library, how, _STREAM + seed)
        path = _weights(asked, arm, seed)
        made = RECIPES[recipe](
            config,
            pairs,
            path.parent / "checkpoint",
            say,
            asked.device,
            seed,
            asked.start,
            features if with_features else None,
            (),
        )
        card = made.card() | {
            "data": f"{len(library.labels)} synthetic heads",
            "licence": "Apache-2.0",
            "split": "synthetic patients of another seed are for testing",
            "limits": "of a comparison of recipes; research use only",
        }
        save_weights(made.net.state_dict(), card, path)


def converters(asked: Asked) -> Iterator[tuple[str, Convert]]:
    """How each arm and seed, and the start, makes a CT, by ``arm/seed``."""
    nets, config = read_nets([asked.start], asked.device)
    yield f"{START}/0", lambda mr: convert(mr, nets, config)
    for seed in asked.seeds:
        for arm in asked.arms:
            path = _weights(asked, arm, seed)
            if arm == "flow":
                yield f"flow/{seed}", _by_flow(path, asked, 1)
                yield f"flow sample/{seed}", _by_flow(path, asked, _STEPS)
            else:
                yield f"{arm}/{seed}", _by_net(path, asked.device)


def _by_net(path: Path, device: str) -> Convert:
    nets, config = read_nets([path], device)
    return lambda mr: convert(mr, nets, config)


def _by_flow(path: Path, asked: Asked, steps: int) -> Convert:
    net, config = read_flow(path, asked.device)
    (regression,), _ = read_nets([asked.start], asked.device)
    return lambda mr: mean_of(samples_of(mr, net, regression, config, steps=steps))


def _patient(asked: Asked, k: int, ways: Mapping[str, Convert]) -> dict[str, Any]:
    """Figures of one patient by ``arm/seed`` and contrast; the patient is made only if some are missing."""
    path = asked.out / "patients" / f"{k}.json"
    row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    missing = [(way, c) for way in ways for c in asked.contrasts if c not in row.get(way, {})]
    if missing:
        patient = held_out(_PATIENTS, k, asked.contrasts)
        body = patient.tissues.data[0] != Tissue.OUTSIDE
        for way, contrast in missing:
            started = time.perf_counter()
            ct = ways[way](patient.scans[contrast]).ct
            seconds = time.perf_counter() - started
            here = body & shown(patient.scans[contrast])
            found = _figures(quality(ct, patient.truth, here).as_json()) | {"seconds": seconds}
            row.setdefault(way, {})[contrast] = found
            _write(path, row)
        of_first = {way: f"{row[way][asked.contrasts[0]]['mae']:.0f}" for way in ways}
        print(f"{k}: " + ", ".join(f"{way} {mae} HU" for way, mae in of_first.items()), flush=True)
    return {way: row[way] for way in ways}


def _figures(found: Mapping[str, Any]) -> dict[str, float | None]:
    tissues = found["tissues"]
    return {
        "mae": found["mae"],
        "mae_bone": tissues.get("bone", {}).get("mae"),
        "mae_air": tissues.get("air", {}).get("mae"),
        "bone_dice": found["bone_dice"][f"{BONE_LEVELS[0]:g} HU"],
        "air_dice": found["air_dice"],
        "ssim": found["ssim"],
        "bone_surface_mm": found["bone_surface_mm"],
    }


def summary(rows: Sequence[Mapping[str, Any]], contrasts: Sequence[str]) -> dict[str, Any]:
    """Medians over patients of each arm, its seeds averaged, tests against the regression, and who wins.

    Parameters
    ----------
    rows
        Of each patient, figures by ``arm/seed`` and contrast.
    contrasts
        The first is what arms win or lose on, in the mean absolute error of the head.
    """
    each = {c: _by_arm(rows, c) for c in contrasts}
    out: dict[str, Any] = {
        c: {arm: {f: _median(v[f]) for f in FIGURES} for arm, v in arms.items()} for c, arms in each.items()
    }
    first = each[contrasts[0]]
    if REFERENCE not in first:
        return out
    theirs = first[REFERENCE]
    others = [arm for arm in first if arm != REFERENCE]
    tests = {arm: {f: _p(first[arm][f], theirs[f]) for f in FIGURES[:-1]} for arm in others}
    out["p_against_regression"] = tests
    better = {
        arm: _median(first[arm]["mae"])
        for arm in others
        if arm != START  # where they began, which no recipe is
        and (tests[arm]["mae"] or 1.0) < _SURE
        and np.median(first[arm]["mae"] - theirs["mae"]) < 0
    }
    out["wins"] = min(better, key=lambda arm: better[arm] or math.inf) if better else REFERENCE
    return out


def _by_arm(rows: Sequence[Mapping[str, Any]], contrast: str) -> dict[str, dict[str, np.ndarray]]:
    arms = list(dict.fromkeys(way.split("/")[0] for way in rows[0]))
    out: dict[str, dict[str, np.ndarray]] = {}
    for arm in arms:
        ways = [way for way in rows[0] if way.split("/")[0] == arm]
        table = {f: [[row[way][contrast][f] for way in ways] for row in rows] for f in FIGURES}
        out[arm] = {f: np.array(values, dtype=float).mean(axis=1) for f, values in table.items()}
    return out


def _median(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None


def _p(ours: np.ndarray, theirs: np.ndarray) -> float | None:
    """Two-sided signed-rank test over patients that have both; None of fewer than six."""
    apart = (ours - theirs)[~np.isnan(ours - theirs)]
    if len(apart) < 6:
        return None
    return float(wilcoxon(apart).pvalue) if np.any(apart) else 1.0


def _colin27(asked: Asked, ways: Mapping[str, Convert]) -> dict[str, Any]:
    """Dice on the real head, by ``arm/seed``."""
    path = asked.out / "colin27.json"
    row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for way in ways:
        if way not in row:
            row[way] = colin27(Path(os.environ["SPINDOSE_DATA"]) / "head", ways[way])
            _write(path, row)
    return {way: row[way] for way in ways}


def table(figures: Mapping[str, Any], contrasts: Sequence[str]) -> str:
    """A line for each arm and contrast."""
    lines = [f"{'':<8} {'arm':<12}" + "".join(f"{name:>16}" for name in FIGURES)]
    for contrast in contrasts:
        for arm, values in figures[contrast].items():
            cells = ("-" if values[f] is None else f"{values[f]:.4g}" for f in FIGURES)
            lines.append(f"{contrast:<8} {arm:<12}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    sys.exit(main())
