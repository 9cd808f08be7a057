"""``spindose train mr2ct``: pairs of MRI and CT joined with the network that learns from them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.weights import save_weights
from mr2ct.regression import RegressionNet, train
from synth.paired import Pairs
from synth.randomisation import ANY, Randomisation
from synth.subject import Subject

from .console import RESEARCH_ONLY, Progress
from .curves import draw_losses
from .training_heads import Heads, kept_library

WEIGHTS = "mr2ct.safetensors"
_LIMITS = "Trained on synthetic heads alone: no real scan and no real CT was seen. Adult heads only. "


@dataclass(frozen=True)
class Mr2ctRun:
    """One training of the network of CT numbers.

    Parameters
    ----------
    heads
        Heads that pairs come from.
    samples
        How they differ; contrasts are in any order, six in ten of them missing. Gradient echoes (T2*) are
        none of them, so that there is a contrast to be tested on that no step has seen.
    recipe
        Network and training.
    seed
        Of samples and first weights: networks of several seeds are an ensemble.
    start
        Weights to start from instead of random ones.
    """

    heads: Heads = field(default_factory=Heads)
    samples: Randomisation = field(
        default_factory=lambda: Randomisation(
            shape=(96, 96, 96),
            spacing=1.2,
            rotation=12.0,
            shift=60.0,
            lesions=0.2,
            randomised=0.2,
            cut=30.0,
            contrasts=(ANY,) * 4,
            missing=0.6,
        )
    )
    recipe: RegressionNet = field(default_factory=RegressionNet)
    seed: int = 0
    start: Path | None = None

    def budgeted(self, budget_s: float) -> "Mr2ctRun":
        """The same run with another budget of time (s)."""
        return replace(self, recipe=replace(self.recipe, fit=replace(self.recipe.fit, budget_s=budget_s)))


def train_mr2ct(
    run: Mr2ctRun,
    out: Path,
    progress: Progress,
    given: Sequence[Subject] = (),
    data: str = "built-in anatomy",
    device: str = "cpu",
) -> Mapping[str, Any]:
    """Trains the network into ``out``; an earlier run there is gone on with.

    Parameters
    ----------
    run
        Heads, samples, network.
    out
        Gets ``mr2ct.safetensors`` with its card, ``checkpoint/`` and ``losses.png``.
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
        Steps, seconds and last loss.
    """
    library = kept_library(run.heads, given, out / "heads.safetensors", progress)
    library = replace(library, labels=library.labels.to(device))
    pairs = Pairs(library, run.samples, run.seed)
    net, took = train(run.recipe, pairs, out / "checkpoint", progress, device, run.seed, run.start)
    save_weights(net.state_dict(), card(run, took, data), out / WEIGHTS)
    draw_losses(out / "checkpoint" / "losses.jsonl", out / "losses.png")
    return took


def card(run: Mr2ctRun, took: Mapping[str, Any], data: str) -> dict[str, Any]:
    """What the weights are, for whoever uses them; the metrics are those of training."""
    return {
        "name": "mr2ct",
        "does": "CT numbers of a head, and how far they may be off, from one to four MRI of any contrast",
        "config": asdict(run.recipe.net) | {"spacing": run.recipe.spacing, "shape": run.recipe.shape},
        "data": f"{run.heads.count} synthetic heads ({data}), deformed, rendered and given CT numbers anew "
        f"for every step; contrasts of {', '.join(sorted(set(run.samples.sequences)))} and random ones",
        "licence": "Apache-2.0; label maps given with --anatomy have licences of their own",
        "split": "no real image in training; real heads are for testing only",
        "budget": dict(took),
        "metrics": {"training_loss": took["loss"]},
        "limits": _LIMITS + RESEARCH_ONLY,
        "run": asdict(run) | {"start": run.start.name if run.start else None},
        "version": version("spindose"),
    }
