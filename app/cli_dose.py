"""``spindose train dose`` and ``spindose predict dose``: what they need is imported when they run."""

from pathlib import Path
from typing import Annotated

import typer

from .cli_tracking import Track
from .console import answer, one_sentence, progress_bar, run_folder

predict_app = typer.Typer(help="What a good plan would reach, before there is one.", no_args_is_help=True)

_Folders = Annotated[
    list[Path], typer.Argument(help="Folders of patients in OpenKBP's layout, or folders of such folders.")
]
_Plans = Annotated[
    list[Path],
    typer.Argument(help="Folders of patients in OpenKBP's layout or of synth plans, or folders of such."),
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def train_dose_command(
    data: _Plans,
    site: Annotated[
        str, typer.Option(help="openkbp, brain, or a TOML file of a site; that of the patients otherwise.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="A new folder for weights, card and curves.")] = None,
    resume: Annotated[Path | None, typer.Option(help="The folder of an earlier run to go on with.")] = None,
    budget: Annotated[str, typer.Option(help="Time to train, over all resumptions: 90s, 25m, 2h.")] = "60m",
    validation: Annotated[
        list[Path] | None, typer.Option(help="Patients to validate on; otherwise --held-out of DATA.")
    ] = None,
    held_out: Annotated[float, typer.Option(help="Share of patients that training never sees.")] = 0.15,
    patients: Annotated[int, typer.Option(min=0, help="Patients to learn from; 0 for all.")] = 0,
    prepared: Annotated[
        Path | None, typer.Option(help="Where prepared patients are kept, which runs may share.")
    ] = None,
    organs: Annotated[bool, typer.Option(help="Show organs at risk.")] = True,
    distances: Annotated[bool, typer.Option(help="Show distances to targets.")] = True,
    surface: Annotated[bool, typer.Option(help="Show the distance to the body surface.")] = True,
    beams: Annotated[bool, typer.Option(help="Show what beams aimed at the targets would leave.")] = True,
    histogram: Annotated[
        float, typer.Option(min=0, help="Weight of the loss of dose-volume histograms; 0 for none.")
    ] = 0.25,
    stages: Annotated[int, typer.Option(min=1, max=3, help="U-Nets in a row.")] = 2,
    norm: Annotated[str, typer.Option(help="none (standardised kernels), or instance.")] = "none",
    start: Annotated[Path | None, typer.Option(help="Weights (.safetensors) to start from.")] = None,
    patience: Annotated[
        int, typer.Option(min=0, help="Looks without improvement before it stops early; 0 for none.")
    ] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Samples in a step.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make samples; 0 for none.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of samples and first weights.")] = 0,
    device: Annotated[str, typer.Option(help="Where to train: cpu, or cuda.")] = "cpu",
    track: Track = "auto",
    as_json: _AsJson = False,
) -> None:
    """Train a network that foretells the dose of a good plan, on patients with accepted doses.

    Runs of several seeds are an ensemble. What the network is shown can be left out by group, to see what it
    adds.

    Example: `spindose train dose train-pats --validation validation-pats --out dose-0 --budget 60m`, and to
    go on with it `spindose train dose train-pats --validation validation-pats --resume dose-0 --budget 2h`.
    """
    with one_sentence(), progress_bar() as progress:
        from models.fit import Fit
        from planning.predict.channels import Sees
        from planning.predict.site import read_site

        from .dose_sources import dose_sources, site_of
        from .trackers import tracked
        from .train import parse_budget
        from .train_dose import PATIENTS, DoseRun, train_dose

        run = DoseRun(
            read_site(site or site_of([*data, *(validation or [])])),
            Sees(organs, distances, surface, beams),
            histogram,
            patients=patients,
            held_out=held_out,
            fit=Fit(
                budget_s=parse_budget(budget), patience=patience, batch=batch, workers=workers, muon=True
            ),
            seed=seed,
            start=start,
            net={"stages": stages, "norm": norm},
        )
        folder = run_folder(out, resume, PATIENTS, "checkpoint")
        sources, others = dose_sources(data), dose_sources(validation or [])
        with tracked(track, folder) as trackers:
            took = train_dose(run, sources, folder, progress, device, trackers, others, prepared)
    told, found = took["patients"], took["held_out"]
    lines = [
        f"Trained {took['steps']} steps in {took['seconds']:.0f} s; weights, card and curves are written.",
        f"{told['training']} patients to learn from, {told['held out']} others held out.",
        *(f"Left out {name}: {why}." for name, why in told["left out"].items()),
        *(
            f"{title}: {of['dose_gy']:.2f} Gy off in voxels, {of['counted_gy']:.2f} Gy in what counts."
            for title, of in (("Held out", found), ("By distance alone", found["by distance alone"]))
        ),
    ]
    answer(dict(took), lines, as_json)


@predict_app.command("dose")
def predict_dose_command(
    data: _Folders,
    out: Annotated[Path, typer.Option(help="A new folder for the doses, one CSV a patient.")],
    weights: Annotated[
        list[Path] | None, typer.Option(help="Networks of an ensemble (.safetensors), of train dose.")
    ] = None,
    site: Annotated[str, typer.Option(help="A site's name or TOML file, if not the weights' own.")] = "",
    style: Annotated[str, typer.Option(help="Style of planning, where the site has some.")] = "",
    device: Annotated[str, typer.Option(help="Where networks run: cpu, or cuda.")] = "cpu",
    as_json: _AsJson = False,
) -> None:
    """Foretell the doses of patients in OpenKBP's layout, as OpenKBP's CSV.

    Example: `spindose predict dose validation-pats --weights dose-0/dose.safetensors --out predicted`
    """
    with one_sentence(), progress_bar() as progress:
        from planning.predict.openkbp import read_patient, write_prediction

        from .dose_sources import openkbp_folders
        from .predict_dose import load_predictor, predict_folder

        predictor = load_predictor(weights or [], site, device)
        folders = openkbp_folders(data)
        took = predict_folder(folders, predictor, out, progress, read_patient, write_prediction, style)
    lines = [
        f"Doses of {took['patients']} patients: {out}",
        f"Networks and mirror images differ by {took['sigma_gy']:.2f} Gy in the mean.",
        *(f"Caution, {name}: {' '.join(why)}" for name, why in took["unlike"].items()),
    ]
    answer({"out": str(out), **took}, lines, as_json)
