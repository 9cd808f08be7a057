"""Generators of small volumes: ``python -m benchmarks.generator_volumes --data COHORT --gan DIR``.

Each ``DIR`` is a pipeline of ``spindose train --size small``, trained on the folders of ``--data`` with the
split of seed 0. Volumes are drawn for the labels of held-out cases: a segmenter that learned from real
volumes alone says whether they show what was asked for; their kernel distance and diversity stand beside
those of real halves. Segmenters are trained with equal steps on real, on synthetic and on both, over seeds,
and tested on held-out cases; on real scans without labels (``--scans``) the tumour that each finds is told.
The diffusion's volumes are drawn as its card says; the quality of more steps stands beside. Last, 4 × 128³
volumes are drawn in few steps and in thirty, for the time, which no weight changes.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from app.drawer import Drawer, draw, read_drawer
from app.extractors import volume_extractor
from app.generator_material import split_cases
from app.train_generator import LATTICES
from app.volume_examples import VolumeExamples, prepare_volumes
from imaging.atomic import whole_file
from models.generator import FULL, Generator, build
from models.pipeline import GeneratorPipeline
from models.samplers import flow_euler, one_pass, shortcut
from models.unet import CellUNet
from synth.adversarial import one_pass as as_gan
from synth.augmented import ONE_TO_ONE, REAL, SYNTHETIC, Arm
from synth.conditions import N_CLASSES, TUMOUR, ConditionClass, planes
from synth.fidelity.diversity import diversity
from synth.fidelity.floor import real_floor
from synth.fidelity.kernel import kernel_distance
from synth.fidelity.obedience import obedience
from synth.segmented import SegmenterConfig, segment, train_segmenter

from .record import report, say

_LATTICE, _HELD_OUT, _SEED = LATTICES["small"], 0.25, 0
_HALVINGS = 20
_FULL_SIDE = 128
_MORE_STEPS = (("shortcut", 4), ("euler", 30))  # than a diffusion is drawn in as a rule


def main() -> int:
    """Both generators, the segmenters that learn from them, and the time of a full volume."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--scans", type=Path, nargs="*", default=[])
    parser.add_argument("--diffusion", type=Path)
    parser.add_argument("--gan", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--judge-steps", type=int, default=4000)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "generator_volumes")
    asked = parser.parse_args()
    material = _Material(asked.data, asked.scans, asked.work)
    readers = _Segmenters(material, asked.steps, asked.judge_steps, asked.seeds, asked.work)
    figures: dict[str, Any] = {
        "cases": {"train": len(material.train), "held out": len(material.images)},
        "steps": asked.steps,
        "judge_steps": asked.judge_steps,
        "seeds": asked.seeds,
        "real": readers.scores("real", REAL, []),
        "real_dice": readers.dice_by_part(material.images, material.classes),
        "floor": _floor(material),
    }
    if asked.diffusion is not None:
        figures["diffusion"] = _generator("diffusion", asked.diffusion, material, readers, asked.work)
        figures["diffusion"]["with_more_steps"] = {
            f"{sampler}, {n_steps} steps": _quality(
                _drawn(read_drawer(asked.diffusion, sampler, n_steps), material), material, readers
            )
            for sampler, n_steps in _MORE_STEPS
        }
    if asked.gan is not None:
        figures["gan"] = _generator("gan", asked.gan, material, readers, asked.work)
    figures["full_volume_seconds"] = full_volume_seconds()
    report("generator_volumes", figures)
    return 0


class _Material:
    """Prepared cases whose tumour is known, split as training split them; held-out ones in memory."""

    def __init__(self, data: Sequence[Path], scans: Sequence[Path], work: Path) -> None:
        paths = prepare_volumes(data, _LATTICE, work / "volumes", say)
        train, test = split_cases(len(paths), _HELD_OUT, _SEED)
        self.train = [paths[k] for k in train if _tumour_cc(load_file(paths[k])["classes"]) > 0]
        held = [case for k in test if _tumour_cc((case := load_file(paths[k]))["classes"]) > 0]
        self.images = torch.stack([case["image"].float() for case in held])
        self.classes = torch.stack([case["classes"].long() for case in held])
        unseen = prepare_volumes(scans, _LATTICE, work / "scans", say) if scans else []
        self.scans = [load_file(path)["image"].float() for path in unseen]
        self.embed = volume_extractor(_LATTICE.spacing).embed


class _Segmenters:
    """Segmenters of every arm, each trained once and kept; and one of real volumes, trained for longer."""

    def __init__(self, material: _Material, steps: int, judge_steps: int, seeds: int, work: Path) -> None:
        self.material, self.steps, self.seeds, self.work = material, steps, seeds, work
        self.judge = self._one("judge", REAL, [], 0, judge_steps)

    def scores(self, name: str, arm: Arm, synthetic: Sequence[Path]) -> dict[str, Any]:
        """Dice of each part on the held-out cases, and the tumour found in each scan (cc), by seed."""
        each, found = [], []
        for seed in range(self.seeds):
            net = self._one(name, arm, synthetic, seed, self.steps)
            each.append(self._dice(net, self.material.images, self.material.classes))
            found.append([_tumour_cc(segment(net, scan[None])[0]) for scan in self.material.scans])
            print(f"{name}, {arm.name}, seed {seed}: {_mean(each[-1]):.3f}", flush=True)
        return {
            "dice": float(np.median([_mean(one) for one in each])),
            "dice_by_seed": [round(_mean(one), 4) for one in each],
            "parts": {part: float(np.median([one[part] for one in each])) for part in each[0]},
            "tumour_of_scans_cc": found,
        }

    def dice_by_part(self, images: Tensor, classes: Tensor) -> dict[str, float]:
        """Dice of what the judge finds, with the labels that were asked for."""
        return self._dice(self.judge, images, classes)

    def _dice(self, net: CellUNet, images: Tensor, classes: Tensor) -> dict[str, float]:
        """Of each part over all cases as if they were one: small parts of few voxels decide nothing."""
        some = torch.split(images, 4)
        found = torch.cat([segment(net, x) for x in some])
        dice = obedience(lambda _: found[None], images[None], classes[None], N_CLASSES)[0]
        return {ConditionClass(part).name: float(dice[part]) for part in TUMOUR}

    def _one(self, name: str, arm: Arm, synthetic: Sequence[Path], seed: int, steps: int) -> CellUNet:
        folder = f"{name}-{arm.name}-{seed}-{steps}".replace(" ", "_").replace(":", "_")
        real = VolumeExamples(self.material.train, seed)
        drawn = VolumeExamples(list(synthetic) or self.material.train, seed)
        config = SegmenterConfig()
        config = replace(config, fit=replace(config.fit, steps=steps))
        return train_segmenter(arm, real, drawn, config, self.work / "segmenters" / folder, seed)


def _generator(
    name: str, folder: Path, material: _Material, readers: _Segmenters, work: Path
) -> dict[str, Any]:
    drawer = read_drawer(folder)
    started = time.perf_counter()
    drawn = _drawn(drawer, material)
    seconds = (time.perf_counter() - started) / len(drawn)
    synthetic = _training_set(drawer, material, work / f"{name}-volumes")
    alone = readers.scores(name, SYNTHETIC, synthetic)
    both = readers.scores(name, ONE_TO_ONE, synthetic)
    real = readers.scores("real", REAL, [])["dice"]
    return {
        **_quality(drawn, material, readers),
        "sampler": drawer.sampler,
        "steps": drawer.n_steps,
        "small_volume_seconds": seconds,
        "synthetic": alone,
        "both": both,
        "synthetic_only_over_real": alone["dice"] / real,
        "both_over_real": both["dice"] / real,
    }


def _drawn(drawer: Drawer, material: _Material) -> Tensor:
    """One volume for the labels of each held-out case."""
    return torch.stack(
        [
            draw(drawer, planes(case[None])[0], torch.Generator().manual_seed(n))
            for n, case in enumerate(material.classes)
        ]
    )


def _quality(drawn: Tensor, material: _Material, readers: _Segmenters) -> dict[str, Any]:
    dice = readers.dice_by_part(drawn, material.classes)
    generator = torch.Generator().manual_seed(0)
    alike = diversity(material.images, drawn, 2.0, generator, n_pairs=60, n_resamples=200)
    return {
        "obedience": dice,
        "obedience_dice": min(dice.values()),
        "diversity_ratio": alike.ratio.estimate,
        "diversity_interval": [alike.ratio.low, alike.ratio.high],
        "kernel": kernel_distance(_features(material.images, material), _features(drawn, material)),
    }


def _floor(material: _Material) -> float:
    """Kernel distance of real halves, the median over halvings."""
    features = _features(material.images, material)
    generator = torch.Generator().manual_seed(0)
    return real_floor(kernel_distance, features, features, generator, _HALVINGS).real


def _features(images: Tensor, material: _Material) -> Tensor:
    return torch.cat([material.embed(part) for part in torch.split(images, 4)])


def _training_set(drawer: Drawer, material: _Material, out: Path) -> list[Path]:
    """A volume for the labels of each training case, kept as prepared cases are."""
    out.mkdir(parents=True, exist_ok=True)
    made = []
    for path in material.train:
        to = out / path.name
        if not to.is_file():
            case = load_file(path)
            noise = torch.Generator().manual_seed(int(path.stem) + 10_000)
            image = draw(drawer, planes(case["classes"][None])[0], noise)
            kept = {"image": image.clamp(-1, 1).half(), "classes": case["classes"]}
            with whole_file(to) as part:
                save_file({**kept, "present": torch.ones(len(image), dtype=torch.bool)}, part)
        made.append(to)
    return made


def full_volume_seconds() -> dict[str, float]:
    """Seconds of one volume of 4 × 128³ by the full network, by its kind and steps; no weight changes it."""
    flow, gan = build(FULL), build(as_gan(FULL))
    return {
        "gan, 1": _seconds(gan, one_pass, 1),
        "diffusion, 1": _seconds(flow, shortcut, 1),
        "diffusion, 4": _seconds(flow, shortcut, 4),
        "diffusion, 30 of Euler": _seconds(flow, flow_euler, 30),
    }


def _seconds(net: Generator, sampler: Callable[..., Tensor], n_steps: int) -> float:
    pipeline = GeneratorPipeline(net.eval())
    condition = torch.zeros(1, net.settings.classes, *[_FULL_SIDE] * 3)
    condition[:, 0] = 1
    started = time.perf_counter()
    pipeline(condition, torch.Generator().manual_seed(0), n_steps=n_steps, sampler=sampler)
    return time.perf_counter() - started


def _tumour_cc(classes: Tensor) -> float:
    return round(float((classes >= min(TUMOUR)).sum()) * _LATTICE.spacing**3 / 1000, 2)


def _mean(dice: Mapping[str, float]) -> float:
    return float(np.nanmean(list(dice.values())))


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    sys.exit(main())
