"""``spindose train``: synthetic samples and a recipe joined, with the card of what comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker

from models.weights import save_weights
from mr2ct.tissue_net import TissueNet, train
from synth.on_the_fly import OnTheFly
from synth.randomisation import Randomisation
from synth.subject import Subject

from .console import RESEARCH_ONLY, Progress
from .curves import LOSSES, draw_losses
from .training_heads import Heads, kept_library

_LIMITS = (
    "Trained on synthetic heads alone: no real scan was seen. Adults only. Tumours "
    "are glioblastomas, low-grade gliomas, meningiomas and metastases as the cohort draws them. "
)


@dataclass(frozen=True)
class TissueRun:
    """One training of the tissue network.

    Parameters
    ----------
    heads
        Heads that samples come from.
    samples
        How they differ.
    recipe
        Network and training.
    seed
        Of samples and first weights.
    start
        Weights to start from instead of random ones.
    """

    heads: Heads = field(default_factory=Heads)
    samples: Randomisation = field(
        default_factory=lambda: Randomisation(
            shape=(64, 64, 64),
            spacing=2.0,
            rotation=12.0,
            shift=55.0,
            lesions=0.35,
            randomised=0.1,
            cut=30.0,
            stripped=0.03,
        )
    )
    recipe: TissueNet = field(default_factory=TissueNet)
    seed: int = 0
    start: Path | None = None


def together(run: TissueRun, contrasts: tuple[str, ...], missing: float = 0.25) -> TissueRun:
    """The same run with a network that sees several contrasts of a head at once, or some of them."""
    if not contrasts:
        return run
    samples = replace(run.samples, contrasts=contrasts, missing=missing)
    recipe = replace(run.recipe, net=replace(run.recipe.net, inputs=len(contrasts)))
    return replace(run, samples=samples, recipe=recipe)


def budgeted(run: TissueRun, budget_s: float) -> TissueRun:
    """The same run with another budget of time (s)."""
    return replace(run, recipe=replace(run.recipe, fit=replace(run.recipe.fit, budget_s=budget_s)))


def train_tissues(
    run: TissueRun,
    out: Path,
    progress: Progress,
    given: Sequence[Subject] = (),
    data: str = "built-in anatomy",
    device: str = "cpu",
    trackers: Sequence[GeneralTracker] = (),
) -> Mapping[str, Any]:
    """Trains the tissue network into ``out``; an earlier run there is gone on with.

    Parameters
    ----------
    run
        Heads, samples, network.
    out
        Gets ``tissues.safetensors`` with its card, ``losses.jsonl`` and ``losses.png``.
    progress
        Called with what happens and the share that is done.
    given
        Anatomies to vary beside the built-in one.
    data
        Where they come from, for the card.
    device
        Where it trains.
    trackers
        Accelerate's, told every loss.

    Returns
    -------
    Mapping
        Steps, seconds and last loss.
    """
    library = kept_library(run.heads, given, out / "heads.safetensors", progress)
    library = replace(library, labels=library.labels.to(device))
    recipe = run.recipe
    if device != "cpu":  # samples are made where the library is, by the process that trains
        recipe = replace(recipe, fit=replace(recipe.fit, workers=0))
    samples = OnTheFly(library, run.samples, run.seed)
    folder = out / "checkpoint"
    net, took = train(recipe, samples, folder, progress, device, run.seed, run.start, trackers)
    save_weights(net.state_dict(), card(run, took, data), out / "tissues.safetensors")
    draw_losses(folder / "losses.jsonl", out / LOSSES)
    return took


def card(run: TissueRun, took: Mapping[str, Any], data: str) -> dict[str, Any]:
    """What the weights are, for whoever uses them; the metrics are those of training."""
    together = run.samples.contrasts
    seen = f"{', '.join(together)}, or some of them" if together else "one MRI of any contrast"
    return {
        "name": "tissues",
        "does": f"Tissue classes of a head from {seen}",
        "config": asdict(run.recipe.net) | {"spacing": run.recipe.spacing, "contrasts": together},
        "data": f"{run.heads.count} synthetic heads ({data}), deformed and rendered anew for every step",
        "licence": "Apache-2.0; label maps given with --anatomy have licences of their own",
        "split": "no real image in training; real heads are for testing only",
        "budget": dict(took),
        "metrics": {"training_loss": took["loss"]},
        "limits": _LIMITS + RESEARCH_ONLY,
        "losses": LOSSES,
        "run": asdict(run) | {"start": run.start.name if run.start else None},
        "version": version("spindose"),
    }


def parse_budget(text: str) -> float:
    """Seconds of a budget such as ``90s``, ``25m`` or ``2h``.

    Raises
    ------
    ValueError
        If it is not a positive number with one of these units.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = text[:-1], text[-1:]
    try:
        seconds = float(number) * units[unit]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"expected a budget such as 90s, 25m or 2h, got {text!r}")
    return seconds
