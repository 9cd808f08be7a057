"""Tasks that sites can learn together, by the name that a study gives them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from app.console import Progress
from app.dose_material import prepare_doses, split_doses
from app.dose_samples import Varied
from app.dose_sources import dose_sources
from app.train_dose import DoseRun
from models.dose_unet import DoseUNetConfig
from models.fit import Fit
from planning.predict.channels import Sees, names_of
from planning.predict.site import read_site

from . import contour_task, dose_counts, mr2ct_task
from .dose_task import DoseTask
from .learning import Task
from .study import NAME, Study

_DOSE = {"site": str, "sees": dict, "histogram": float, "varied": dict, "shape": list, "net": dict}
_SIDE = (16, 160)  # voxels of a window


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    Parameters
    ----------
    does
        In a few words.
    network
        The network of a study, with first weights of its seed.
    cells
        Names of the cells of each histogram that a site may tell of its patients.
    read
        The task of a study on the patients of folders; made ready in a folder, with a share held out.
    errors
        Names of the mean errors that it is scored by; the first says which of two networks is better.
    card
        What a study's weights are: ``name``, ``does``, ``config`` and ``limits`` of a card.
    rises
        Whether more of the first is better.
    """

    does: str
    network: Callable[[Study], nn.Module]
    cells: Callable[[Study], Mapping[str, tuple[str, ...]]]
    read: Callable[[Study, tuple[Path, ...], Path, float, Progress], Task]
    errors: tuple[str, ...]
    card: Callable[[Study], dict[str, Any]]
    rises: bool = False


def network_of(study: Study) -> nn.Module:
    """A study's network with its first weights.

    Raises
    ------
    ValueError
        If there is no such task, or its settings are others'.
    """
    return _kind(study).network(study)


def cells_of(study: Study) -> Mapping[str, tuple[str, ...]]:
    """Names of the cells of each histogram that a site may tell; refuses as :func:`network_of`."""
    return _kind(study).cells(study)


def errors_of(study: Study) -> tuple[str, ...]:
    """Names of the mean errors that a study is scored by; refuses as :func:`network_of`."""
    return _kind(study).errors


def card_of(study: Study) -> dict[str, Any]:
    """What a study's weights are, for their card; refuses as :func:`network_of`."""
    return _kind(study).card(study)


def loss_of(study: Study, errors: Mapping[str, float]) -> float:
    """What of two networks the better one has less of: the first error, or 1 less what rises."""
    kind = _kind(study)
    first = float(errors[kind.errors[0]])
    return 1 - first if kind.rises else first


def task_of(
    study: Study, folders: tuple[Path, ...], ready: Path, held_out: float, progress: Progress
) -> Task:
    """A study's task at a site.

    Parameters
    ----------
    study
        What is learnt.
    folders
        The site's patients.
    ready
        Where they are kept once they are made ready.
    held_out
        Share to validate on.
    progress
        Called with what happens and the share that is done.

    Raises
    ------
    ValueError
        As :func:`network_of`, or if no two patients fit.
    """
    return _kind(study).read(study, folders, ready, held_out, progress)


def dose_run(study: Study) -> DoseRun:
    """The settings of a dose predictor's study.

    Raises
    ------
    ValueError
        If a setting is unknown, or no dose predictor's.
    """
    told = dict(study.model)
    if told.keys() - _DOSE.keys():
        raise ValueError(f"expected {', '.join(_DOSE)} of a dose predictor's study, got others")
    if any(not isinstance(value, _DOSE[word]) for word, value in told.items()):
        raise ValueError("expected another kind of value in the model of a dose predictor's study")
    site, shape = told.get("site", "openkbp"), told.get("shape", [96, 64, 64])
    if not NAME.fullmatch(site):  # never a path
        raise ValueError("expected the name of a site that comes along, got another")
    if len(shape) != 3 or not all(isinstance(n, int) and _SIDE[0] <= n <= _SIDE[1] for n in shape):
        raise ValueError(f"expected a window of three sides of {_SIDE[0]} to {_SIDE[1]} voxels, got another")
    try:
        return DoseRun(
            read_site(site),
            Sees(**told.get("sees", {})),
            told.get("histogram", 0.25),
            Varied(**told.get("varied", {})),
            fit=Fit(steps=study.steps),
            seed=study.seed,
            shape=(shape[0], shape[1], shape[2]),
            net=_net(told.get("net", {})),
        )
    except TypeError:
        raise ValueError("expected settings of a dose predictor in a study, got others") from None


def _net(told: Mapping[str, Any]) -> dict[str, Any]:
    known = DoseUNetConfig.__dataclass_fields__.keys() - {"inputs"}
    if told.keys() - known:
        raise ValueError(f"expected {', '.join(sorted(known))} of a network, got others")
    return {word: tuple(value) if isinstance(value, list) else value for word, value in told.items()}


def _dose_network(study: Study) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        return DoseTask(dose_run(study), (), ()).network()


def _dose_cells(study: Study) -> Mapping[str, tuple[str, ...]]:
    return dose_counts.cells_of(dose_run(study).site)


def _dose_task(
    study: Study, folders: tuple[Path, ...], ready: Path, held_out: float, progress: Progress
) -> Task:
    run = dose_run(study)
    found, left_out = prepare_doses(dose_sources(folders), run.site, run.config.sizes, ready, progress)
    cases = split_doses(found, [], left_out, held_out)
    return DoseTask(run, cases.training, cases.held_out)


def _dose_card(study: Study) -> dict[str, Any]:
    run = dose_run(study)
    told = {
        "site": run.site.name,
        "planes": names_of(run.site, run.sees),
        "prescription": run.site.prescription,
    }
    return {
        "name": f"dose {run.site.name}, federated",
        "does": "The dose (share of the highest prescription) that planners of the sites would reach, from "
        "density, targets with prescriptions and what else it is shown",
        "config": run.config.as_json() | told,
        "limits": "Foretells plans like those it learnt from, and knows no machine. ",
    }


def _kind(study: Study) -> Kind:
    if study.task not in TASKS:
        raise ValueError(f"expected a task among {', '.join(TASKS)}, got another")
    return TASKS[study.task]


TASKS = {
    "dose": Kind(
        "the dose that a good plan would reach",
        _dose_network,
        _dose_cells,
        _dose_task,
        ("dose_gy", "histogram_gy", "counted_gy"),
        _dose_card,
    ),
    "contours": Kind(
        "contours of organs or tumours on MRI",
        contour_task.network,
        contour_task.cells,
        contour_task.read,
        contour_task.ERRORS,
        contour_task.card,
        rises=True,
    ),
    "mr2ct": Kind(
        "CT numbers of a head on MRI",
        mr2ct_task.network,
        mr2ct_task.cells,
        mr2ct_task.read,
        mr2ct_task.ERRORS,
        mr2ct_task.card,
    ),
}
