"""``spindose train``: what a command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .console import answer, one_sentence, progress_bar

train_app = typer.Typer(help="Networks trained on synthetic cohorts or on your data.", no_args_is_help=True)


@train_app.command()
def tissues(
    out: Annotated[Path | None, typer.Option(help="A new folder for weights, card and curve.")] = None,
    resume: Annotated[Path | None, typer.Option(help="The folder of an earlier run to go on with.")] = None,
    budget: Annotated[str, typer.Option(help="Time to train, over all resumptions: 90s, 25m, 2h.")] = "40m",
    anatomy: Annotated[
        Path | None, typer.Option(help="Folder of label or probability maps with an anatomy.toml.")
    ] = None,
    heads: Annotated[int, typer.Option(min=1, max=1000, help="Heads that samples come from.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Of heads, samples and first weights.")] = 0,
    device: Annotated[str, typer.Option(help="Where to train: cpu, or cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Train a network that names the tissues of a head in any MRI, on synthetic heads alone.

    Example: `spindose train tissues --out tissues --budget 40m`, and to go on with it
    `spindose train tissues --resume tissues --budget 60m`.
    """
    with one_sentence(), progress_bar() as progress:
        from dataclasses import replace

        from .train import TissueRun, budgeted, parse_budget, train_tissues

        folder = _folder(out, resume)
        run = budgeted(TissueRun(seed=seed), parse_budget(budget))
        run = replace(run, heads=replace(run.heads, count=heads, seed=seed))
        given = _given(anatomy)
        data = "built-in anatomy" + (f" and {len(given)} given heads" if given else "")
        took = train_tissues(run, folder, progress, given, data, device)
    lines = [
        f"Trained {took['steps']} steps in {took['seconds']:.0f} s; weights, card and curve are written."
    ]
    answer({"weights": str(folder / "tissues.safetensors"), **took}, lines, as_json)


def _folder(out: Path | None, resume: Path | None) -> Path:
    if (out is None) == (resume is None):
        raise ValueError("expected either --out, a new folder, or --resume, that of an earlier run; give one")
    if resume is not None:
        if not (resume / "heads.safetensors").is_file():
            raise ValueError(
                "expected --resume to name the folder of an earlier run, got none there; use --out"
            )
        return resume
    if out is None or (out.exists() and any(out.iterdir())):
        raise ValueError("expected a new or empty folder for --out, got one that holds files; use --resume")
    return out


def _given(anatomy: Path | None) -> tuple:  # type: ignore[type-arg]
    from .anatomies import read_anatomies

    return () if anatomy is None else read_anatomies(anatomy)
