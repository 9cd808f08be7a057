"""``spindose contour`` and ``contour-batch``: what the commands need is imported when they run."""

from pathlib import Path
from typing import Annotated

import typer

from .console import answer, one_sentence, progress_bar


def register(app: typer.Typer) -> None:
    """Make these commands ones of ``app``."""
    app.command()(contour)
    app.command("contour-batch")(contour_batch)


def contour(
    mri: Annotated[
        list[Path], typer.Argument(help="One to four MRI of one head, each another contrast, or a CT.")
    ],
    out: Annotated[
        Path, typer.Option(help="A folder: RTSTRUCT, .seg.nrrd, NIfTI labels and masks, what to look at.")
    ],
    contrasts: Annotated[
        str, typer.Option(help="What each scan is, such as t1c,flair; headers and file names tell otherwise.")
    ] = "",
    template: Annotated[
        Path | None,
        typer.Option(help="Names, colours and types (TOML); as configured, or TG-263."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of contour-head and contour-organs.safetensors.")
    ] = None,
    register: Annotated[
        bool, typer.Option("--register", help="Bring the other scans to where the first one's head lies.")
    ] = False,
    derive: Annotated[
        list[str] | None,
        typer.Option(
            help="A structure made of others, such as 'PRV = Brainstem + 3'; | & - join; several times."
        ),
    ] = None,
    own: Annotated[
        list[Path] | None, typer.Option(help="Weights of `spindose train contours own`; several times.")
    ] = None,
    aligned: Annotated[
        bool, typer.Option("--aligned", help="No network: five structures of the aligned anatomy.")
    ] = False,
    series: Annotated[int | None, typer.Option(min=1, help="Which series of a folder with several.")] = None,
    device: Annotated[str, typer.Option(help="Where networks run: cpu, or cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Organs at risk and tumour of one to four MRI of a head, or of a CT, on the first one's grid.

    By the models that the catalogue has approved, as they are configured; by others, every file is marked.

    Example: `spindose contour T1c.nii.gz FLAIR.nii.gz --out structures`
    """
    with one_sentence(), progress_bar() as progress:
        if aligned:
            from .single import contour_scan

            facts = contour_scan(mri, out, progress, series)
            told = [f"Structures: {out}"]
        else:
            from .contour_models import contour_models
            from .contoured import Asked, contour_scans, lines

            names = tuple(name.strip() for name in contrasts.split(",") if name.strip())
            made_of, each = tuple(derive or ()), (series,) * len(mri)
            nets = tuple(own or ())
            models = contour_models(weights, template).also(nets)
            asked = Asked(tuple(mri), out, models, names, each, device, made_of, register, nets)
            facts = contour_scans(asked, progress)
            told = [*lines(facts), *models.lines()]
    answer(facts, told, as_json)


def contour_batch(
    folder: Annotated[
        Path,
        typer.Argument(help="A folder for each patient: DICOM series, or NIfTI files such as t1c.nii.gz."),
    ],
    out: Annotated[
        Path, typer.Option(help="A folder: contours of each patient under a neutral name, a table.")
    ],
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Processes; as many as cores and memory allow otherwise."),
    ] = None,
    cluster: Annotated[
        str, typer.Option(help="A Ray cluster whose machines share both folders: HOST:PORT, auto or local.")
    ] = "",
    template: Annotated[
        Path | None, typer.Option(help="Names, colours and types (TOML); as configured, or TG-263.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of contour-head and contour-organs.safetensors.")
    ] = None,
    register: Annotated[
        bool, typer.Option("--register", help="Bring the other scans to where the first one's head lies.")
    ] = False,
    derive: Annotated[
        list[str] | None, typer.Option(help="A structure made of others, as `spindose contour` has it.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where networks run: cpu, or cuda.")] = "cpu",
    no_index: Annotated[
        bool, typer.Option("--no-index", help="Do not write index.json, which says which patient is which.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Contour every patient of a folder, overnight; one that fails stops no other.

    Killed at any time, the same command goes on. Ends with status 1 where a patient failed.

    Example: `spindose contour-batch PATIENTS --out contours`
    """
    with one_sentence(), progress_bar() as progress:
        from .contour_batch import Batch, lines, walk_batch, way_of
        from .contour_models import contour_models

        way = way_of(workers, cluster, device)
        models = contour_models(weights, template)
        batch = Batch(folder, out, models, tuple(derive or ()), register, device, not no_index)
        told = walk_batch(batch, way, progress)
    answer(told, [*lines(told), *models.lines()], as_json)
    if told["counts"]["failed"]:
        raise typer.Exit(1)
