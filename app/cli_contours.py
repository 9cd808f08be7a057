"""``spindose train contours``: what the command needs is imported when it runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_tracking import Track
from .console import answer, one_sentence, progress_bar, run_folder


def contours(
    network: Annotated[
        str,
        typer.Argument(
            help="head (with tumours, 1.5 mm), organs (small ones, 1 mm), or own (structures of --names)."
        ),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders of MRI with contours: BraTS, RTSTRUCT with DICOM, .seg.nrrd, label maps with a "
            "table of their names, or the project's cases."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A new folder for weights, card and curves.")] = None,
    resume: Annotated[Path | None, typer.Option(help="The folder of an earlier run to go on with.")] = None,
    budget: Annotated[str, typer.Option(help="Time to train, over all resumptions: 90s, 25m, 2h.")] = "60m",
    anatomy: Annotated[
        Path | None, typer.Option(help="Folder of label or probability maps with an anatomy.toml.")
    ] = None,
    heads: Annotated[int, typer.Option(min=1, max=1000, help="Heads that samples come from.")] = 32,
    real: Annotated[float, typer.Option(help="Share of samples of real cases, with DATA.")] = 0.5,
    held_out: Annotated[float, typer.Option(help="Share of patients that training never sees.")] = 0.2,
    names: Annotated[
        Path | None,
        typer.Option(help='What structures are called: TOML lines such as Eye_L = ["left globe"].'),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="Weights (.safetensors) to start from: the same network's, or of mr2ct."),
    ] = None,
    start_model: Annotated[
        str, typer.Option(help="An approved model of the catalogue to start from, such as cranial-oar.")
    ] = "",
    patience: Annotated[
        int, typer.Option(min=0, help="Looks without improvement before it stops early; 0 for none.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of heads, samples and first weights.")] = 0,
    device: Annotated[str, typer.Option(help="Where to train: cpu, or cuda.")] = "cpu",
    track: Track = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Train a network that contours MRI of T1, T1c, T2 and FLAIR, or some of them.

    It learns from synthetic heads, and from your own cases where DATA names folders of them. Structures go
    by the names of TG-263, or by yours with `--names`; what a case does not show counts as unknown. Some
    patients are held out, and the network is scored on them.

    Example: `spindose train contours organs --out organs --budget 60m`, and to go on with it
    `spindose train contours organs --resume organs --budget 2h`; on a clinic's own contours, from a model
    that it has approved, `spindose train contours organs clinic --start-model cranial-oar --patience 10 --out
    ours`.
    """
    with one_sentence(), progress_bar() as progress:
        from .anatomies import read_anatomies
        from .contour_real import CASES, Real, read_names
        from .trackers import tracked
        from .train import parse_budget
        from .train_contours import ContourRun, started, train_contours
        from .training_heads import Heads

        folder = run_folder(out, resume, "heads.safetensors", CASES)
        mixed = Real(real, held_out, read_names(names))
        run = ContourRun(
            network, Heads(heads, seed), parse_budget(budget), seed, start, real=mixed, patience=patience
        )
        run = started(run, start_model)
        given = () if anatomy is None else read_anatomies(anatomy)
        told = "built-in anatomy" + (f" and {len(given)} given heads" if given else "")
        with tracked(track, folder) as trackers:
            took = train_contours(run, folder, progress, given, told, device, data or (), trackers)
    dice = {name.removeprefix("dice_"): d for name, d in took["watched"].items() if name != "loss"}
    lines = [
        f"Trained {took['steps']} steps in {took['seconds']:.0f} s; weights, card and curves are written.",
        "Dice on samples of other heads: " + ", ".join(f"{name} {d:.2f}" for name, d in dice.items()) + ".",
        *_of_cases(took),
    ]
    answer(dict(took), lines, as_json)


def _of_cases(took: Mapping[str, Any]) -> list[str]:
    """What a person is told of real cases."""
    if "cases" not in took:
        return []
    cases, found = took["cases"], took["held_out"]
    before = found.get("start", {})
    return [
        f"Real cases: {cases['training']} to learn from, {cases['held out']} of other patients held out.",
        *(f"Left out {name}: {why}." for name, why in cases["left out"].items()),
        *(
            f"Held out: {name}, Dice {of['dice']:.2f} (median of {of['cases']})"
            + (f", where the start has {before[name]['dice']:.2f}." if name in before else ".")
            for name, of in found["structures"].items()
        ),
    ]
