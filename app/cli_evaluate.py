"""``spindose evaluate``: figures of plans and doses. What a command needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .cli_evaluate_contours import evaluate_contours
from .console import answer, one_sentence, progress_bar

evaluate_app = typer.Typer(
    help="Figures of a plan, a dose, a CT or contours, for people and programs.", no_args_is_help=True
)
evaluate_app.command("contours")(evaluate_contours)

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Structures = Annotated[
    Path | None, typer.Option(help="An RTSTRUCT, or a folder of masks (NIfTI, or as Spindose writes them).")
]


@evaluate_app.command("dose")
def evaluate_dose(
    dose: Annotated[
        Path, typer.Argument(help="The dose to evaluate: RTDOSE or NIfTI; a folder with --openkbp.")
    ],
    patients: Annotated[
        Path | None, typer.Argument(help="With --openkbp: patients in its layout, with their doses.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="The dose to compare it with: RTDOSE or NIfTI.")
    ] = None,
    structures: Structures = None,
    gamma: Annotated[str, typer.Option(help="Gamma criterion: percent / mm.")] = "3/3",
    cutoff: Annotated[float, typer.Option(help="Leave out what is under this % of the maximum.")] = 10.0,
    local: Annotated[
        bool, typer.Option("--local", help="Percent of each point's own dose, not of the maximum.")
    ] = False,
    openkbp: Annotated[
        bool, typer.Option("--openkbp", help="Score a folder of predictions as the OpenKBP challenge does.")
    ] = False,
    picture: Annotated[Path | None, typer.Option(help="With --openkbp: a .png file of the scores.")] = None,
    as_json: Json = False,
) -> None:
    """Gamma, differences, and metrics of histograms against a reference dose; or scores of predictions.

    Example: `spindose evaluate dose dose.dcm --reference measured.dcm --gamma 2/2 --json`

    Example: `spindose evaluate dose --openkbp predictions provided-data/validation-pats --picture scores.png`
    """
    with one_sentence(), progress_bar() as progress:
        if openkbp:
            from .evaluate_openkbp import evaluate_openkbp
            from .evaluate_openkbp import lines as scores

            if patients is None:
                raise ValueError("expected a folder of OpenKBP's patients after the predictions, got none")
            found = evaluate_openkbp(dose, patients, progress, picture)
            told = scores(found)
        else:
            from .evaluate_dose import evaluate_dose, lines, parse_criterion

            if reference is None or patients is not None:
                raise ValueError("expected one dose and --reference to compare it with, got another number")
            found = evaluate_dose(
                dose, reference, structures, parse_criterion(gamma, cutoff, local=local), progress
            )
            told = lines(found)
    answer(found, told, as_json)


@evaluate_app.command("ct")
def evaluate_ct(
    ct: Annotated[Path, typer.Argument(help="The synthetic CT: NIfTI or a DICOM series.")],
    truth: Annotated[Path, typer.Option(help="The true CT, registered to it: NIfTI or a DICOM series.")],
    mri: Annotated[
        Path | None,
        typer.Option(help="The MRI that it was made of: alignment, and baselines from it (about a minute)."),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Where to score (NIfTI); the body of the true CT otherwise.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="A .png file of both and their difference.")] = None,
    plan: Annotated[
        Path | None, typer.Option(help="Compute this plan on both: an RTPLAN, or a planned folder.")
    ] = None,
    structures: Structures = None,
    dose: Annotated[
        bool, typer.Option("--dose", help="Make a plan on the synthetic CT for --target; takes --mri.")
    ] = False,
    target: Annotated[
        str, typer.Option(help="Target: x,y,z,radius in LPS mm, a NIfTI mask, or an RTSTRUCT.")
    ] = "",
    roi: Annotated[str, typer.Option(help="Which ROI of the RTSTRUCT is the target.")] = "",
    prescription: Annotated[
        str, typer.Option(help="Total dose in Gy / fractions; what the plan says, or 60/30, otherwise.")
    ] = "",
    machine: Annotated[str, typer.Option(help="A machine here, where not the plan's or generic-6mv.")] = "",
    dose_spacing: Annotated[
        float, typer.Option(min=1, max=5, help="Voxel size of the dose grid (mm).")
    ] = 3.0,
    as_json: Json = False,
) -> None:
    """SynthRAD's figures of a synthetic CT, by tissue, of bone and cavities, with baselines beside.

    With a plan also those of its dose on both CTs: given by --plan, or made on the synthetic CT by --dose.

    Example: `spindose evaluate ct sct.nii.gz --truth ct.nii.gz --mri t1.nii.gz --picture sct.png --json`

    Example: `spindose evaluate ct sct.nii.gz --truth ct.nii.gz --mri t1.nii.gz --dose --target 30,-42,24,20`
    """
    with one_sentence(), progress_bar() as progress:
        from .ct_dose import Options, dose_asked
        from .evaluate_ct import Asked, evaluate_ct, lines

        options = Options(plan, structures, dose, target, roi, prescription, machine, dose_spacing)
        found = evaluate_ct(Asked(ct, truth, mri, mask, picture, dose_asked(options)), progress)
    answer(found, lines(found), as_json)


@evaluate_app.command("plan")
def evaluate_plan(
    plan: Annotated[
        Path, typer.Argument(help="An RTPLAN, a planned folder, or a folder with one RTPLAN in it.")
    ],
    dose: Annotated[Path | None, typer.Option(help="Its RTDOSE (or NIfTI).")] = None,
    structures: Structures = None,
    goals: Annotated[
        Path | None, typer.Option(help="A goal sheet (TOML); the brain sheet otherwise.")
    ] = None,
    prescription: Annotated[
        str | None, typer.Option(help="Total dose in Gy / fractions; what the plan says otherwise.")
    ] = None,
    fraction_group: Annotated[
        int | None, typer.Option(min=1, help="Which one of a plan with several.")
    ] = None,
    machine: Annotated[str, typer.Option(help="A machine here with the plan's leaves.")] = "",
    qatrack: Annotated[
        Path | None, typer.Option(help="Also write the body that QATrack+ takes for a performed test list.")
    ] = None,
    qatrack_list: Annotated[
        Path | None,
        typer.Option(help="Which list of your QATrack+, and which figure each test takes (TOML)."),
    ] = None,
    attach: Annotated[
        list[Path] | None, typer.Option(help="A file to send along, such as report.pdf.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Goals, metrics, indices, complications, modulation and delivery time of a plan.

    Example: `spindose evaluate plan demo --json`
    """
    with one_sentence():
        from datetime import datetime

        from planning.plan import parse_prescription

        from .evaluate import Asked, evaluate_plan, lines
        from .evaluate_qatrack import expect_both, read_test_list, write_body
        from .single import Reading

        expect_both(qatrack, qatrack_list)
        wanted = None if qatrack_list is None else read_test_list(qatrack_list)
        started = datetime.now().astimezone()
        rx = None if prescription is None else parse_prescription(prescription)
        reading = Reading(machine, prescription=rx, fraction_group=fraction_group)
        found = evaluate_plan(Asked(plan, dose, structures, goals, reading))
        if wanted is not None and qatrack is not None:
            write_body(qatrack, wanted, found, started, datetime.now().astimezone(), attach or ())
    answer(found, lines(found), as_json)
