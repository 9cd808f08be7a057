"""``spindose train mr2ct``: pairs of MRI and CT joined with the network that learns from them.

Pairs are synthetic, and real ones beside them where a user has some: those are looked at first, and some
patients are kept apart to be tested on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker
from torch import Tensor
from torch.utils.data import Dataset

from models.unet import unet
from models.weights import load_weights, mix_with, save_weights
from mr2ct.ct_features import SegmenterOfCts, ct_features
from mr2ct.recipes import FLOW, RECIPES, Trained
from mr2ct.regression import RegressionNet
from synth.paired import Pairs
from synth.randomisation import ANY, Randomisation
from synth.subject import Subject

from .console import RESEARCH_ONLY, Progress
from .curves import LOSSES, draw_losses
from .paired_cases import paired_cases
from .paired_material import Material, prepare_pairs
from .paired_score import scored
from .prepared import expect_data, keep_split, split_patients
from .real_pairs import Mixed, RealPairs
from .training_heads import Heads, kept_library

WEIGHTS = "mr2ct.safetensors"
_OTHER_STREAM = 1_000_003  # of samples than the network's own
PAIRS = "pairs"  # the folder of prepared real pairs in that of a run
_SEES_PAIRS = ("regression", "gan")
_LICENCE = "Apache-2.0; label maps given with --anatomy have licences of their own"
_LIMITS = "Trained on synthetic heads alone: no real scan and no real CT was seen. Adult heads only. "


@dataclass(frozen=True)
class Mr2ctRun:
    """One training of the network of CT numbers.

    Parameters
    ----------
    heads
        Heads that pairs come from.
    samples
        How they differ; contrasts are in any order, half of them missing. Gradient echoes (T2*) are
        none of them, so that there is a contrast to be tested on that no step has seen.
    kind
        One of :data:`mr2ct.recipes.RECIPES`.
    recipe
        Network and training; recipes but the regression keep their own rates.
    features
        The segmenter of CTs whose features join the loss of recipes that see pairs; None leaves them out.
    seed
        Of samples and first weights: networks of several seeds are an ensemble.
    start
        Weights to start from instead of random ones.
    kept
        Share of them in the weights at the end (:func:`models.weights.mix_with`).
    real
        Share of samples of real pairs, where some are given.
    held_out
        Share of their patients that no step sees.

    Raises
    ------
    ValueError
        If a share lies outside 0..1, nobody would be held out or taught, there is no such recipe, or none
        that could keep a share of a start.
    """

    heads: Heads = field(default_factory=Heads)
    samples: Randomisation = field(
        default_factory=lambda: Randomisation(
            shape=(64, 64, 64),
            spacing=1.5,
            rotation=12.0,
            shift=60.0,
            lesions=0.05,
            cavities=0.4,
            hollow=0.5,
            randomised=0.1,
            thick=0.45,
            cut=30.0,
            contrasts=(ANY,) * 4,
            missing=0.5,
        )
    )
    kind: str = "regression"
    recipe: RegressionNet = field(default_factory=RegressionNet)
    features: SegmenterOfCts | None = field(default_factory=SegmenterOfCts)
    seed: int = 0
    start: Path | None = None
    kept: float = 0.0
    real: float = 0.5
    held_out: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.real <= 1 or not 0 < self.held_out < 1:
            raise ValueError(
                "expected --real above 0 and at most 1 and --held-out between 0 and 1, got "
                f"{self.real} and {self.held_out}"
            )

        if self.kind not in RECIPES:
            raise ValueError(f"expected a recipe of {', '.join(RECIPES)}, got {self.kind!r}")
        if not 0 <= self.kept < 1:
            raise ValueError(f"expected --keep-start of 0 to less than 1, got {self.kept:g}")
        if self.kept and (self.start is None or self.kind == "flow"):
            raise ValueError(
                "expected --keep-start with --start and a recipe other than flow, got it without; "
                "name the weights to keep a share of, or leave it out"
            )

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
    real: Sequence[Path] = (),
    trackers: Sequence[GeneralTracker] = (),
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
    real
        Folders of real pairs (:mod:`app.paired_cases`) to mix in; the segmenter of CTs, which learns from
        labels, sees synthetic ones alone.
    trackers
        Accelerate's, told every loss.

    Returns
    -------
    Mapping
        Steps, seconds, last loss and where the weights are; with real pairs also ``pairs``, how many there
        are of each kind and what was left out, and ``held_out``, the figures of
        :func:`app.paired_score.scored`.

    Raises
    ------
    ValueError
        If real pairs are given and none fits, the run in ``out`` began with others, or weights that a share
        of is kept are of another network.
    """
    if real and run.kind == "flow":
        raise ValueError(
            "expected the flow without DATA, which it cannot be scored on, got some; leave it out"
        )
    if run.kept and run.start is not None:
        load_weights(unet(run.recipe.net), run.start)  # refused now rather than after the budget is spent
    material = real_material(run, real, out, progress)
    library = kept_library(run.heads, given, out / "heads.safetensors", progress)
    library = replace(library, labels=library.labels.to(device))
    pairs = Pairs(library, run.samples, run.seed)
    features = None
    if run.features is not None and run.kind in _SEES_PAIRS:
        cts = replace(pairs, seed=run.seed + _OTHER_STREAM)
        features = ct_features(cts, run.samples.shape, out / "ct_features", progress, run.features, device)
    samples: Dataset[dict[str, Tensor]] = pairs
    if material is not None:
        there = RealPairs([p.path for p in material.training], run.samples, run.seed, device)
        samples = Mixed(pairs, there, run.real, run.seed)
    learn = RECIPES[run.kind]
    folder = out / "checkpoint"
    made = learn(run.recipe, samples, folder, progress, device, run.seed, run.start, features, trackers)
    if run.kept and run.start is not None:
        mix_with(made.net, run.start, run.kept)
    took = made.took
    if material is not None:
        held_out = scored(material.held_out, [made.net], run.recipe, progress)
        took = {**took, "pairs": _told(material), "held_out": held_out}
    weights = out / (f"{FLOW}.safetensors" if made.name == FLOW else WEIGHTS)
    save_weights(made.net.state_dict(), card(run, made, took, data, material), weights)
    draw_losses(folder / "losses.jsonl", out / LOSSES)
    return {**took, "weights": str(weights)}


