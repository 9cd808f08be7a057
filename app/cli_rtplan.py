"""Commands that take an RTPLAN: its dose, its picture, its checks."""

from pathlib import Path
from typing import Annotated

import typer

from .console import answer, one_sentence, progress_bar

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Plan = Annotated[Path, typer.Argument(help="An RTPLAN of photon beams.")]
MachineName = Annotated[
    str, typer.Option(help="Machine to compute with; the plan's own, or the one with its leaves, otherwise.")
]
PlanLeaves = Annotated[
    bool, typer.Option("--plan-leaves", help="Its beam behind the leaves and jaws that the plan tells of.")
]
AnyEnergy = Annotated[bool, typer.Option("--any-energy", help="Its beam for beams of other energies too.")]
Prescribed = Annotated[
    str, typer.Option(help="Total dose in Gy / fractions, where the plan says none, such as 60/30.")
]
Group = Annotated[int | None, typer.Option(min=1, help="Which fraction group of a plan with several.")]


def register(app: typer.Typer) -> None:
    """Make these commands of ``app``."""
    app.command()(dose)
    app.command()(check)
    app.command()(view)


def dose(
    rtplan: Plan,
    ct: Annotated[Path, typer.Argument(help="The CT to compute it on: NIfTI or a DICOM series.")],
    out: Annotated[Path, typer.Option(help="A .nii.gz file, or a .dcm file for an RTDOSE.")],
    spacing: Annotated[float, typer.Option(min=1, max=5, help="Voxel size of the dose grid (mm).")] = 3.0,
    engine: Annotated[
        str, typer.Option(help="pencil-beam, or collapsed-cone, which knows electrons in air and bone.")
    ] = "pencil-beam",
    machine: MachineName = "",
    plan_leaves: PlanLeaves = False,
    any_energy: AnyEnergy = False,
    prescription: Prescribed = "",
    fraction_group: Group = None,
    as_json: Json = False,
) -> None:
    """The dose of an RTPLAN on any CT of the same frame of reference.

    Example: `spindose dose plan/dicom/RTPLAN.dcm CT_FOLDER --out dose.nii.gz`
    """
    with one_sentence(), progress_bar() as progress:
        from planning.plan import parse_prescription

        from .single import Reading, dose_of_rtplan

        prescribed = parse_prescription(prescription) if prescription else None
        reading = Reading(machine, plan_leaves, any_energy, prescribed, fraction_group)
        facts = dose_of_rtplan(rtplan, ct, out, spacing, progress, engine, reading)
    answer(facts, [f"Dose: {out}", *filter(None, [str(facts["caution"])])], as_json)


def check(
    files: Annotated[
        list[Path],
        typer.Argument(help="An RTPLAN with its RTSTRUCT, RTDOSE and CT: files, or folders of them."),
    ],
    as_json: Json = False,
) -> None:
    """Whether a plan and what came with it are of one piece, in one sentence for each thing that is wrong.

    Ends with exit status 1 if anything forbids the use of the files.

    Example: `spindose check RECEIVED_FOLDER --json`
    """
    with one_sentence():
        from .incoming import check_files

        found = check_files(files)
    answer(found.as_json(), found.lines(), as_json)
    if found.is_refused:
        raise typer.Exit(1)


def view(
    rtplan: Plan,
    out: Annotated[Path, typer.Option(help="A .html page with slider and play, or a .png strip.")],
    fraction_group: Group = None,
    as_json: Json = False,
) -> None:
    """What leaves and jaws let through, beam by beam and control point by control point.

    Example: `spindose view plan/dicom/RTPLAN.dcm --out beams.html`
    """
    with one_sentence():
        from .plan_view_page import view_plan

        facts = view_plan(rtplan, out, fraction_group)
    answer(facts, [f"View: {out}"], as_json)
