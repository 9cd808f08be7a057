"""The command ``spindose``. Commands import what they need when they run, so that help is at once."""

import os
from pathlib import Path
from typing import Annotated

import typer

from .cli_contour import register as register_contour
from .cli_dose import predict_app
from .cli_evaluate import evaluate_app
from .cli_federate import federate_app
from .cli_machine import machine_app
from .cli_models import models_app
from .cli_node import node_app
from .cli_report import report
from .cli_robust import register as register_robust
from .cli_rtplan import register as register_rtplan
from .cli_synth import synth_app
from .cli_train import train_app
from .console import RESEARCH_ONLY, answer, one_sentence, progress_bar

app = typer.Typer(
    name="spindose",
    help=f"From spin to dose: radiotherapy planning of brain tumours from MRI alone. {RESEARCH_ONLY}",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

app.add_typer(machine_app, name="machine")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(train_app, name="train")
app.add_typer(predict_app, name="predict")
app.add_typer(synth_app, name="synth")
app.add_typer(models_app, name="models")
app.add_typer(federate_app, name="federate")
app.add_typer(node_app, name="node")
app.command()(report)

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Scan = Annotated[Path, typer.Argument(help="A NIfTI file, a DICOM file or a folder with one DICOM series.")]
Series = Annotated[int | None, typer.Option(min=1, help="Which series of a folder with several.")]
Text = Annotated[str, typer.Option(help="Target: x,y,z,radius in LPS mm, a NIfTI mask, or an RTSTRUCT.")]
Roi = Annotated[str, typer.Option(help="Which ROI of the RTSTRUCT is the target.")]
Way = Annotated[str, typer.Option(help="Standing fields (imrt) or arcs (vmat).")]
Ctv = Annotated[float, typer.Option(help="GTV to CTV (mm), cut at --ctv-barriers.")]
Ptv = Annotated[float, typer.Option(help="CTV to PTV (mm).")]
Seed = Annotated[int | None, typer.Option(min=0, help="Make UIDs from this seed; fresh otherwise.")]
Unapproved = Annotated[
    bool, typer.Option("--allow-unapproved", help="Run a model nobody has approved; every output says so.")
]
Cut = Annotated[str, typer.Option(help="What cuts the CTV, name or name=mm that it may go beyond; or none.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder for the results.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Which synthetic patient.")] = 1,
    technique: Way = "imrt",
    as_json: Json = False,
) -> None:
    """Plan an embedded synthetic patient from its MRI, then check the plan on its true CT.

    Example: `spindose demo OUT`, then open `OUT/review.html`.
    """
    with one_sentence(), progress_bar() as progress:
        from .demo import walk_demo
        from .request import parse_technique

        summary = walk_demo(out, seed, progress, technique=parse_technique(technique))
    answer(summary.as_json(), summary.lines(), as_json)


@app.command()
def plan(
    mri: Scan,
    target: Text,
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    roi: Roi = "",
    series: Series = None,
    prescription: Annotated[str, typer.Option(help="Total dose in Gy / fractions.")] = "60/30",
    ctv_margin: Ctv = 15.0,
    ptv_margin: Ptv = 3.0,
    ctv_barriers: Cut = "bone,falx,tentorium,ventricles",
    technique: Way = "imrt",
    beams: Annotated[int, typer.Option(min=3, max=15, help="Number of standing fields.")] = 9,
    arcs: Annotated[int, typer.Option(min=1, max=4, help="Number of full arcs.")] = 1,
    arc: Annotated[
        list[str] | None,
        typer.Option(help="An arc of your own, start:stop:cw:couch:collimator; may be given several times."),
    ] = None,
    machine: Annotated[str, typer.Option(help="Machine to plan for.")] = "generic-6mv",
    dose_spacing: Annotated[float, typer.Option(help="Voxel size of the dose grid (mm).")] = 3.0,
    seed: Seed = None,
    setup_error: Annotated[
        float, typer.Option(help="Hold against shifts this far along each axis (mm); see --ptv-margin.")
    ] = 0.0,
    density_uncertainty: Annotated[
        Path | None,
        typer.Option(help="Hold against one standard deviation of relative electron density: NIfTI."),
    ] = None,
    expected_value: Annotated[
        bool, typer.Option("--expected-value", help="Best on average over these errors, not in the worst.")
    ] = False,
    goals: Annotated[
        Path | None, typer.Option(help="A goal sheet of your own (TOML); the brain sheet otherwise.")
    ] = None,
    networks: Annotated[
        bool,
        typer.Option(
            "--networks/--bulk",
            help="CT by the networks that ship, with what it may be off by, or of the aligned anatomy.",
        ),
    ] = True,
    robust_ct: Annotated[
        bool, typer.Option("--robust-ct", help="Hold against what the synthetic CT may be off by.")
    ] = False,
    true_ct: Annotated[
        Path | None,
        typer.Option(help="A CT registered to the MRI, to compare the plan on; it is never planned on."),
    ] = None,
    contrast: Annotated[
        str, typer.Option(help="What the MRI is, t1, t1c, t2 or flair, where header and name do not tell.")
    ] = "",
    prediction: Annotated[
        bool, typer.Option(help="Mimic the dose that networks foretell, or go by the goals alone.")
    ] = True,
    style: Annotated[
        str, typer.Option(help="Style of the foretold dose: balanced, sparing or conformal.")
    ] = "balanced",
    allow_unapproved: Unapproved = False,
    as_json: Json = False,
) -> None:
    """From one MRI to a deliverable plan, DICOM-RT files and a review page.

    Killed at any time, the same command goes on from the last whole step.

    Example: `spindose plan T1.nii.gz --target 30,-42,24,20 --technique vmat --arcs 2 --out plan`
    """
    with one_sentence(), progress_bar() as progress:
        from planning.contour.barriers import parse_barriers
        from planning.plan import parse_prescription

        from .approved import with_models
        from .plan import walk_plan
        from .plan_organs import with_contours
        from .predicted_dose import with_prediction
        from .request import Request, parse_target, parse_technique
        from .robust import facts, lines

        request = Request(
            parse_prescription(prescription),
            ctv_margin,
            ptv_margin,
            beams,
            machine,
            dose_spacing,
            seed,
            setup_error,
            density_uncertainty,
            expected_value,
            goals,
            parse_technique(technique),
            arcs,
            tuple(arc or ()),
            networks,
            robust_ct,
            parse_barriers(ctv_barriers),
            prediction=prediction,
            style=style,
        )
        request = with_models(request, allow_unapproved)
        request = with_contours(request, mri, contrast, series, allow_unapproved)
        request = with_prediction(request, allow_unapproved)
        summary = walk_plan(mri, parse_target(target, roi), out, request, progress, series, true_ct)
        robust = facts(out, request)
    answer({**summary.as_json(), **robust}, [*summary.lines(), *lines(robust)], as_json)


