"""``spindose train contours``: heads with their organs joined with the networks that contour them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from models.weights import save_weights
from planning.contour.classes import CONTRASTS
from planning.contour.nets import HEAD_NET, ORGAN_NET, ContourNet, loss_of, train
from synth.on_the_fly import OnTheFly
from synth.randomisation import Randomisation
from synth.subject import Subject

from .console import RESEARCH_ONLY, Progress
from .curves import draw_losses
from .training_heads import Heads, kept_library

_LIMITS = "Trained on synthetic heads alone: no real scan was seen. Adult heads only. "
_OTHER_STREAM = 1_000_003  # of heads and samples that validation looks at
_N_WATCHED = 16
_N_WATCHED_HEADS = 6

_EVERYWHERE = Randomisation(
    shape=(64, 64, 64),
    rotation=12.0,
    shift=60.0,
    randomised=0.1,
    cut=30.0,
    contrasts=CONTRASTS,
    missing=0.4,
)


@dataclass(frozen=True)
class Recipe:
    """What one of the networks is and learns from.

    Parameters
    ----------
    net
        Network and training.
    samples
        How they differ: moved, turned, stretched and bent, of any contrast, noise, bias and slice thickness.
    does
        What the card says of it.
    """

    net: ContourNet
    samples: Randomisation
    does: str


RECIPES = {
    "head": Recipe(
        HEAD_NET,
        replace(_EVERYWHERE, spacing=HEAD_NET.spacing, lesions=0.45, stripped=0.05),
        "Brain, brainstem, eyes, skull and body, and a tumour's parts with a resection's cavity",
    ),
    "organs": Recipe(
        ORGAN_NET,
        replace(_EVERYWHERE, spacing=ORGAN_NET.spacing, organs=0.8),
        "Small organs at risk: brainstem, chiasm, optic nerves, eyes, lenses, cochleae, hippocampi, "
        "pituitary and lacrimal glands; sides are told by place",
    ),
}


@dataclass(frozen=True)
class ContourRun:
    """One training of a contouring network.

    Parameters
    ----------
    kind
        One of :data:`RECIPES`.
    heads
        Heads that samples come from.
    budget_s
        Seconds of training in all.
    seed
        Of samples and first weights.
    start
        Weights to start from instead of random ones: of the same network, or of any other of this shape.

    Raises
    ------
    ValueError
        If there is no such network.
    """

    kind: str
    heads: Heads = field(default_factory=Heads)
    budget_s: float = 3600.0
    seed: int = 0
    start: Path | None = None

    def __post_init__(self) -> None:
        if self.kind not in RECIPES:
            raise ValueError(f"expected a network of {', '.join(RECIPES)}, got {self.kind!r}")

    @property
    def recipe(self) -> Recipe:
        """Network and samples."""
        of = RECIPES[self.kind]
        return replace(of, net=replace(of.net, fit=replace(of.net.fit, budget_s=self.budget_s)))


def train_contours(
    run: ContourRun,
    out: Path,
    progress: Progress,
    given: Sequence[Subject] = (),
    data: str = "built-in anatomy",
    device: str = "cpu",
) -> Mapping[str, Any]:
    """Trains a network into ``out``; an earlier run there is gone on with.

    Parameters
    ----------
    run
        Heads, samples, network.
    out
        Gets the weights with their card, ``checkpoint/`` and the curves ``losses.png`` and ``watch.png``.
    progress
        Called with what happens and the share that is done.
    given
        Anatomies to vary beside the built-in one.
    data
        Where they come from, for the card.
    device
        Where it trains.

    Returns
    -------
    Mapping
        Steps, seconds, last loss, where the weights are, and ``watched``: loss and Dice on other heads.
    """
    recipe = run.recipe
    others = replace(run.heads, count=_N_WATCHED_HEADS, seed=run.heads.seed + _OTHER_STREAM)
    samples = _samples(run.heads, given, out / "heads.safetensors", recipe, run.seed, progress, device)
    watched = _samples(others, (), out / "other_heads.safetensors", recipe, _OTHER_STREAM, progress, device)
    batches = [{name: t[None] for name, t in watched[n].items()} for n in range(_N_WATCHED)]

    def watch(nets: Mapping[str, nn.Module], _: int) -> Mapping[str, float]:
        return score(nets["net"], recipe.net, batches)

    folder = out / "checkpoint"
    net, took = train(recipe.net, samples, folder, progress, device, run.seed, run.start, watch)
    found = score(net, recipe.net, batches)
    took = {**took, "watched": {name: round(value, 4) for name, value in found.items()}}
    weights = out / f"{run.kind}.safetensors"
    save_weights(net.state_dict(), card(run, took, data), weights)
    draw_losses(folder / "losses.jsonl", out / "losses.png")
    draw_losses(folder / "watch.jsonl", out / "watch.png")
    return {**took, "weights": str(weights)}


def score(
    net: nn.Module, config: ContourNet, batches: Sequence[Mapping[str, torch.Tensor]]
) -> dict[str, float]:
    """Loss and Dice of each class over batches; a class that none of them shows is left out."""
    n = len(config.classes.names)
    both, size, loss = torch.zeros(n), torch.zeros(n), 0.0
    with torch.inference_mode():
        for batch in batches:
            loss += float(loss_of(config, net, batch)) / len(batches)
            wanted = config.classes.wanted(batch["labels"], batch.get("organs")).flatten().cpu()
            with torch.autocast(batch["image"].device.type, torch.bfloat16):
                found = net(batch["image"]).argmax(dim=1).flatten().cpu()
            both += torch.bincount(wanted[wanted == found], minlength=n)
            size += torch.bincount(wanted, minlength=n) + torch.bincount(found, minlength=n)
    dice = {
        f"dice_{name}": float(2 * b / s)
        for name, b, s in zip(config.classes.names[1:], both[1:], size[1:], strict=True)
        if s > 0
    }
    return {"loss": loss, **dice}


def _samples(
    heads: Heads,
    given: Sequence[Subject],
    path: Path,
    recipe: Recipe,
    seed: int,
    progress: Progress,
    device: str,
) -> Dataset[dict[str, torch.Tensor]]:
    library = kept_library(heads, given, path, progress, organs=bool(recipe.net.classes.of_organ))
    organs = None if library.organs is None else library.organs.to(device)
    return OnTheFly(replace(library, labels=library.labels.to(device), organs=organs), recipe.samples, seed)


def card(run: ContourRun, took: Mapping[str, Any], data: str) -> dict[str, Any]:
    """What the weights are, for whoever uses them; the metrics are of samples of other synthetic heads."""
    net = run.recipe.net
    return {
        "name": run.kind,
        "does": f"{run.recipe.does}, from {', '.join(CONTRASTS)} or some of them",
        "config": asdict(net.net)
        | {"spacing": net.spacing, "contrasts": CONTRASTS, "classes": net.classes.names},
        "data": f"{run.heads.count} synthetic heads ({data}), deformed and rendered anew for every step",
        "licence": "Apache-2.0; label maps given with --anatomy have licences of their own",
        "split": "no real image in training; validation on samples of other synthetic heads; real heads are "
        "for testing only",
        "budget": {name: took[name] for name in ("steps", "seconds", "loss")},
        "metrics": {"training_loss": took["loss"], "validation": took["watched"]},
        "limits": _LIMITS + RESEARCH_ONLY,
        "run": {
            "heads": asdict(run.heads),
            "samples": asdict(run.recipe.samples),
            "seed": run.seed,
            "start": run.start.name if run.start else None,
        },
        "version": version("spindose"),
    }
