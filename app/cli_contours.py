"""``spindose train contours``: what the command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .console import answer, one_sentence, progress_bar, run_folder


def contours(
    network: Annotated[str, typer.Argument(help="head (with tumours, 1.5 mm) or organs (small ones, 1 mm).")],
    out: Annotated[Path | None, typer.Option(help="A new folder for weights, card and curves.")] = None,
    resume: Annotated[Path | None, typer.Option(help="The folder of an earlier run to go on with.")] = None,
    budget: Annotated[str, typer.Option(help="Time to train, over all resumptions: 90s, 25m, 2h.")] = "60m",
    anatomy: Annotated[
        Path | None, typer.Option(help="Folder of label or probability maps with an anatomy.toml.")
    ] = None,
    heads: Annotated[int, typer.Option(min=1, max=1000, help="Heads that samples come from.")] = 32,
    start: Annotated[
        Path | None,
        typer.Option(help="Weights (.safetensors) to start from: the same network's, or of mr2ct."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of heads, samples and first weights.")] = 0,
    device: Annotated[str, typer.Option(help="Where to train: cpu, or cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Train a network that contours MRI of T1, T1c, T2 and FLAIR, or some of them, on synthetic heads.

    Example: `spindose train contours organs --out organs --budget 60m`, and to go on with it
    `spindose train contours organs --resume organs --budget 2h`.
    """
    with one_sentence(), progress_bar() as progress:
        from .anatomies import read_anatomies
        from .train import parse_budget
        from .train_contours import ContourRun, train_contours
        from .training_heads import Heads

        folder = run_folder(out, resume, "heads.safetensors")
        run = ContourRun(network, Heads(heads, seed), parse_budget(budget), seed, start)
        given = () if anatomy is None else read_anatomies(anatomy)
        told = "built-in anatomy" + (f" and {len(given)} given heads" if given else "")
        took = train_contours(run, folder, progress, given, told, device)
    dice = {name.removeprefix("dice_"): d for name, d in took["watched"].items() if name != "loss"}
    lines = [
        f"Trained {took['steps']} steps in {took['seconds']:.0f} s; weights, card and curves are written.",
        "Dice on samples of other heads: " + ", ".join(f"{name} {d:.2f}" for name, d in dice.items()) + ".",
    ]
    answer(dict(took), lines, as_json)
