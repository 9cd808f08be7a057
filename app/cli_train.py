"""``spindose train``: what a command needs is imported when it runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_contours import contours
from .cli_dose import train_dose_command
from .cli_encoder import encoder
from .cli_intervals import intervals
from .cli_quality import quality
from .cli_tracking import Track
from .console import answer, one_sentence, progress_bar, run_folder

train_app = typer.Typer(help="Networks trained on synthetic cohorts or on your data.", no_args_is_help=True)


_Size = Annotated[str, typer.Option(help="slices (128²), small (64³ of 3 mm) or full (128³ of 1.5 mm).")]
_Out = Annotated[Path | None, typer.Option(help="A new folder for weights, card, sheets and curve.")]
_Resume = Annotated[Path | None, typer.Option(help="The folder of an earlier run to go on with.")]
_Budget = Annotated[str, typer.Option(help="Time to train, over all resumptions: 90s, 25m, 2h.")]
_HeldOut = Annotated[float, typer.Option(help="Share of patients that training never sees.")]
_Seed = Annotated[int, typer.Option(min=0, help="Of split, samples, first weights and noise.")]
_Device = Annotated[str, typer.Option(help="Where to train: cpu, or cuda.")]
_Labels = Annotated[bool, typer.Option("--labels", help="Learn to draw label maps of heads, not MRI.")]
_Start = Annotated[Path | None, typer.Option(help="Folder of a pipeline whose weights are the first ones.")]
_Anatomy = Annotated[
    Path | None, typer.Option(help="Folder of label or probability maps with an anatomy.toml.")
]
_Heads = Annotated[int, typer.Option(min=1, max=1000, help="Heads that samples come from.")]
_StartWeights = Annotated[Path | None, typer.Option(help="Weights (.safetensors) to start from.")]
_Render = Annotated[
    float, typer.Option(help="Share of the source of volumes that renders the labels, 0 to below 1.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@train_app.command()
def tissues(
    out: _Out = None,
    resume: _Resume = None,
    budget: _Budget = "40m",
    anatomy: _Anatomy = None,
    heads: _Heads = 32,
    contrasts: Annotated[
        str, typer.Option(help="Contrasts that it sees at once, such as t1,t1c,t2,flair; none for any one.")
    ] = "",
    start: _StartWeights = None,
    seed: Annotated[int, typer.Option(min=0, help="Of heads, samples and first weights.")] = 0,
    device: _Device = "cpu",
    track: Track = "auto",
    as_json: _AsJson = False,
) -> None:
    """Train a network that names the tissues of a head in any MRI, on synthetic heads alone.

    Example: `spindose train tissues --out tissues --budget 40m`, and to go on with it
    `spindose train tissues --resume tissues --budget 60m`.
    """
    with one_sentence(), progress_bar() as progress:
        from dataclasses import replace

        from .trackers import tracked
        from .train import TissueRun, budgeted, parse_budget, together, train_tissues

        folder = run_folder(out, resume, "heads.safetensors")
        run = budgeted(TissueRun(seed=seed, start=start), parse_budget(budget))
        run = together(run, tuple(name.strip() for name in contrasts.split(",") if name.strip()))
        run = replace(run, heads=replace(run.heads, count=heads, seed=seed))
        given = _given(anatomy)
        data = "built-in anatomy" + (f" and {len(given)} given heads" if given else "")
        with tracked(track, folder) as trackers:
            took = train_tissues(run, folder, progress, given, data, device, trackers)
    lines = [
        f"Trained {took['steps']} steps in {took['seconds']:.0f} s; weights, card and curve are written."
    ]
    answer({"weights": str(folder / "tissues.safetensors"), **took}, lines, as_json)


@train_app.command()
def mr2ct(
    data: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of real pairs: SynthRAD, BIDS with CTs, or the project's cases."),
    ] = None,
    out: _Out = None,
    resume: _Resume = None,
    budget: _Budget = "60m",
    anatomy: _Anatomy = None,
    heads: _Heads = 32,
    real: Annotated[float, typer.Option(help="Share of samples of real pairs, with DATA.")] = 0.5,
    held_out: _HeldOut = 0.2,
    recipe: Annotated[
        str,
        typer.Option(help="regression, gan (with pairs), unpaired (a GAN without), or flow (on --start)."),
    ] = "regression",
    start: _StartWeights = None,
    keep_start: Annotated[
        float,
        typer.Option(help="Share of --start in the weights at the end; 0.5 is their mean."),
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of samples and first weights.")] = 0,
    device: _Device = "cpu",
    track: Track = "auto",
    as_json: _AsJson = False,
) -> None:
    """Train a network that makes a CT of MRI, on synthetic pairs; runs of several seeds are an ensemble.

    Real pairs of MRI and CT are mixed in where DATA names folders of them. Each is looked at first: a pair
    whose CT lies beside its MRI or is deformed otherwise is left out, and told of by its number among the
    sorted folders. Some patients are held out, and the network is scored on them.

    Example: `spindose train mr2ct --out mr2ct-0 --seed 0 --budget 60m`, and to go on with it
    `spindose train mr2ct --resume mr2ct-0 --budget 90m`; with real pairs
    `spindose train mr2ct Task1/brain --real 0.5 --held-out 0.2 --out mr2ct-1 --budget 8h`.
    """
    with one_sentence(), progress_bar() as progress:
        from dataclasses import replace

        from .trackers import tracked
        from .train import parse_budget
        from .train_mr2ct import PAIRS, Mr2ctRun, train_mr2ct

        folder = run_folder(out, resume, "heads.safetensors", PAIRS)
        run = Mr2ctRun(kind=recipe, seed=seed, start=start).budgeted(parse_budget(budget))
        run = replace(
            run, kept=keep_start, heads=replace(run.heads, count=heads), real=real, held_out=held_out
        )
        given = _given(anatomy)
        told = "built-in anatomy" + (f" and {len(given)} given heads" if given else "")
        with tracked(track, folder) as trackers:
            took = train_mr2ct(run, folder, progress, given, told, device, data or [], trackers)
    lines = [
        f"Trained {took['steps']} steps in {took['seconds']:.0f} s; weights, card and curve are written.",
        *_of_pairs(took),
    ]
    answer(dict(took), lines, as_json)


def _of_pairs(took: Mapping[str, Any]) -> list[str]:
    """What a person is told of real pairs."""
    if "pairs" not in took:
        return []
    pairs, score = took["pairs"], took["held_out"]
    return [
        f"Real pairs: {pairs['training']} to learn from, {pairs['held out']} of other patients held out.",
        *(f"Left out {name}: {why}." for name, why in pairs["left out"].items()),
        *(f"Skipped {n} cases {why}." for why, n in pairs["skipped"].items()),
        (
            f"Held out: MAE {score['mae']:.0f} HU and bone Dice {score['bone_dice']:.2f}, where water "
            f"everywhere has {score['all water']['mae']:.0f} HU and {score['all water']['bone_dice']:.2f}."
        ),
    ]


@train_app.command()
def diffusion(
    data: Annotated[list[Path], typer.Argument(help="Folder of slices, BraTS cases or cohorts; several.")],
    size: _Size = "slices",
    out: _Out = None,
    resume: _Resume = None,
    budget: _Budget = "60m",
    held_out: _HeldOut = 0.25,
    seed: _Seed = 0,
    device: _Device = "cpu",
    ddpm: Annotated[bool, typer.Option("--ddpm", help="DDPM instead of flow matching, to compare.")] = False,
    labels: _Labels = False,
    start: _Start = None,
    render: _Render = 0.0,
    track: Track = "auto",
    as_json: _AsJson = False,
) -> None:
    """Train a diffusion generator: flow matching with shortcuts, drawn from in 1 to 4 steps.

    Example: `spindose train diffusion slices --out generator --budget 60m`, and to go on with it
    `spindose train diffusion slices --resume generator --budget 2h`.
    """
    kind = "ddpm" if ddpm else "diffusion"
    wanted: dict[str, Any] = {
        "kind": kind,
        "size": size,
        "held_out": held_out,
        "seed": seed,
        "labels": labels,
    }
    _generator(
        {**wanted, "start": start, "render": render}, data, out, resume, budget, device, track, as_json
    )


@train_app.command()
def gan(
    data: Annotated[list[Path], typer.Argument(help="Folder of slices, BraTS cases or cohorts; several.")],
    size: _Size = "slices",
    out: _Out = None,
    resume: _Resume = None,
    budget: _Budget = "60m",
    held_out: _HeldOut = 0.25,
    seed: _Seed = 0,
    device: _Device = "cpu",
    labels: _Labels = False,
    start: _Start = None,
    track: Track = "auto",
    as_json: _AsJson = False,
) -> None:
    """Train a GAN with the same network, which draws in a single step.

    From scratch it needs far more time than a diffusion does: `--start` with a diffusion's pipeline gives it
    a generator whose single step draws already.

    Example: `spindose train gan cohort --size small --out generator --budget 60m`.
    """
    wanted = {"kind": "gan", "size": size, "held_out": held_out, "seed": seed, "labels": labels}
    _generator({**wanted, "start": start}, data, out, resume, budget, device, track, as_json)


def _generator(
    wanted: dict[str, Any],
    data: list[Path],
    out: Path | None,
    resume: Path | None,
    budget: str,
    device: str,
    track: str,
    as_json: bool,
) -> None:
    """Trains what is wanted: fields of `app.train_generator.GeneratorRun`, which is slow to import."""
    with one_sentence(), progress_bar() as progress:
        from .trackers import tracked
        from .train import parse_budget
        from .train_generator import GeneratorRun, train_generator

        folder = run_folder(out, resume, "checkpoint", "volumes")
        run = GeneratorRun(budget_s=parse_budget(budget), **wanted)
        with tracked(track, folder) as trackers:
            took = train_generator(run, data, folder, progress, device, trackers)
    lines = [
        f"Trained {took['steps']} steps in {took['seconds']:.0f} s; pipeline, card and sheets are written."
    ]
    answer({"pipeline": str(folder / "pipeline"), **took}, lines, as_json)


def _given(anatomy: Path | None) -> tuple:  # type: ignore[type-arg]
    from .anatomies import read_anatomies

    return () if anatomy is None else read_anatomies(anatomy)


train_app.command("contours")(contours)
train_app.command("dose")(train_dose_command)
train_app.command("encoder")(encoder)
train_app.command("intervals")(intervals)
train_app.command("quality")(quality)
