"""``spindose train contours``: heads with their organs joined with the networks that contour them.

Heads are synthetic, and a user's own cases beside them where there are some: their patients are split, and
the network is scored on those that it never saw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import GeneralTracker
from torch import nn
from torch.utils.data import Dataset

from models.unet import unet
from models.weights import save_weights, start_from
from planning.contour.classes import CONTRASTS
from planning.contour.nets import ContourNet, loss_of, train
from synth.on_the_fly import OnTheFly
from synth.subject import Subject

from .approved import approved_weights
from .console import RESEARCH_ONLY, Progress
from .contour_held_out import scored
from .contour_material import Cases
from .contour_real import OWN, Real, card_of, known_of, real_cases, told_of
from .contour_recipes import RECIPES, Recipe, own_recipe
from .contour_samples import MixedContours, RealContours
from .curves import LOSSES, draw_losses
from .training_heads import Heads, kept_library

_LIMITS = "Trained on synthetic heads alone: no real scan was seen. Adult heads only. "
_OTHER_STREAM = 1_000_003  # of heads and samples that validation looks at
_N_WATCHED = 16
_N_WATCHED_HEADS = 6


@dataclass(frozen=True)
class ContourRun:
    """One training of a contouring network.

    Parameters
    ----------
    kind
        One of :data:`app.contour_recipes.RECIPES`, or ``own`` for structures of the user's.
    heads
        Heads that samples come from.
    budget_s
        Seconds of training in all.
    seed
        Of samples and first weights.
    start
        Weights to start from instead of random ones: of the same network, or of any other of this shape.
    parent
        The approved model that they are of, with its revision.
    real
        How real cases take part, where some are given.
    patience
        Looks without improvement before training stops (:class:`models.fit.Fit`); 0 to train to the end.

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
    parent: str = ""
    real: Real = field(default_factory=Real)
    patience: int = 0

    def __post_init__(self) -> None:
        if self.kind not in (*RECIPES, OWN):
            raise ValueError(f"expected a network of {', '.join(RECIPES)}, or {OWN}, got {self.kind!r}")

    @property
    def recipe(self) -> Recipe:
        """Network and samples."""
        of = own_recipe(tuple(known_of(OWN, self.real.names))) if self.kind == OWN else RECIPES[self.kind]
        fit = replace(of.net.fit, budget_s=self.budget_s, patience=self.patience)
        return replace(of, net=replace(of.net, fit=fit))


def started(run: ContourRun, model: str) -> ContourRun:
    """The same run from the weights of an approved model of the catalogue; as it is where none is named.

    Raises
    ------
    ValueError
        If weights are given too, or as :func:`app.approved.approved_weights`.
    """
    if not model:
        return run
    if run.start is not None:
        raise ValueError("expected either --start or --start-model, got both; give one")
    path, parent = approved_weights(model, run.recipe.net.classes.names)
    return replace(run, start=path, parent=parent)


