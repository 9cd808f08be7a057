"""``spindose train``: what a command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_encoder import encoder
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
_Track = Annotated[bool, typer.Option("--track", help="TensorBoard's curves beside the picture.")]
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
    as_json: _AsJson = False,
) -> None:
    """Train a network that names the tissues of a head in any MRI, on synthetic heads alone.

    Example: `spindose train tissues --out tissues --budget 40m`, and to go on with it
    `spindose train tissues --resume tissues --budget 60m`.
    """
    with one_sentence(), progress_bar() as progress:
        from dataclasses import replace

        from .train import TissueRun, budgeted, parse_budget, together, train_tissues

        folder = run_folder(out, resume, "heads.safetensors")
        run = budgeted(TissueRun(seed=seed, start=start), parse_budget(budget))
        run = together(run, tuple(name.strip() for name in contrasts.split(",") if name.strip()))
        run = replace(run, heads=replace(run.heads, count=heads, seed=seed))
        given = _given(anatomy)
        data = "built-in anatomy" + (f" and {len(given)} given heads" if given else "")
        took = train_tissues(run, folder, progress, given, data, device)
    lines = [
        f"Trained {took['steps']} steps in {took['seconds']:.0f} s; weights, card and curve are written."
    ]
    answer({"weights": str(folder / "tissues.safetensors"), **took}, lines, as_json)


@train_app.command()
def mr2ct(
    out: _Out = None,
    resume: _Resume = None,
    budget: _Budget = "60m",
    anatomy: _Anatomy = None,
    heads: _Heads = 32,
    start: _StartWeights = None,
    seed: _Seed = 0,
    device: _Device = "cpu",
    as_json: _AsJson = False,
) -> None:
    """Train a network that makes a CT of MRI, on synthetic pairs; runs of several seeds are an ensemble.

    Example: `spindose train mr2ct --out mr2ct-0 --seed 0 --budget 60m`, and to go on with it
    `spindose train mr2ct --resume mr2ct-0 --budget 90m`.
    """
    with one_sentence(), progress_bar() as progress:
        from dataclasses import replace

        from .train import parse_budget
        from .train_mr2ct import WEIGHTS, Mr2ctRun, train_mr2ct

        folder = run_folder(out, resume, "heads.safetensors")
        run = Mr2ctRun(seed=seed, start=start).budgeted(parse_budget(budget))
        run = replace(run, heads=replace(run.heads, count=heads))
        given = _given(anatomy)
        data = "built-in anatomy" + (f" and {len(given)} given heads" if given else "")
        took = train_mr2ct(run, folder, progress, given, data, device)
    lines = [
        f"Trained {took['steps']} steps in {took['seconds']:.0f} s; weights, card and curve are written."
    ]
    answer({"weights": str(folder / WEIGHTS), **took}, lines, as_json)


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
    track: _Track = False,
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
    track: _Track = False,
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
    track: bool,
    as_json: bool,
) -> None:
    """Trains what is wanted: fields of `app.train_generator.GeneratorRun`, which is slow to import."""
    with one_sentence(), progress_bar() as progress:
        from .train import parse_budget
        from .train_generator import GeneratorRun, tracker, train_generator

        folder = run_folder(out, resume, "checkpoint", "volumes")
        run = GeneratorRun(budget_s=parse_budget(budget), **wanted)
        trackers = [tracker(folder)] if track else []
        took = train_generator(run, data, folder, progress, device, trackers)
    lines = [
        f"Trained {took['steps']} steps in {took['seconds']:.0f} s; pipeline, card and sheets are written."
    ]
    answer({"pipeline": str(folder / "pipeline"), **took}, lines, as_json)


def _given(anatomy: Path | None) -> tuple:  # type: ignore[type-arg]
    from .anatomies import read_anatomies

    return () if anatomy is None else read_anatomies(anatomy)


train_app.command("encoder")(encoder)
