"""``spindose train diffusion`` and ``train gan``: material, recipe and loop, with sheets as it learns."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from accelerate.tracking import GeneralTracker
from torch import Tensor, nn

from imaging.atomic import whole_file
from models.fit import Fit
from models.generator import FULL, LABELS, SLICES, SMALL, Generator, GeneratorConfig, Predicts
from models.pipeline import GeneratorPipeline, fingerprint
from models.samplers import Sampler, noise_dpm, one_pass, shortcut
from synth import adversarial, diffusion
from synth.collapse import Collapse, Diversity, collapse

from .console import RESEARCH_ONLY, Progress
from .curves import LOSSES, draw_losses
from .drawer import USUAL, starting_render
from .generator_material import Material, slice_material, volume_material
from .generator_sheet import sheet
from .volume_examples import Lattice

SIZES = ("slices", "small", "full")
KINDS = ("diffusion", "ddpm", "gan")
_SLICE = 128  # pixels a side
LATTICES = {"small": Lattice((64, 64, 64), 3.0), "full": Lattice((128, 128, 128), 1.5)}
_NETS = {"slices": SLICES, "small": SMALL, "full": FULL}
_BATCH = {"slices": 8, "small": 2, "full": 4}
_TUMOUR = 9.0  # times that a voxel of a tumour counts more, in volumes that say where it is
_DRAWS = 2  # of each condition on a sheet
_ONE_STEP = {"sampler": "shortcut", "n_steps": 1}  # obeys labels best: noise that a step leaves adds up
_GIVE_UP = 3  # sheets in a row that may show a collapse before it is told aloud


@dataclass(frozen=True)
class GeneratorRun:
    """One training of a generator.

    Parameters
    ----------
    kind
        ``diffusion`` (flow matching with shortcuts), ``ddpm`` for comparison, or ``gan``.
    size
        ``slices``, ``small`` or ``full``.
    fit
        Budget, batch and rates; None for the recipe's own with ``budget_s``.
    budget_s
        Seconds of training over every resumption.
    held_out
        Share of the data that training never sees.
    seed
        Of the split, the samples, the first weights and the noise.
    net
        Another network than the size's own.
    labels
        Whether label maps are drawn instead of MRI, so that whole patients can be.
    start
        Folder of a pipeline whose weights are the first ones, of the same size: a GAN's one step is that of
        a diffusion's shortcut.
    render
        Share of what a flow of volumes starts from that is a render of the labels and not noise.

    Raises
    ------
    ValueError
        If there is no such kind or size, or the share is not one.
    """

    kind: str = "diffusion"
    size: str = "slices"
    fit: Fit | None = None
    budget_s: float = 3600.0
    held_out: float = 0.25
    seed: int = 0
    net: GeneratorConfig | None = None
    labels: bool = False
    start: Path | None = None
    render: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.size not in SIZES:
            raise ValueError(
                f"expected a kind of {', '.join(KINDS)} and a size of {', '.join(SIZES)}, "
                f"got {self.kind!r} and {self.size!r}"
            )
        if self.labels and (self.size == "slices" or self.kind == "ddpm"):
            raise ValueError("expected label maps to be drawn in small or full volumes, by diffusion or gan")
        if self.start is not None and self.kind == "ddpm":
            raise ValueError("expected a DDPM from scratch, got --start; leave it out")
        plain = self.size == "slices" or self.labels or self.kind != "diffusion" or self.start is not None
        if not 0 <= self.render < 1 or (self.render and plain):
            raise ValueError(
                "expected --render from 0 to below 1, and of volumes by diffusion from scratch alone, got "
                f"{self.render} otherwise"
            )
        if not 0 < self.held_out < 1:
            raise ValueError(f"expected a share between 0 and 1 to hold out, got {self.held_out}")


def train_generator(
    run: GeneratorRun,
    data: Sequence[Path],
    out: Path,
    progress: Progress,
    device: str = "cpu",
    trackers: Sequence[GeneralTracker] = (),
) -> Mapping[str, Any]:
    """Trains a generator into ``out``; an earlier run there is gone on with.

    Parameters
    ----------
    run
        What to train.
    data
        Folders: of slices, or of cases in BraTS layout and cohorts.
    out
        Gets ``pipeline/`` (weights, settings, card), ``checkpoint/`` with losses and what the watch saw,
        ``sheets/`` as training goes, and ``losses.png``.
    progress
        Called with what happens and the share that is done.
    device
        Where it trains; each process of ``accelerate launch`` takes one of that kind.
    trackers
        Accelerate's, told every loss.

    Returns
    -------
    Mapping
        Steps, seconds, last loss, what the last sheet showed (``shown``), and the hash of the weights.
    """
    here = PartialState(cpu=device == "cpu")
    with here.main_process_first():
        material = _material(run, data, out, progress)
    watch = partial(_look, run=run, material=material, out=out, progress=progress, seen=[])
    net, took = _trained(run, material, out / "checkpoint", progress, str(here.device), watch, trackers)
    if not here.is_main_process:
        return took
    took = {**took, "shown": _last_seen(out / "checkpoint" / "watch.jsonl")}
    pipeline = GeneratorPipeline(net)
    pipeline.card = card(run, took, material)
    pipeline.save_pretrained(out / "pipeline", half=True)
    draw_losses(out / "checkpoint" / "losses.jsonl", out / LOSSES)
    return {**took, "weights": fingerprint(out / "pipeline")}


def _material(run: GeneratorRun, data: Sequence[Path], out: Path, progress: Progress) -> Material:
    if run.size == "slices":
        if len(data) != 1:
            raise ValueError(f"expected one folder of slices, got {len(data)}; join them")
        return slice_material(data[0], _SLICE, run.held_out, run.seed)
    lattice, kept = LATTICES[run.size], out / "volumes" / run.size
    return volume_material(
        data, lattice, run.held_out, run.seed, kept, progress, run.labels, rendered=run.render > 0
    )


def _trained(
    run: GeneratorRun,
    material: Material,
    folder: Path,
    progress: Progress,
    device: str,
    watch: Callable[[Mapping[str, nn.Module], int], Mapping[str, float]],
    trackers: Sequence[GeneralTracker],
) -> tuple[Generator, Mapping[str, Any]]:
    start = None if run.start is None else _start(run.start, material)
    size = replace(
        start.settings if start else run.net or (LABELS if run.labels else _NETS[run.size]),
        predicts=Predicts.VELOCITY,
        render_share=start.settings.render_share if start else run.render,
        contrasts=int(material.real.shape[1]),
        classes=int(material.conditions.shape[1]),
        band_std=start.settings.band_std if start else material.band_std,
    )
    samples = material.samples
    if run.kind == "gan":
        gan = adversarial.Adversarial(adversarial.one_pass(size))
        gan = gan if start is None else adversarial.refining(gan)
        gan = replace(gan, fit=_fit(run, gan.fit))
        return adversarial.train(gan, samples, folder, progress, device, run.seed, watch, trackers, start)
    if run.kind == "ddpm":
        size = replace(size, predicts=Predicts.NOISE, widths=0, spread=0.0)
    flow = diffusion.DiffusionConfig(size, tumour=_TUMOUR if _told(run) else 0.0)
    flow = replace(flow, fit=_fit(run, flow.fit))
    return diffusion.train(flow, samples, folder, progress, device, run.seed, watch, trackers, start)


def _told(run: GeneratorRun) -> bool:
    """Whether it draws what the classes of every voxel, tumours among them, ask for."""
    return run.size != "slices" and not run.labels


def _start(folder: Path, material: Material) -> Generator:
    """The generator to start from, if it draws such images from such conditions by a flow."""
    net: Generator = GeneratorPipeline.from_pretrained(folder).net
    had, asks = net.settings, (material.real.ndim - 2, material.real.shape[1], material.conditions.shape[1])
    fits = (had.space, had.contrasts, had.classes) == asks
    if not fits or had.predicts is Predicts.NOISE or had.render_share:
        raise ValueError(
            f"expected --start to name a flow or GAN of {asks[0]} axes, {asks[1]} contrasts and {asks[2]} "
            f"classes that starts from noise alone, got {had.predicts.value} of {had.space}, {had.contrasts} "
            f"and {had.classes}"
        )
    return net


def _fit(run: GeneratorRun, usual: Fit) -> Fit:
    return run.fit or replace(usual, budget_s=run.budget_s, batch=_BATCH[run.size])


def _look(
    nets: Mapping[str, nn.Module],
    step: int,
    run: GeneratorRun,
    material: Material,
    out: Path,
    progress: Progress,
    seen: list[bool],
) -> Mapping[str, float]:
    """A sheet of what the averaged network draws, and how far it is from a collapse."""
    net = cast("Generator", nets[adversarial.GENERATOR if run.kind == "gan" else "net"])
    drawn = draw(net, material.conditions, _DRAWS, run.kind, run.seed)
    found = collapse(drawn, material.real)
    with whole_file(out / "sheets" / f"{step:07d}.png") as part:
        sheet(drawn, material.real[: len(drawn)], material.conditions, found.sentence, part)
    seen.append(found.verdict is Diversity.COLLAPSED)
    if len(seen) >= _GIVE_UP and all(seen[-_GIVE_UP:]):
        progress(f"Mode collapse, {found.sentence}", 1.0)
    return _figures(drawn, material.real, found)


def _last_seen(path: Path) -> Mapping[str, float]:
    """What the last look at the averaged network found, as `_figures` names it."""
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
    return {name: value for name, value in found.items() if name not in ("step", "seconds")}


def draw(net: Generator, conditions: Tensor, n: int, kind: str, seed: int) -> Tensor:
    """Images ``(conditions, n, c, *s)``, a few steps each, the same noise every time."""
    sampler: dict[str, tuple[Sampler, int]] = {
        "diffusion": (shortcut, 4),
        "ddpm": (noise_dpm, 10),
        "gan": (one_pass, 1),
    }
    how, n_steps = sampler[kind]
    pipeline = GeneratorPipeline(net)
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for condition in conditions:
        told = condition[None].repeat(n, *[1] * condition.ndim)
        starts = [starting_render(net.settings, condition, generator) for _ in range(n)]
        start = None if starts[0] is None else torch.stack([s for s in starts if s is not None])
        drawn.append(pipeline(told, generator, render=start, n_steps=n_steps, sampler=how))
    return torch.stack(drawn).cpu()


def _figures(drawn: Tensor, real: Tensor, found: Collapse) -> Mapping[str, float]:
    return {
        "diversity": found.across / found.real,
        "noise": found.within / found.real,
        "obedience": obedience(drawn, real[: len(drawn)]),
        "collapsed": float(found.verdict is Diversity.COLLAPSED),
    }


def obedience(drawn: Tensor, real: Tensor) -> float:
    """How much nearer a drawn image is to its own condition's real one than to others': 1 for not at all.

    The ratio of mean absolute differences, others' over own. Conditions switch on suddenly, and no loss
    tells when.

    Parameters
    ----------
    drawn
        Shape ``(n, draws, c, *s)``.
    real
        The image of each condition, shape ``(n, c, *s)``.
    """
    n = len(drawn)
    off = torch.stack([(drawn[a][:, None] - real[None]).abs().flatten(2).mean(2).mean(0) for a in range(n)])
    own = off.diagonal().mean()
    return float((off.sum() - off.diagonal().sum()) / (n * (n - 1)) / own) if n > 1 else 1.0


def card(run: GeneratorRun, took: Mapping[str, Any], material: Material) -> dict[str, Any]:
    """What the weights are, for whoever uses them."""
    dimensions = "slices" if run.size == "slices" else "volumes of four contrasts"
    does = f"Draws brain-tumour MR {dimensions} from a condition; fills in contrasts and regions"
    lattice = LATTICES.get(run.size)
    return {
        "name": f"{run.kind}-{run.size}{'-labels' if run.labels else ''}",
        "does": "Draws label maps of heads with brain tumours, as analog bits" if run.labels else does,
        "config": {
            "kind": run.kind,
            "size": run.size,
            "lattice": asdict(lattice) if lattice else {"pixels": _SLICE},
            "labels": run.labels,
            **({USUAL: _ONE_STEP} if run.kind == "diffusion" and _told(run) else {}),
            **({"started from": fingerprint(run.start)} if run.start else {}),
        },
        "data": dict(material.told),
        **({"boxes": dict(material.boxes)} if material.boxes else {}),
        "licence": "Weights: Apache-2.0, as far as the licence of the data they were trained on allows",
        "split": f"{run.held_out:.0%} of the patients' blocks or cases held out with seed {run.seed}",
        "budget": {name: took[name] for name in ("steps", "seconds")},
        "metrics": {"training_loss": took["loss"], **took["shown"]},
        "limits": "What it draws was never a patient's anatomy to rely on. " + RESEARCH_ONLY,
        "losses": f"../{LOSSES}",
        "run": {**asdict(run), "start": None},  # a path tells of a machine
        "version": version("spindose"),
    }
