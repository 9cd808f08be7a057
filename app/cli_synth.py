"""``spindose synth``: synthetic cohorts. What a command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .console import answer, one_sentence, progress_bar

synth_app = typer.Typer(help="Synthetic brain-tumour cohorts from anatomy and physics.", no_args_is_help=True)


@synth_app.command("cohort")
def cohort(
    n: Annotated[int, typer.Option("--n", help="How many cases.")],
    out: Annotated[Path, typer.Option(help="Folder for the cohort; an earlier run there is gone on with.")],
    seed: Annotated[int, typer.Option(help="Which cohort; case k depends on recipe, seed and k alone.")] = 0,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A TOML file, or one that comes along: brats-like, default, fast, postoperative, randomised."
        ),
    ] = None,
    anatomy: Annotated[
        Path | None,
        typer.Option(
            help="Folder of label maps or tissue maps with an anatomy.toml; heads made by code otherwise."
        ),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="brats, case or dicom.")] = "brats",
    workers: Annotated[int | None, typer.Option(help="Processes; as many as cores and memory allow.")] = None,
    cluster: Annotated[str, typer.Option(help="Address of a Ray cluster, such as 10.0.0.1:6379.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """MRI, CT, labels and structures of synthetic patients, with manifest, summary and contact sheet.

    Killed at any time, the same command goes on where it was; a greater `--n` adds cases.

    Example: `spindose synth cohort --n 8 --seed 1 --recipe fast --out cohort`
    """
    with one_sentence(), progress_bar() as progress:
        from dataclasses import replace

        from .anatomies import read_anatomies
        from .cohort import Asked, answer_lines, read_recipe, walk_cohort
        from .cohort_job import Job

        # What costs nothing is checked before heads are read, which takes a while.
        asked = Asked(Job(read_recipe(recipe), seed, form), n, out, workers, cluster)
        if anatomy is not None:
            progress("Reading heads", 0.0)
            asked = replace(asked, job=replace(asked.job, heads=read_anatomies(anatomy)))
            progress("Reading heads", 1.0)
        facts = walk_cohort(asked, progress)
    answer(facts, answer_lines(facts), as_json)
