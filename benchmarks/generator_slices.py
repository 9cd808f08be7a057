"""Generators of slices on real tumours: ``python -m benchmarks.generator_slices --gan DIR --diffusion DIR``.

Each ``DIR`` is a pipeline of ``spindose train``, trained on ``tumour_slices`` with the split of seed 0. As
many slices are drawn as there are to train on; they are judged against the held-out patients beside the floor
that real halves give. Readers of the kind of tumour and its box are trained on real, synthetic and mixed
slices at 10, 25 and 100 % of the real ones, with equal steps, over seeds, and tested on the held-out real
slices. Everything is kept in ``--work``, so that a killed run goes on. Needs SPINDOSE_DATA.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.cohort_slices import walk_slices
from app.drawer import Drawer, draw, read_drawer
from app.evaluate_synthetic import Asked, evaluate
from app.evaluated_sets import Where
from app.slice_examples import pictures
from imaging.slices import Slices, read_slices, split_by_blocks
from models.fit import Fit
from synth.augmented import (
    ONE_TO_ONE,
    ONE_TO_TWO,
    REAL,
    SYNTHETIC,
    THEN_REAL,
    Arm,
    Cases,
    ReaderConfig,
    Scores,
    paired_gain,
    read,
    train_reader,
)

from .generator_overfit import N_SLICES, overfitted
from .record import report, say

_SIZE, _HELD_OUT, _BLOCK = 128, 0.25, 60
FRACTIONS = (0.1, 0.25, 1.0)
_RESAMPLES = 2000
_TIMED = 8  # slices drawn for the time of one
_REPEATED = 100  # slices drawn by the overfitted generator


def main() -> int:
    """Every generator that is given, and the readers of real slices that all are compared with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gan", type=Path)
    parser.add_argument("--diffusion", type=Path)
    parser.add_argument("--extractor", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "generator_slices")
    asked = parser.parse_args()
    data = Path(os.environ["SPINDOSE_DATA"]) / "tumour_slices"
    slices = read_slices(data, _SIZE)
    train, test = split_by_blocks(slices, _HELD_OUT, torch.Generator().manual_seed(0))
    config = ReaderConfig(
        n_classes=len(slices.names), fit=Fit(steps=asked.steps, batch=32, learning_rate=1e-3)
    )
    readers = _Readers(train, test, config, asked.seeds, asked.work)
    real = {fraction: readers.scores("real", REAL, None, fraction) for fraction in FRACTIONS}
    figures: dict[str, Any] = {"steps": asked.steps, "seeds": asked.seeds}
    caught = None if asked.diffusion is None else _control(asked.diffusion, train, data, asked)
    figures["overfitted"] = caught
    figures["real"] = {f"{fraction:.0%}": _spread(scores) for fraction, scores in real.items()}
    for name, folder in {"gan": asked.gan, "diffusion": asked.diffusion}.items():
        if folder is not None:
            found = _generator(name, folder, data, len(train), asked, readers, real)
            found["positive_control_caught"] &= caught is None or caught["caught"]
            figures[name] = found
    report("generator_slices", figures)
    return 0


def _generator(
    name: str,
    folder: Path,
    data: Path,
    n: int,
    asked: argparse.Namespace,
    readers: "_Readers",
    real: Mapping[float, Sequence[Scores]],
) -> dict[str, Any]:
    drawn = asked.work / f"{name}-slices"
    drawer = read_drawer(folder)
    walk_slices(drawer, n, 0, drawn, say)
    judged = _judged(data, drawn, asked.work / f"{name}-evaluation", asked.extractor)
    synthetic = _cases(read_slices(drawn, _SIZE), readers.names)
    alone = readers.scores(f"{name}-synthetic", SYNTHETIC, synthetic, 1.0)
    arms = {
        f"{arm.name}, {fraction:.0%}": readers.scores(f"{name}-{arm.name}", arm, synthetic, fraction)
        for arm in (ONE_TO_ONE, ONE_TO_TWO, THEN_REAL)
        for fraction in (FRACTIONS if arm is ONE_TO_ONE else (0.1,))
    }
    both = arms[f"{ONE_TO_ONE.name}, 10%"]
    kernel = judged["fidelity"]["kernel"]
    return {
        "slice_kid": kernel["value"]["estimate"],
        "slice_kid_real_floor": kernel["floor"]["real"],
        "slice_coverage": judged["fidelity"]["coverage"]["value"]["estimate"],
        "slice_coverage_real_floor": judged["fidelity"]["coverage"]["floor"]["real"],
        "diversity_ratio": judged["fidelity"]["diversity"]["ratio"]["estimate"],
        "memorised_share": judged["privacy"]["memorised_share"],
        "positive_control_caught": judged["privacy"]["positive_control_caught"],
        "privacy": judged["verdicts"]["privacy"],
        "seconds_per_slice": _seconds(drawer),
        "steps_per_slice": drawer.n_steps,
        "synthetic_only": _spread(alone),
        "synthetic_only_over_real": _mean(alone) / _mean(real[1.0]),
        "both_over_real_at_10_percent": _mean(both) / _mean(real[0.1]),
        "gain_of_both_at_10_percent": _interval(both, real[0.1], readers.blocks),
        "arms": {arm: _spread(scores) for arm, scores in arms.items()},
    }