def real_material(run: Mr2ctRun, real: Sequence[Path], out: Path, progress: Progress) -> Material | None:
    """Real pairs made ready in ``out/pairs`` and split by patient; None where none are given.

    Raises
    ------
    ValueError
        If none fits, or the run in ``out`` began with other pairs, or otherwise mixed.
    """
    kept = out / PAIRS / "split.json"
    expect_data(real, kept)
    if not real:
        return None
    found = paired_cases(real)
    ready, left_out = prepare_pairs(found.pairs, run.recipe.spacing, out / PAIRS, progress)
    training, held_out = split_patients(ready, run.held_out)
    material = Material(tuple(training), tuple(held_out), left_out, found.skipped)
    told = {"real": run.real, **material.keys}
    keep_split(kept, told, (out / "checkpoint").exists(), "pairs, --real and --held-out")
    return material


def _told(material: Material) -> dict[str, Any]:
    return {
        "training": len(material.training),
        "held out": len(material.held_out),
        "left out": dict(material.left_out),
        "skipped": dict(material.skipped),
    }


def card(
    run: Mr2ctRun, made: Trained, took: Mapping[str, Any], data: str, material: Material | None = None
) -> dict[str, Any]:
    """What the weights are, for whoever uses them; without real pairs the metrics are those of training."""
    synthetic = (
        f"{run.heads.count} synthetic heads ({data}), deformed, rendered and given CT numbers anew "
        f"for every step; contrasts of {', '.join(sorted(set(run.samples.sequences)))} and random ones"
    )
    mixed = None if material is None else _of_pairs(run, material)
    held_out = {"held_out": took["held_out"]} if "held_out" in took else {}
    told = made.card()
    return {
        **{key: told[key] for key in ("name", "does", "config")},
        "method": told["method"] + (f"; {run.kept:.0%} of the weights are the start's" if run.kept else ""),
        "data": synthetic + (f"; {mixed['data']}" if mixed else ""),
        "licence": mixed["licence"] if mixed else _LICENCE,
        "split": mixed["split"] if mixed else "no real image in training; real heads are for testing only",
        "budget": {name: took[name] for name in ("steps", "seconds", "loss") if name in took},
        "metrics": {"training_loss": took["loss"], **held_out},
        "limits": (mixed["limits"] if mixed else _LIMITS) + RESEARCH_ONLY,
        "losses": LOSSES,
        "run": _of_run(run, mixed is not None),
        "version": version("spindose"),
    }


def _of_run(run: Mr2ctRun, mixed: bool) -> dict[str, Any]:
    """Settings, without a path, which tells of a machine, nor shares of pairs that there are none of."""
    told = asdict(run) | {"start": run.start.name if run.start else None}
    return (
        told if mixed else {name: value for name, value in told.items() if name not in ("real", "held_out")}
    )


def _of_pairs(run: Mr2ctRun, material: Material) -> dict[str, str]:
    """What a card says of real pairs: counts and kinds, and nobody's name."""
    n, out = len(material.training), len(material.held_out)
    kinds = ", ".join(sorted({pair.files.layout for pair in (*material.training, *material.held_out)}))
    counted = f"{n} real pairs of the user's ({kinds}) in {run.real:.0%} of the samples"
    patients = len({pair.files.patient for pair in material.held_out})
    return {
        "data": f"{counted}; {len(material.left_out)} pairs or contrasts did not fit and were left out",
        "licence": _LICENCE + "; the real pairs have a licence of their own, which may forbid some uses",
        "split": f"{patients} patients ({out} pairs) of the real ones held out, the same for every "
        "seed; synthetic heads are for training only",
        "limits": f"Trained on synthetic heads and {n} real pairs. Adult heads only. ",
    }
