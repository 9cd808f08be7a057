"""The dose that a good plan would reach, foretold in the walk: what is kept and told of it."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from imaging.case import Case
from imaging.structures import StructureSet
from imaging.volume import Quantity, Volume
from models.artefacts import WEIGHTS
from models.catalogue import State
from planning.arcs import Arc
from planning.beams import Beam
from planning.check.dvh import Dvh, histograms, mean
from planning.predict.aimed import fields_of
from planning.predict.patient import Patient
from planning.predict.predicted import predicted

from .approved import MARK
from .catalogue import artefacts, catalogue
from .ct_nets import ZOO
from .predict_dose import load_predictor
from .request import Request
from .review.facts import CheckRow
from .steps import Walk, file_hash

DOSE_MODEL = "dose-brain"
STEP = "predicted"
DOSE, SIGMA = "predicted", "predicted_sigma"
_ALONE = "Planned by its goals alone: "
_DOUBT_GY = 3.0  # between networks and mirror images, in the mean over the target's surroundings


def with_prediction(request: Request, allow_unapproved: bool = False) -> Request:
    """A request with the networks that foretell its dose, or why there are none.

    Parameters
    ----------
    request
        What is asked for.
    allow_unapproved
        Whether networks that nobody has approved may foretell; every output says so then.

    Raises
    ------
    ValueError
        If an approved model's files were altered.
    """
    if not request.prediction:
        return request
    model = next((m for m in catalogue().models(DOSE_MODEL) if m.state is State.APPROVED), None)
    if model is not None:
        catalogue().history()
        weights = sorted(path for path in artefacts(model).values() if path.suffix == WEIGHTS)
        return replace(request, dose_weights=tuple(weights))
    ships = tuple(sorted(ZOO.glob(f"{DOSE_MODEL}*{WEIGHTS}")))
    if not allow_unapproved or not ships:
        return replace(request, dose_note=f"{_ALONE}no dose predictor is approved.")
    return replace(request, dose_weights=ships, mark=MARK)


def foretold(
    walk: Walk,
    ct: Volume,
    structures: StructureSet,
    body: str,
    beams: tuple[Beam, ...] | tuple[Arc, ...],
    request: Request,
) -> Case | None:
    """Volumes ``predicted`` and ``predicted_sigma`` (Gy) on the CT's grid, as a step; None without networks.

    Parameters
    ----------
    walk
        Whose step ``contours`` has been walked.
    ct
        HU.
    structures
        With the target and its prescription.
    body
        Which of them is the body.
    beams
        Of the plan to come.
    request
        What is asked for.

    Raises
    ------
    ValueError
        If the networks are of another site, or know no such style.
    """
    if not request.dose_weights:
        return None

    fields = fields_of(beams)

    def made() -> Case:
        predictor = load_predictor(request.dose_weights)
        inside = structures.mask(body)[None].to(torch.uint8)
        possible = Volume(inside, ct.grid, Quantity.LABEL, ct.frame)
        patient = Patient(ct, replace(structures, frame=ct.frame), possible)
        given = (predictor.nets, predictor.site, predictor.config, request.style, fields)
        dose, sigma = predicted(patient, *given)
        return Case({DOSE: dose, SIGMA: sigma})

    return walk.case(
        STEP,
        "Predicted dose",
        {
            "networks": {path.name: file_hash(path) for path in request.dose_weights},
            "style": request.style,
            "angles": [round(beam.gantry, 1) for beam in fields],
        },
        made,
        after=("contours",),
    )


def figures(
    told: Case | None, structures: StructureSet, achieved: Mapping[str, Dvh]
) -> dict[str, dict[str, float]]:
    """Mean dose of each structure that the plan was to have and has (Gy), and how sure networks were."""
    if told is None:
        return {}
    wanted = histograms(told.volumes[DOSE], structures)
    sigma = histograms(told.volumes[SIGMA], structures)
    return {
        name: {
            "predicted_mean_gy": round(mean(wanted[name]), 3),
            "achieved_mean_gy": round(mean(dvh), 3),
            "sigma_gy": round(mean(sigma[name]), 3),
        }
        for name, dvh in achieved.items()
    }


def rows(told: Mapping[str, Mapping[str, float]]) -> tuple[CheckRow, ...]:
    """The same for the page."""
    return tuple(
        CheckRow(
            f"{name}: mean dose achieved",
            f"{of['achieved_mean_gy']:.1f} Gy",
            f"{of['predicted_mean_gy']:.1f} ± {of['sigma_gy']:.1f} Gy predicted",
        )
        for name, of in told.items()
    )


def cautions(told: Mapping[str, Mapping[str, float]], request: Request) -> tuple[str, ...]:
    """What the reader of a plan must know of its prediction."""
    note = (request.dose_note,) if request.dose_note else ()
    unsure = [name for name, of in told.items() if of["sigma_gy"] > _DOUBT_GY]
    if not unsure:
        return note
    doubt = (
        f"The networks that foretold the dose disagree in {', '.join(unsure)}: the plan may be further from "
        "the best one there."
    )
    return (*note, doubt)
