"""``spindose train intervals``: what the command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .console import answer, one_sentence, progress_bar


def intervals(
    out: Annotated[
        Path, typer.Option(help="A folder for the intervals; an earlier run there is gone on with.")
    ],
    weights: Annotated[
        list[Path] | None, typer.Option(help="Networks of the ensemble; those that ship otherwise.")
    ] = None,
    patients: Annotated[int, typer.Option(min=1, help="Synthetic patients that are held out.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the patients.")] = 41_000,
    plans: Annotated[bool, typer.Option(help="Whether bands of dose are calibrated too.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Processes; each takes about 4 GiB.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Hold what networks of `train mr2ct` do not know against patients that they never saw.

    Example: `spindose train intervals --weights a/mr2ct.safetensors --weights b/mr2ct.safetensors --out c`,
    then `spindose mr2ct t1.nii.gz --intervals c/mr2ct-intervals.json` with the same weights.
    """
    with one_sentence(), progress_bar() as progress:
        from .train_intervals import IntervalsRun, train_intervals

        run = IntervalsRun(tuple(weights or ()), patients, seed, plans, workers=workers)
        found = train_intervals(run, out, progress)
    lines = [
        f"{name}: 90 % of voxels lie within {found['factors'][name]['0.9']:.2f} of the deviation told"
        for name in found["factors"]
    ]
    if plans:
        lines.append(f"Bands of dose are {found['dose_factor']:.2f} times as wide as the draws make them.")
    answer(found, [*lines, f"Intervals: {found['intervals']}"], as_json)
