"""``spindose train encoder``: slices and the contrastive recipe joined, with the card of what comes out."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import GeneralTracker
from torch import Tensor, nn
from torch.utils.data import Dataset

from imaging.slices import Slices, read_slices, split_by_blocks
from models.encoder import embed, save_encoder, weights_hash
from models.fit import Fit
from synth.contrastive import NET, Contrastive, train
from synth.on_the_fly import generator_of
from synth.privacy.control import near_copies

from .console import RESEARCH_ONLY, Progress
from .curves import LOSSES, draw_losses
from .evaluate_synthetic import classes_of_neighbours
from .extractors import SLICES
from .slice_examples import pictures

_OTHER = 0x5EED  # moves the seed of the split away from the generators'
_LOOKED_AT = 200  # held-out slices whose copies are looked for


@dataclass(frozen=True)
class EncoderRun:
    """One training of the encoder.

    Parameters
    ----------
    recipe
        Network and training; the number of classes is that of the slices.
    side
        Pixels a side.
    held_out
        Share of each class's blocks that training never sees.
    seed
        Of split, samples and first weights. The split is another than that of a generator with this seed:
        whether a generator saw a slice then says nothing about whether the encoder did, which an audit of
        the generator relies on.
    """

    recipe: Contrastive = field(default_factory=Contrastive)
    side: int = 128
    held_out: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ValueError(f"expected a share between 0 and 1 to hold out, got {self.held_out}")


def budgeted(run: EncoderRun, budget_s: float) -> EncoderRun:
    """The same run with another budget of time (s)."""
    fit: Fit = replace(run.recipe.fit, budget_s=budget_s)
    return replace(run, recipe=replace(run.recipe, fit=fit))


class Rounds(Dataset[dict[str, Tensor]]):
    """Slices in rounds, each in another order: no batch within a round holds a slice twice.

    Parameters
    ----------
    slices
        Those to learn from.
    seed
        Of the orders.
    length
        Samples in all.
    """

    def __init__(self, slices: Slices, seed: int, length: int = 10_000_000) -> None:
        self.images, self.classes = pictures(slices), slices.classes
        self.seed, self.length = seed, length
        self._round, self._order = -1, torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample ``index``: ``image`` (1, rows, columns) and ``class``, a number."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        which, place = divmod(index, len(self.images))
        if which != self._round:
            self._order = torch.randperm(len(self.images), generator=generator_of(self.seed, which))
            self._round = which
        n = int(self._order[place])
        return {"image": self.images[n], "class": self.classes[n]}


def train_encoder(
    run: EncoderRun,
    data: Path,
    out: Path,
    progress: Progress,
    device: str = "cpu",
    trackers: Sequence[GeneralTracker] = (),
) -> Mapping[str, Any]:
    """Trains the encoder into ``out``; an earlier run there is gone on with.

    Parameters
    ----------
    run
        What to train.
    data
        Folder of slices (`imaging.slices`).
    out
        Gets ``encoder-slices.safetensors`` with its card, ``checkpoint/`` and ``losses.png``.
    progress
        Called with what happens and the share that is done.
    device
        Where it trains.
    trackers
        Accelerate's, told every loss.

    Returns
    -------
    Mapping
        Steps, seconds, last loss, what held-out slices showed, and the hash of the weights.
    """
    slices = read_slices(data, run.side)
    split = torch.Generator().manual_seed(run.seed ^ _OTHER)
    learnt, held_out = split_by_blocks(slices, run.held_out, split)
    recipe = replace(run.recipe, n_classes=len(slices.names))
    watch = partial(_watched, learnt=learnt, held_out=held_out, seed=run.seed)
    samples = Rounds(learnt, run.seed)
    folder = out / "checkpoint"
    net, took = train(recipe, samples, folder, progress, device, run.seed, watch, trackers)
    metrics = held_out_figures(net, learnt, held_out, run.seed)
    path = out / SLICES
    save_encoder(net.cpu(), card(run, took, metrics, learnt, held_out), path)
    draw_losses(folder / "losses.jsonl", out / LOSSES)
    return {**took, **metrics, "weights_sha256": weights_hash(path)}


def _watched(
    nets: Mapping[str, nn.Module], _step: int, learnt: Slices, held_out: Slices, seed: int
) -> Mapping[str, float]:
    return held_out_figures(nets[NET], learnt, held_out, seed)


def held_out_figures(net: nn.Module, learnt: Slices, held_out: Slices, seed: int) -> dict[str, float]:
    """What the features of held-out slices are worth.

    Parameters
    ----------
    net
        Gives features.
    learnt, held_out
        Slices that it was trained on, and others.
    seed
        Of the disguise of copies.

    Returns
    -------
    dict
        ``class_accuracy``: share whose class their five nearest training slices tell. ``copies_found``:
        share of disguised copies (:func:`synth.privacy.control.near_copies`) to which, of all slices, their
        own original is the nearest.
    """
    device = next(net.parameters()).device
    seen, others = (embed(net, pictures(part).to(device)).cpu() for part in (learnt, held_out))
    told = classes_of_neighbours(others, seen, learnt.classes)
    few = torch.linspace(0, len(held_out) - 1, min(_LOOKED_AT, len(held_out))).round().long()
    copies = near_copies(pictures(held_out.at(few)), torch.Generator().manual_seed(seed))
    near = torch.cdist(embed(net, copies.to(device)).cpu(), torch.cat([others, seen])).argmin(dim=1)
    return {
        "class_accuracy": float((told == held_out.classes).double().mean()),
        "copies_found": float((near == few).double().mean()),
    }


def card(
    run: EncoderRun,
    took: Mapping[str, Any],
    metrics: Mapping[str, float],
    learnt: Slices,
    held_out: Slices,
) -> dict[str, Any]:
    """What the weights are, for whoever uses them."""
    return {
        "name": "encoder-slices",
        "does": f"Turns a slice of {run.side} pixels a side into {run.recipe.encoder.features} features, to "
        "compare sets of slices and to find copies",
        "data": {
            "training slices": len(learnt),
            "held-out slices": len(held_out),
            "classes": list(learnt.names),
            "training hash": hashlib.sha256(learnt.images.numpy().tobytes()).hexdigest(),
            "held-out numbers": {
                name: sorted(held_out.numbers[held_out.classes == c].tolist())
                for c, name in enumerate(held_out.names)
            },
        },
        "licence": "Weights: Apache-2.0, as far as the licence of the data they were trained on allows",
        "split": f"{run.held_out:.0%} of each class's blocks of 60 file numbers held out, by another seed "
        "than the generators'",
        "budget": dict(took),
        "metrics": dict(metrics),
        "limits": "Figures compare only among those made with these very weights. Blind by training to "
        "small turns, shifts, zooms, mirroring and linear brightness. " + RESEARCH_ONLY,
        "losses": LOSSES,
        "run": asdict(run),
        "version": version("spindose"),
    }
