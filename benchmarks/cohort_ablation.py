"""What each ingredient of the training samples adds on real heads: ``python -m benchmarks.cohort_ablation``.

Every arm trains the same network from the same first weights for the same number of steps on the same heads
and seed; only the samples differ. Scores are those of ``cohort_heads``. Each arm is kept, so that a killed
run goes on. ``--heads FILE`` takes the library that ``spindose train tissues`` keeps. Needs SPINDOSE_DATA.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from app.train import TissueRun
from models.fit import Fit
from mr2ct.tissue_net import train
from synth.on_the_fly import Library, OnTheFly
from synth.randomisation import Randomisation

from .cohort_heads import scores
from .record import report


def arms(whole: Randomisation) -> Mapping[str, Randomisation]:
    """Samples of each arm: everything, and everything but one."""
    return {
        "all": whole,
        "physical contrast only": replace(whole, randomised=0.0),
        "random contrast only": replace(whole, randomised=1.0),
        "no artefacts": replace(whole, artefacts=0.0, cut=0.0, stripped=0.0),
        "no deformation": replace(whole, deformation=0.0, scale=0.0, rotation=0.0),
    }


def main() -> int:
    """Trains and scores every arm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "cohort_ablation")
    asked = parser.parse_args()
    run = TissueRun()
    library = Library(load_file(asked.heads)["labels"], run.heads.spacing)
    table = {}
    for name, samples in arms(run.samples).items():
        for seed in range(asked.seeds):
            here = asked.work / f"{name.replace(' ', '_')}_{asked.steps}_{seed}"
            table[f"{name}, seed {seed}"] = _arm(samples, library, asked.steps, seed, here)
    report("cohort_ablation", {"steps": asked.steps, "arms": table})
    return 0


def _arm(
    samples: Randomisation, library: Library, steps: int, seed: int, folder: Path
) -> Mapping[str, object]:
    kept = folder / "scores.json"
    if kept.is_file():
        found: Mapping[str, object] = json.loads(kept.read_text())
        return found
    config = replace(TissueRun().recipe, fit=Fit(steps=steps))
    stream = OnTheFly(library, samples, seed)
    net, took = train(config, stream, folder, lambda title, share: _say(folder, title, share), seed=seed)
    result = {**scores(net, Path(os.environ["SPINDOSE_DATA"])), "loss": took["loss"]}
    kept.write_text(json.dumps(result))
    return result


def _say(folder: Path, title: str, share: float) -> None:
    if round(share * 1000) % 50 == 0:
        print(f"{folder.name} {title} {share:.0%}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(os.cpu_count() or 1)
    sys.exit(main())
