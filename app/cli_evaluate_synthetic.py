"""``spindose synth evaluate``: what the command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .console import answer, one_sentence, progress_bar


def evaluate(
    real: Annotated[
        Path, typer.Option(help="Folder that the generator was trained on: slices, BraTS cases or a cohort.")
    ],
    synthetic: Annotated[Path, typer.Option(help="Folder of what it drew, laid out alike.")],
    out: Annotated[Path, typer.Option(help="A new folder for the page and the figures.")],
    held_out: Annotated[
        Path | None, typer.Option(help="Folder of real images of other patients, which it never saw.")
    ] = None,
    held_out_share: Annotated[
        float, typer.Option(help="Without such a folder: the share that training held out of --real.")
    ] = 0.25,
    seed: Annotated[int, typer.Option(min=0, help="That of training, which drew what was held out.")] = 0,
    extractor: Annotated[
        Path | None, typer.Option(help="Folder or file of the weights that make features; the shipped ones.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """How good and how private synthetic images are: every figure beside what real images give.

    Example: `spindose synth evaluate --real slices --synthetic drawn --out evaluation`, then open
    `evaluation/evaluation.html`.
    """
    with one_sentence(), progress_bar() as progress:
        from .evaluate_synthetic import Asked, lines
        from .evaluate_synthetic import evaluate as judge
        from .evaluated_sets import Where

        where = Where(real, synthetic, held_out, held_out_share, seed)
        facts = judge(Asked(where, extractor), out, progress)
    answer(facts, lines(facts), as_json)