@app.command()
def adapt(
    planned: Annotated[Path, typer.Argument(help="Folder of a finished `spindose plan`, `demo` or `adapt`.")],
    mri: Scan,
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    target: Annotated[
        str, typer.Option(help="Tumour of the day, as for `plan`; with none the first plan's, moved along.")
    ] = "",
    roi: Roi = "",
    series: Series = None,
    seed: Seed = None,
    allow_unapproved: Unapproved = False,
    as_json: Json = False,
) -> None:
    """Replan a patient from an earlier plan and a new MRI: moved, with a tumour that may have changed.

    The earlier synthetic CT and organs are moved onto the new scan, which must show the same head; all that
    was asked for then is asked again.

    Example: `spindose adapt plan T1_day2.nii.gz --target 31,-40,22,18 --out plan_day2`
    """
    with one_sentence(), progress_bar() as progress:
        from .adapt import asked_again, walk_adapted
        from .first_plan import read_first
        from .request import parse_target
        from .robust import facts, lines

        first = read_first(planned)
        request = asked_again(first, seed, allow_unapproved)
        drawn = parse_target(target, roi) if target else None
        summary = walk_adapted(first, mri, drawn, out, request, progress, series)
        robust = facts(out, request)
    answer({**summary.as_json(), **robust}, [*summary.lines(), *lines(robust)], as_json)


@app.command()
def pareto(
    planned: Annotated[Path, typer.Argument(help="Folder of a finished `spindose plan` or `demo`.")],
    between: Annotated[
        tuple[str, str], typer.Option(help="Two numbers, such as 'PTV D98%' 'Brainstem D0.03cc'.")
    ],
    out: Annotated[Path, typer.Option(help="A new folder for the front and its page.")],
    points: Annotated[int, typer.Option(min=2, max=33, help="Fluences to compute.")] = 9,
    as_json: Json = False,
) -> None:
    """What one goal costs another: a page that walks along the front between them.

    Example: `spindose pareto demo --between "PTV D98%" "Brainstem D0.03cc" --out front`
    """
    with one_sentence(), progress_bar() as progress:
        from .pareto import walk_pareto

        facts = walk_pareto(planned, between, out, points, progress)
    answer(facts, [f"Front: {facts['front']}", f"Page:  {facts['pareto']}"], as_json)


@app.command()
def mr2ct(
    mri: Annotated[list[Path], typer.Argument(help="One to four scans of one head, each another contrast.")],
    out: Annotated[Path, typer.Option(help="A .nii.gz file, or a folder for a DICOM series.")],
    uncertainty: Annotated[
        Path | None,
        typer.Option(help="A .nii.gz file for its standard deviation (HU), or a folder for DICOM."),
    ] = None,
    weights: Annotated[
        list[Path] | None, typer.Option(help="Networks of an ensemble (.safetensors), of train mr2ct.")
    ] = None,
    intervals: Annotated[
        Path | None, typer.Option(help="What train intervals calibrated for --weights (.json).")
    ] = None,
    bulk: Annotated[
        bool, typer.Option("--bulk", help="No network: the aligned anatomy, one CT number a tissue.")
    ] = False,
    series: Series = None,
    device: Annotated[str, typer.Option(help="Where networks run: cpu, or cuda.")] = "cpu",
    no_bias_correction: Annotated[
        bool, typer.Option("--no-bias-correction", help="The MRI has no bias field, or keeps it.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Convert what is no adult's whole head all the same.")
    ] = False,
    as_json: Json = False,
) -> None:
    """A synthetic CT of one to four MRI of a head, on the first one's grid, with what it may be off by.

    Example: `spindose mr2ct T1.nii.gz FLAIR.nii.gz --out ct.nii.gz --uncertainty sd.nii.gz`
    """
    with one_sentence(), progress_bar() as progress:
        from .converted import Asked, convert_scans

        nets = tuple(weights or ())
        bias = not no_bias_correction
        asked = Asked(tuple(mri), out, uncertainty, nets, bulk, series, device, bias, anyway, intervals)
        facts = convert_scans(asked, progress)
    cautions = [f"Caution: {said}" for said in facts["cautions"]]
    answer(facts, [f"Synthetic CT: {out}, by {facts['method']}", *cautions], as_json)


register_rtplan(app)
register_robust(app)
register_contour(app)


def main() -> None:
    """Entry point of the command ``spindose``."""
    # Threads that spin while they wait make small steps ten times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # NumPy's own threads take cores from torch's, and their number decides how sums round.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    app()
