"""``spindose robust``: what a command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .console import answer, one_sentence, progress_bar


def register(app: typer.Typer) -> None:
    """Make this command one of ``app``."""
    app.command()(robust)


def robust(
    planned: Annotated[Path, typer.Argument(help="Folder of a finished `spindose plan` or `demo`.")],
    out: Annotated[Path, typer.Option(help="A new folder for the facts and the page.")],
    setup_error: Annotated[
        float,
        typer.Option(min=0, max=10, help="Shift along each axis and towards each corner (mm); 0: none."),
    ] = 3.0,
    density_uncertainty: Annotated[
        Path | None, typer.Option(help="One standard deviation of relative electron density: NIfTI.")
    ] = None,
    hu_uncertainty: Annotated[
        Path | None, typer.Option(help="One standard deviation of the synthetic CT in HU instead: NIfTI.")
    ] = None,
    distortion: Annotated[
        Path | None,
        typer.Option(
            help="Displacements by the MR scanner in mm (NIfTI vectors): tissue at x appears at x + u."
        ),
    ] = None,
    mr_scanner: Annotated[
        str,
        typer.Option(
            help="A model of them instead: tesla, Hz per mm, readout axis and mm by gradients 100 mm from "
            "the middle, such as 3,220,y,0.5."
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """How a finished plan holds against errors: histograms as bands, worst cases, and which goal fails first.

    Example: `spindose robust demo --setup-error 3 --mr-scanner 3,220,y,0.5 --out robust`
    """
    with one_sentence(), progress_bar() as progress:
        from planning.distortion import parse_scanner

        from .plan_errors import Errors
        from .robust_folder import lines, walk_robust

        scanner = parse_scanner(mr_scanner) if mr_scanner else None
        errors = Errors(setup_error, density_uncertainty, hu_uncertainty, distortion, scanner)
        facts = walk_robust(planned, errors, out, progress)
    answer(facts, lines(facts), as_json)
