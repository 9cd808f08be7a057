"""``spindose synth``: synthetic cohorts. What a command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .cli_evaluate_synthetic import evaluate
from .cli_fill import complete, inpaint
from .cli_sampling import Device, Guidance, Sampler, Steps
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
            help="A TOML file, or one that comes along: brats-like, default, fast, postoperative, randomised,"
            " small."
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
    generator: Annotated[
        str, typer.Option(help="physics, or the folder of a trained generator that draws the images.")
    ] = "physics",
    labels: Annotated[
        Path | None,
        typer.Option(help="Folder of a trained generator that draws the heads too, as label maps."),
    ] = None,
    sampler: Sampler = None,
    steps: Steps = 0,
    guidance: Guidance = 1.0,
    device: Device = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """MRI, CT, labels and structures of synthetic patients, with manifest, summary and contact sheet.

    Killed at any time, the same command goes on where it was; a greater `--n` adds cases. With `--generator`
    a trained generator draws MRI of the same heads, or slices, and there is no CT.

    Example: `spindose synth cohort --n 8 --seed 1 --recipe fast --out cohort`
    """
    with one_sentence(), progress_bar() as progress:
        from dataclasses import replace

        from .anatomies import read_anatomies
        from .cohort import Asked, answer_lines, read_recipe, walk_cohort
        from .cohort_job import Job

        if generator != "physics":
            from .cohort_generated import AskedDrawn, drawn_lines, walk_generated

            if form != "brats" or workers is not None or cluster:
                raise ValueError(
                    "expected --generator without --format, --workers and --cluster, got one of them; "
                    "a generator writes BraTS layout and has this process alone"
                )
            wanted = AskedDrawn(
                generator=Path(generator),
                n=n,
                out=out,
                seed=seed,
                labels=labels,
                recipe=None if recipe is None else read_recipe(recipe),
                sampler=sampler,
                n_steps=steps,
                guidance=guidance,
                device=device,
            )
            if anatomy is not None:
                wanted = replace(wanted, heads=read_anatomies(anatomy))
            facts = walk_generated(wanted, progress)
            told = drawn_lines(facts)
        else:
            if labels is not None or sampler is not None or steps or guidance != 1:
                raise ValueError(
                    "expected --labels, --sampler, --steps and --guidance with --generator FOLDER, got them "
                    "without; leave them out"
                )
            # What costs nothing is checked before heads are read, which takes a while.
            asked = Asked(Job(read_recipe(recipe), seed, form), n, out, workers, cluster)
            if anatomy is not None:
                progress("Reading heads", 0.0)
                asked = replace(asked, job=replace(asked.job, heads=read_anatomies(anatomy)))
                progress("Reading heads", 1.0)
            facts = walk_cohort(asked, progress)
            told = answer_lines(facts)
    answer(facts, told, as_json)


@synth_app.command("plans")
def plans(
    n: Annotated[int, typer.Option("--n", help="How many plans.")],
    out: Annotated[Path, typer.Option(help="Folder for the plans; an earlier run there is gone on with.")],
    seed: Annotated[int, typer.Option(help="Which patients; plan k depends on the seed and k alone.")] = 0,
    recipe: Annotated[str, typer.Option(help="Recipe of the patients, as for `synth cohort`.")] = "fast",
    dose_spacing: Annotated[
        float, typer.Option(help="Voxel size of the grid that is planned on (mm).")
    ] = 4.0,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Processes; as many as cores and memory allow.")
    ] = None,
    cluster: Annotated[
        str, typer.Option(help="A Ray cluster whose machines share the folder: HOST:PORT, auto or local.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Plans of synthetic patients in several styles, IMRT and VMAT, for a dose predictor to learn from.

    Killed at any time, the same command goes on; a greater `--n` adds plans. Ends with status 1 where a plan
    failed.

    Example: `spindose synth plans --n 80 --seed 1 --out plans`
    """
    with one_sentence(), progress_bar() as progress:
        from .cohort import read_recipe
        from .contour_batch import way_of
        from .reference_plan import Planner
        from .reference_plans import Asked, lines, walk_plans

        read_recipe(recipe)
        asked = Asked(Planner(seed, recipe, dose_spacing), n, out)
        told = walk_plans(asked, way_of(workers, cluster, "cpu"), progress)
    answer(told, lines(told), as_json)
    if told["failed"]:
        raise typer.Exit(1)


synth_app.command("evaluate")(evaluate)
synth_app.command("complete")(complete)
synth_app.command("inpaint")(inpaint)
