"""``spindose evaluate contours``: what the command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .console import answer, one_sentence, progress_bar


def evaluate_contours(
    study: Annotated[
        Path, typer.Argument(help="A study.toml, or a folder with one or with PATIENT/OBSERVER in it.")
    ],
    out: Annotated[Path, typer.Option(help="A new folder for page, pictures and tables.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Without a study.toml: an observer that is a model.")
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring contours on other grids to the first person's.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """An observer study: do people agree on contours, and does a model agree as well as they do.

    Example: `spindose evaluate contours STUDY --model Net --out agreement`, then open
    `agreement/contours.html`. A study.toml says more: see `docs/observer_study.toml`.
    """
    with one_sentence(), progress_bar() as progress:
        from .observers.write import evaluate_contours as judge
        from .observers.write import lines

        facts = judge(study, out, progress, model or (), resample=resample)
    answer(facts, lines(facts), as_json)
