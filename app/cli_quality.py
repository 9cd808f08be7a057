"""``spindose train quality``: what the command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .console import answer, one_sentence, progress_bar


def quality(
    out: Annotated[
        Path, typer.Option(help="A folder for the calibration; an earlier run there is gone on with.")
    ],
    weights: Annotated[
        Path | None,
        typer.Option(help="Folder of contour-head and contour-organs; what ships otherwise."),
    ] = None,
    patients: Annotated[int, typer.Option(min=1, help="Synthetic patients that are held out.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Of the patients.")] = 20_271,
    workers: Annotated[int, typer.Option(min=1, help="Processes; each takes about 3 GiB.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Learn what agreement of contours is worth in Dice, on patients that no network saw.

    Put `contour-quality.json` beside the networks, and `spindose contour` tells what Dice to expect.

    Example: `spindose train quality --weights mine --patients 12 --workers 2 --out calibration`
    """
    with one_sentence(), progress_bar() as progress:
        from .ct_nets import ZOO
        from .train_quality import QualityRun, train_quality

        run = QualityRun(weights or ZOO, patients, seed, workers)
        found = train_quality(run, out, progress)
    lines = [
        f"Calibrated on {found['patients']} patients; Dice is foretold within {found['spread']:.2f}.",
        f"Calibration: {found['quality']}",
    ]
    answer(found, lines, as_json)
