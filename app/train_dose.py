"""``spindose train dose``: patients with accepted doses joined with the network that foretells them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import GeneralTracker
from jaxtyping import Float
from torch import nn

from models.dose_unet import dose_unet
from models.fit import Fit
from models.weights import expect_small, save_weights
from planning.predict.alike import known_of, traits_of
from planning.predict.baseline import by_distance, foretold
from planning.predict.channels import Sees, chosen, names_of
from planning.predict.loss import counted_error
from planning.predict.nets import DoseNet, dose_net, errors, train
from planning.predict.predicted import answers
from planning.predict.site import Site

from .console import RESEARCH_ONLY, Progress
from .curves import LOSSES, draw_losses
from .dose_material import DoseCases, DoseSource, ReadyDose, prepare_doses, read_whole, split_doses
from .dose_samples import DoseSamples, Varied
from .prepared import keep_split

PATIENTS = "patients"  # the folder of prepared patients in that of a run
_SPLIT = "split.json"
_N_WATCHED = 6


@dataclass(frozen=True)
class DoseRun:
    """One training of a dose predictor.

    Parameters
    ----------
    site
        Which structures there are.
    sees
        What the network is shown of a patient.
    histogram
        Weight of the histogram loss; 0 for none.
    varied
        How far samples differ from patients.
    patients
        To learn from, at the most; 0 for all.
    held_out
        Share of patients that training never sees, where no others are given to validate on.
    fit
        Budget and rates.
    seed
        Of samples and first weights.
    start
        Weights to start from.
    shape
        Voxels of a sample.
    net
        Fields of :class:`models.dose_unet.DoseUNetConfig` beside its inputs.

    Raises
    ------
    ValueError
        If nobody would be held out or taught.
    """

    site: Site
    sees: Sees = field(default_factory=Sees)
    histogram: float = 0.25
    varied: Varied = field(default_factory=Varied)
    patients: int = 0
    held_out: float = 0.15
    fit: Fit = field(default_factory=lambda: Fit(budget_s=3600.0, muon=True))
    seed: int = 0
    start: Path | None = None
    shape: tuple[int, int, int] = (96, 64, 64)
    net: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ValueError(f"expected --held-out between 0 and 1, got {self.held_out}")

    @property
    def config(self) -> DoseNet:
        """Network and training."""
        of = dose_net(self.site, self.sees, **self.net)
        return replace(of, histogram=self.histogram, fit=self.fit, shape=self.shape)


def train_dose(
    run: DoseRun,
    sources: Sequence[DoseSource],
    out: Path,
    progress: Progress,
    device: str = "cpu",
    trackers: Sequence[GeneralTracker] = (),
    validation: Sequence[DoseSource] = (),
    prepared: Path | None = None,
) -> Mapping[str, Any]:
    """Trains a predictor into ``out``; an earlier run there is gone on with.

    Parameters
    ----------
    run
        Site, network, samples.
    sources
        Patients to learn from.
    out
        Gets ``dose.safetensors`` with its card, ``checkpoint/`` and the curves.
    progress
        Called with what happens and the share that is done.
    device
        Where it trains.
    trackers
        Accelerate's, told every loss.
    validation
        Patients to validate on; with none a share of the others.
    prepared
        Where prepared patients are kept, which runs may share; in ``out`` with none.

    Returns
    -------
    Mapping
        Steps, seconds, last loss, ``patients`` of each kind, ``held_out`` errors and where the weights are.

    Raises
    ------
    ValueError
        If no patient fits, or the run in ``out`` began with others or otherwise.
    """
    config = run.config
    expect_small(dose_unet(config.net).state_dict())
    cases = _cases(run, config, sources, validation, out, prepared or out / PATIENTS, progress)
    planes = chosen(run.site, run.sees)
    samples = _samples(run, config, cases)
    batches = [read_whole(case, planes, device) for case in _watched(cases.held_out)]

    def watch(nets: Mapping[str, nn.Module], _: int) -> Mapping[str, float]:
        return score(nets["net"], config, run.site, batches)

    folder = out / "checkpoint"
    net, took = train(
        config, run.site, samples, folder, progress, device, run.seed, run.start, watch, trackers
    )
    found: dict[str, Any] = dict(held_out_errors(net, config, run.site, cases.held_out, progress))
    found["by distance alone"] = baseline_errors(config, run.site, cases)
    told = {"training": len(cases.training), "held out": len(cases.held_out), "left out": cases.left_out}
    took = {**took, "held_out": found, "patients": told, "traits": _traits(run.site, cases)}
    weights = out / "dose.safetensors"
    save_weights(net.state_dict(), card(run, took), weights)
    draw_losses(folder / "losses.jsonl", out / LOSSES)
    draw_losses(folder / "watch.jsonl", out / "watch.png")
    return {**took, "weights": str(weights)}


def score(
    net: nn.Module, config: DoseNet, site: Site, batches: Sequence[Mapping[str, torch.Tensor]]
) -> dict[str, float]:
    """Mean errors (Gy) of dose, histograms and what counts of them, patients seen mirrored too."""
    total = {"loss": 0.0, "dose_gy": 0.0, "histogram_gy": 0.0, "counted_gy": 0.0}
    for batch in batches:
        views = answers(net, batch["image"][0], float(batch["scale"][0]))
        said = views.mean(dim=0)[None, None].to(batch["dose"].device)
        found = off(said, config, site, batch)
        total = {name: of + found[name] / len(batches) for name, of in total.items()}
    return total


def off(
    said: Float[torch.Tensor, "1 1 i j k"], config: DoseNet, site: Site, batch: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """How far (Gy) what was said of a patient is off, in voxels, in histograms and in what counts of them."""
    every = replace(config, histogram=1.0)  # told even where it is not learnt from
    dose, histogram = (float(error) for error in errors(every, site, said, batch))
    counted = float(counted_error(said, batch["dose"], batch["bits"], site, batch["voxel_mm3"]))
    loss = dose + config.histogram * histogram
    return {"loss": loss, "dose_gy": dose, "histogram_gy": histogram, "counted_gy": counted}


def held_out_errors(
    net: nn.Module, config: DoseNet, site: Site, cases: Sequence[ReadyDose], progress: Progress
) -> dict[str, float]:
    """Mean errors (Gy) of patients that no step saw, one after the other."""
    planes, device = chosen(site, config.sees), str(next(net.parameters()).device)
    total = {"dose_gy": 0.0, "histogram_gy": 0.0, "counted_gy": 0.0}
    for n, case in enumerate(cases):
        found = score(net, config, site, [read_whole(case, planes, device)])
        total = {name: value + found[name] / len(cases) for name, value in total.items()}
        progress("Scoring held-out patients", (n + 1) / len(cases))
    return {name: round(value, 4) for name, value in total.items()}


def baseline_errors(config: DoseNet, site: Site, cases: DoseCases) -> dict[str, float]:
    """The same of mean doses by distance from targets, learnt from the same patients."""
    planes = chosen(site, Sees())
    known = by_distance((read_whole(case, planes) for case in cases.training), site)
    total = dict.fromkeys(("dose_gy", "histogram_gy", "counted_gy"), 0.0)
    for case in cases.held_out:
        batch = read_whole(case, planes)
        found = off(foretold(known, batch, site), config, site, batch)
        total = {name: value + found[name] / len(cases.held_out) for name, value in total.items()}
    return {name: round(value, 4) for name, value in total.items()}


def _traits(site: Site, cases: DoseCases) -> dict[str, list[float]]:
    """What the patients learnt from are like, for the card."""
    batches = ((case, read_whole(case, [])) for case in cases.training)
    return known_of([traits_of(b["bits"][0], b["known"][0, 0], case.spacing, site) for case, b in batches])


def _watched(cases: Sequence[ReadyDose]) -> list[ReadyDose]:
    """A few, the same in every run."""
    return sorted(cases, key=lambda c: c.key)[:_N_WATCHED]


def _samples(run: DoseRun, config: DoseNet, cases: DoseCases) -> DoseSamples:
    names = names_of(run.site, run.sees)
    far = [name.startswith("distance") for name in names]
    planes = chosen(run.site, run.sees)
    return DoseSamples(cases.training, planes, far, config.shape, run.varied, run.seed)


def _cases(
    run: DoseRun,
    config: DoseNet,
    sources: Sequence[DoseSource],
    validation: Sequence[DoseSource],
    out: Path,
    prepared: Path,
    progress: Progress,
) -> DoseCases:
    """Patients made ready and split; those that a run began with, where it goes on."""
    ready, left_out = prepare_doses(sources, run.site, config.sizes, prepared, progress)
    others: list[ReadyDose] = []
    if validation:
        others, more = prepare_doses(validation, run.site, config.sizes, prepared, progress)
        left_out |= {f"validation {name}": why for name, why in more.items()}
    cases = split_doses(ready, others, left_out, run.held_out, run.patients)
    told = json.loads(json.dumps({**cases.keys, "run": _told(run)}))
    keep_split(out / _SPLIT, told, (out / "checkpoint").exists(), "patients and settings")
    return cases


def _told(run: DoseRun) -> dict[str, Any]:
    """What makes a run another one; a budget and patience do not."""
    return {
        "site": run.site.name,
        "sees": run.sees.as_json(),
        "histogram": run.histogram,
        "varied": asdict(run.varied),
        "seed": run.seed,
        "shape": run.shape,
        "net": dict(run.net),
    }


def card(run: DoseRun, took: Mapping[str, Any]) -> dict[str, Any]:
    """What the weights are, for whoever uses them."""
    n, config = took["patients"], run.config
    return {
        "name": f"dose {run.site.name}",
        "does": "The dose (share of the highest prescription) that planners of the training set would reach, "
        "from density, targets with prescriptions and what else it is shown",
        "config": config.as_json()
        | {
            "site": run.site.name,
            "planes": names_of(run.site, run.sees),
            "prescription": run.site.prescription,
        },
        "data": f"{n['training']} patients with accepted doses; {len(n['left out'])} did not fit",
        "licence": "weights Apache-2.0; the patients have a licence of their own, which may forbid some uses",
        "split": f"{n['held out']} other patients held out, on whom it is scored",
        "budget": {name: took[name] for name in ("steps", "seconds", "loss")},
        "metrics": {"training_loss": took["loss"], "held_out": took["held_out"]},
        "traits": took["traits"],
        "limits": "Foretells plans like those it learnt from, and knows no machine: what it says may be out "
        f"of reach. Where patients differ from those, it errs unseen. {RESEARCH_ONLY}",
        "losses": LOSSES,
        "run": _told(run) | {"start": run.start.name if run.start else None, "patience": run.fit.patience},
        "version": version("spindose"),
    }
