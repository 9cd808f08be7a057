"""``spindose train encoder``: what the command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .cli_tracking import Track
from .console import answer, one_sentence, progress_bar, run_folder


def encoder(
    data: Annotated[Path, typer.Argument(help="Folder of slices: CLASS/NUMBER.jpg and .txt.")],
    out: Annotated[Path | None, typer.Option(help="A new folder for weights, card and curve.")] = None,
    resume: Annotated[Path | None, typer.Option(help="The folder of an earlier run to go on with.")] = None,
    budget: Annotated[str, typer.Option(help="Time to train, over all resumptions: 90s, 25m, 2h.")] = "20m",
    held_out: Annotated[float, typer.Option(help="Share of blocks that training never sees.")] = 0.15,
    seed: Annotated[int, typer.Option(min=0, help="Of split, samples and first weights.")] = 0,
    device: Annotated[str, typer.Option(help="Where to train: cpu, or cuda.")] = "cpu",
    track: Track = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Train the encoder whose features judge synthetic slices.

    Example: `spindose train encoder slices --out encoder --budget 20m`, then
    `spindose synth evaluate --extractor encoder` with your folders.
    """
    with one_sentence(), progress_bar() as progress:
        from .trackers import tracked
        from .train import parse_budget
        from .train_encoder import EncoderRun, budgeted, train_encoder

        folder = run_folder(out, resume, "checkpoint")
        run = budgeted(EncoderRun(held_out=held_out, seed=seed), parse_budget(budget))
        with tracked(track, folder) as trackers:
            took = train_encoder(run, data, folder, progress, device, trackers)
    told, found = took["class_accuracy"], took["copies_found"]
    lines = [
        f"Trained {took['steps']} steps in {took['seconds']:.0f} s; weights, card and curve are written.",
        f"Held-out slices: class told in {told:.0%}, {found:.0%} of disguised copies found.",
    ]
    answer({"weights": str(folder / "encoder-slices.safetensors"), **took}, lines, as_json)