def _seconds(drawer: Drawer) -> float:
    """Of one slice, over a few, on the threads there are."""
    condition = torch.zeros(drawer.settings.classes, _SIZE, _SIZE)
    draw(drawer, condition, torch.Generator().manual_seed(0))
    started = time.perf_counter()
    for n in range(_TIMED):
        draw(drawer, condition, torch.Generator().manual_seed(n))
    return (time.perf_counter() - started) / _TIMED


def _control(folder: Path, train: Slices, data: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """What the audit says of a generator that repeats a few of its training slices."""
    drawn = asked.work / "overfitted-slices"
    walk_slices(read_drawer(overfitted(folder, train, asked.work / "overfitted")), _REPEATED, 0, drawn, say)
    judged = _judged(data, drawn, asked.work / "overfitted-evaluation", asked.extractor)
    private = judged["privacy"]
    return {
        "repeated": N_SLICES,
        "drawn": _REPEATED,
        "memorised_share": private["memorised_share"],
        "flagged": list(judged["flagged"]),
        "caught": bool(judged["flagged"]),
        "privacy": judged["verdicts"]["privacy"],
    }


def _judged(data: Path, drawn: Path, out: Path, extractor: Path | None) -> Mapping[str, Any]:
    kept = out / "evaluation.json"
    if not kept.is_file():
        evaluate(Asked(Where(data, drawn, None, _HELD_OUT, 0), extractor), out, say)
    found: Mapping[str, Any] = json.loads(kept.read_text())
    return found


class _Readers:
    """Readers of every arm, each trained once and kept."""

    def __init__(self, train: Slices, test: Slices, config: ReaderConfig, seeds: int, work: Path) -> None:
        self.names = train.names
        self.train, self.test = _cases(train, train.names), _cases(test, train.names)
        self.blocks = test.classes * 10_000 + test.numbers // _BLOCK
        self.train_blocks = train.classes * 10_000 + train.numbers // _BLOCK
        self.config, self.seeds, self.work = config, seeds, work / f"readers-{config.fit.steps}"

    def scores(self, name: str, arm: Arm, synthetic: Cases | None, fraction: float) -> list[Scores]:
        """Scores on the held-out slices, one for each seed."""
        return [self._one(name, arm, synthetic, fraction, seed) for seed in range(self.seeds)]

    def _one(self, name: str, arm: Arm, synthetic: Cases | None, fraction: float, seed: int) -> Scores:
        folder = self.work / f"{name}-{fraction:g}-{seed}".replace(" ", "_").replace(":", "_")
        kept = folder / "scores.json"
        if not kept.is_file():
            real = self.train.at(self._some(fraction, seed))
            reader = train_reader(arm, real, synthetic or real.at(torch.arange(0)), self.config, folder, seed)
            found = read(reader, self.test)
            told = {"right": found.right.tolist(), "overlap": found.overlap.tolist()}
            kept.write_text(json.dumps(told))
            (folder / "checkpoint.safetensors").unlink()
            print(f"{folder.name}: {found.accuracy:.3f}, {float(found.overlap.mean()):.3f}", flush=True)
        told = json.loads(kept.read_text())
        return Scores(torch.tensor(told["right"]), torch.tensor(told["overlap"]), self.test.classes)

    def _some(self, fraction: float, seed: int) -> torch.Tensor:
        """A share of the real slices: of each class its first blocks in a drawn order, so few patients."""
        generator = torch.Generator().manual_seed(seed)
        chosen = []
        for c in range(len(self.names)):
            where = torch.nonzero(self.train.classes == c)[:, 0]
            blocks = self.train_blocks[where].unique()  # type: ignore[no-untyped-call]
            order = blocks[torch.randperm(len(blocks), generator=generator)]
            ordered = torch.cat([where[self.train_blocks[where] == block] for block in order])
            chosen.append(ordered[: max(round(fraction * len(where)), 1)])
        return torch.cat(chosen)


def _cases(slices: Slices, names: Sequence[str]) -> Cases:
    """Slices as a reader takes them, classes numbered as in ``names``."""
    order = torch.tensor([names.index(name) for name in slices.names])
    return Cases(pictures(slices), order[slices.classes], slices.boxes)


def _mean(scores: Sequence[Scores]) -> float:
    return float(np.mean([s.accuracy for s in scores]))


def _spread(scores: Sequence[Scores]) -> dict[str, object]:
    accuracy = [s.accuracy for s in scores]
    boxes = [float(s.overlap.mean()) for s in scores]
    return {
        "accuracy": float(np.median(accuracy)),
        "accuracies": [round(a, 4) for a in accuracy],
        "box_overlap": float(np.median(boxes)),
        "box_overlaps": [round(b, 4) for b in boxes],
    }


def _interval(one: Sequence[Scores], other: Sequence[Scores], blocks: torch.Tensor) -> dict[str, float]:
    """Gain in the share told rightly, with a 95 % interval by a paired bootstrap over blocks of patients."""
    gain = paired_gain(one, other).numpy()
    groups = [gain[(blocks == b).numpy()] for b in sorted(set(blocks.tolist()))]
    draws = np.random.default_rng(0).integers(0, len(groups), (_RESAMPLES, len(groups)))
    means = [float(np.concatenate([groups[g] for g in row]).mean()) for row in draws]
    low, high = np.percentile(means, [2.5, 97.5])
    return {"gain": float(gain.mean()), "low": float(low), "high": float(high)}


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    sys.exit(main())
