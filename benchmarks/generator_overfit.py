"""The positive control of an audit: a generator tuned on a few training slices until it repeats them.

Part of ``python -m benchmarks.generator_slices``: what it draws is judged as any generator's slices are, and
an audit that does not flag it says nothing about the others.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from app.slice_examples import SliceExamples
from imaging.slices import Slices
from models.fit import Fit, fit
from models.generator import Predicts
from models.pipeline import GeneratorPipeline
from synth.conditions import Shares
from synth.diffusion import DiffusionConfig, losses
from synth.drawn_boxes import fit as fit_boxes

N_SLICES = 6
_STEPS = 1500  # after 500 steps on 12 slices it still drew others


def overfitted(folder: Path, train: Slices, out: Path) -> Path:
    """A pipeline in ``out / "pipeline"`` that repeats a few slices of the training set.

    Parameters
    ----------
    folder
        Pipeline of a diffusion, from which it starts.
    train
        Training slices; a few of each class are repeated.
    out
        Keeps it; a run that was killed goes on.
    """
    made = out / "pipeline"
    if made.is_dir():
        return made
    pipeline = GeneratorPipeline.from_pretrained(folder)
    if pipeline.net.settings.predicts is not Predicts.VELOCITY:
        raise ValueError("expected a flow to overfit, got another generator")
    few = train.at(_few(train))
    config = DiffusionConfig(pipeline.net.settings, Shares(0.0, 0.0, 0.1), large_steps=0.0)
    how = Fit(steps=_STEPS, batch=8, learning_rate=1e-3, average=0.98, checkpoint_s=30.0)
    samples = SliceExamples(few, 0, shift=0.0, zoom=0.0)
    took = fit({"net": pipeline.net}, samples, partial(losses, config), how, out / "checkpoint", _quiet)
    pipeline.card = {**pipeline.card, **_told(took, few)}
    pipeline.save_pretrained(made)
    return made


def _few(train: Slices) -> torch.Tensor:
    """A few slices of each class, far from one another in the order of the files."""
    kinds = sorted(set(train.classes.tolist()))
    each = N_SLICES // len(kinds)
    rows = [torch.nonzero(train.classes == c)[:, 0] for c in kinds]
    return torch.cat([row[:: len(row) // each][:each] for row in rows])


def _told(took: Mapping[str, Any], few: Slices) -> dict[str, Any]:
    return {
        "name": "overfitted",
        "budget": dict(took),
        "limits": f"Made to repeat {len(few)} training slices, for testing audits. Never publish it.",
        "boxes": fit_boxes(few.classes, few.boxes).as_json(),
    }


def _quiet(_title: str, _share: float) -> None:
    """It takes minutes."""