def train_contours(
    run: ContourRun,
    out: Path,
    progress: Progress,
    given: Sequence[Subject] = (),
    data: str = "built-in anatomy",
    device: str = "cpu",
    real: Sequence[Path] = (),
    trackers: Sequence[GeneralTracker] = (),
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
    real
        Folders of real cases (:mod:`app.contour_cases`) to mix in.
    trackers
        Accelerate's, told every loss.

    Returns
    -------
    Mapping
        Steps, seconds, last loss, where the weights are, and ``watched``: loss and Dice on other samples;
        with real cases also ``cases``, how many there are of each kind and what was left out, and
        ``held_out``, the Dice of :func:`app.contour_held_out.scored` and that of the start's weights.

    Raises
    ------
    ValueError
        If real cases are given and none fits, the run in ``out`` began with others, or a network of one's own
        has none.
    """
    recipe = run.recipe
    if run.kind == OWN and not real:
        raise ValueError("expected DATA with contours for a network of one's own structures, got none")
    classes = recipe.net.classes
    cases = real_cases(run.kind, run.real, real, len(classes.names), recipe.net.spacing, out, progress)
    samples, batches = _supplies(run, recipe, given, out, progress, device, cases)

    def watch(nets: Mapping[str, nn.Module], _: int) -> Mapping[str, float]:
        return score(nets["net"], recipe.net, batches)

    folder = out / "checkpoint"
    net, took = train(recipe.net, samples, folder, progress, device, run.seed, run.start, watch, trackers)
    found = score(net, recipe.net, batches)
    took = {**took, "watched": {name: round(value, 4) for name, value in found.items()}}
    if cases is not None:
        took |= {"cases": told_of(cases), "held_out": _held_out(run, recipe.net, net, cases, progress)}
    weights = out / f"{run.kind}.safetensors"
    save_weights(net.state_dict(), card(run, took, data, cases), weights)
    draw_losses(folder / "losses.jsonl", out / LOSSES)
    draw_losses(folder / "watch.jsonl", out / "watch.png")
    return {**took, "weights": str(weights)}


def _held_out(
    run: ContourRun, config: ContourNet, net: nn.Module, cases: Cases, progress: Progress
) -> dict[str, Any]:
    """Scores on held-out patients, with those of the weights that training started from."""
    found: dict[str, Any] = {"structures": scored(cases.held_out, net, config, progress)}
    if run.start is not None:
        torch.manual_seed(run.seed)
        before = unet(config.net)
        start_from(before, run.start, partly=True)
        device = next(net.parameters()).device
        found["start"] = scored(cases.held_out, before.to(device).eval(), config, progress)
    return found


def score(
    net: nn.Module, config: ContourNet, batches: Sequence[Mapping[str, torch.Tensor]]
) -> dict[str, float]:
    """Loss and Dice of each class over batches where it is known; one that none shows is left out."""
    n = len(config.classes.names)
    both, size, loss = torch.zeros(n), torch.zeros(n), 0.0
    with torch.inference_mode():
        for batch in batches:
            loss += float(loss_of(config, net, batch)) / len(batches)
            allowed = batch.get("allowed")
            if allowed is None:
                allowed = 1 << config.classes.wanted(batch["labels"], batch.get("organs"))
            with torch.autocast(batch["image"].device.type, torch.bfloat16):
                found = 1 << net(batch["image"]).argmax(dim=1)
            for c in range(n):
                there, told = allowed == 1 << c, found == 1 << c
                both[c] += (there & told).sum().cpu()
                size[c] += (there.sum() + (told & (there | ((allowed & (1 << c)) == 0))).sum()).cpu()
    dice = {
        f"dice_{name}": float(2 * b / s)
        for name, b, s in zip(config.classes.names[1:], both[1:], size[1:], strict=True)
        if s > 0
    }
    return {"loss": loss, **dice}


def _supplies(
    run: ContourRun,
    recipe: Recipe,
    given: Sequence[Subject],
    out: Path,
    progress: Progress,
    device: str,
    cases: Cases | None,
) -> tuple[Dataset[dict[str, torch.Tensor]], list[dict[str, torch.Tensor]]]:
    """What the network learns from, and batches that it is looked at on, of other heads and patients."""
    how = recipe.samples
    looked_at: list[dict[str, torch.Tensor]] = []
    samples: Dataset[dict[str, torch.Tensor]]
    if run.kind != OWN:
        others = replace(run.heads, count=_N_WATCHED_HEADS, seed=run.heads.seed + _OTHER_STREAM)
        samples = _samples(run.heads, given, out / "heads.safetensors", recipe, run.seed, progress, device)
        watched = _samples(
            others, (), out / "other_heads.safetensors", recipe, _OTHER_STREAM, progress, device
        )
        looked_at += [watched[n] for n in range(_N_WATCHED)]
    if cases is not None:
        real = RealContours(cases.training, how, run.seed, device)
        seen = RealContours(cases.watched or cases.training, how, _OTHER_STREAM, device)
        looked_at += [seen[n] for n in range(_N_WATCHED)]
        mixed = run.kind != OWN
        samples = (
            MixedContours(samples, real, recipe.net.classes, run.real.share, run.seed) if mixed else real
        )
    return samples, [{name: t[None] for name, t in sample.items()} for sample in looked_at]


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
    organs = None if library.organs is None else recipe.net.classes.only(library.organs).to(device)
    return OnTheFly(replace(library, labels=library.labels.to(device), organs=organs), recipe.samples, seed)


def card(run: ContourRun, took: Mapping[str, Any], data: str, cases: Cases | None = None) -> dict[str, Any]:
    """What the weights are, for whoever uses them; metrics are of other heads and held-out cases."""
    net = run.recipe.net
    synthetic = f"{run.heads.count} synthetic heads ({data}), deformed and rendered anew for every step"
    licence = "Apache-2.0; label maps given with --anatomy have licences of their own"
    mixed = card_of(run.real, cases, run.kind != OWN) if cases is not None else {}
    held_out = {"held_out": took["held_out"]} if "held_out" in took else {}
    return {
        "name": run.kind,
        "does": f"{run.recipe.does}, from {', '.join(CONTRASTS)} or some of them",
        "config": asdict(net.net)
        | {"spacing": net.spacing, "contrasts": CONTRASTS, "classes": net.classes.names},
        "data": "; ".join([*([synthetic] if run.kind != OWN else []), *([mixed["data"]] if mixed else [])]),
        "licence": "; ".join([licence, *([mixed["licence"]] if mixed else [])]),
        "split": mixed.get(
            "split",
            "no real image in training; validation on samples of other synthetic heads; real heads are "
            "for testing only",
        ),
        "budget": {name: took[name] for name in ("steps", "seconds", "loss")},
        "metrics": {"training_loss": took["loss"], "validation": took["watched"], **held_out},
        "limits": mixed.get("limits", _LIMITS) + RESEARCH_ONLY,
        "losses": LOSSES,
        **({"parent": run.parent} if run.parent else {}),
        "run": {
            "heads": asdict(run.heads),
            "samples": asdict(run.recipe.samples),
            "seed": run.seed,
            "start": run.start.name if run.start else None,
            "patience": run.patience,
            **({"real": asdict(run.real)} if cases is not None else {}),
        },
        "version": version("spindose"),
    }
