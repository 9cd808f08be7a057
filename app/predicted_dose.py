"""The dose that a good plan would reach, foretold in the walk: what is kept and told of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from imaging.case import Case
from imaging.folder import read_case, write_case
from imaging.structures import StructureSet
from imaging.volume import Quantity, Volume
from models.artefacts import WEIGHTS
from models.catalogue import State
from planning.arcs import Arc
from planning.beams import Beam
from planning.check.dvh import Dvh, histograms_at, mean
from planning.check.parts import Parts
from planning.goals import Goal
from planning.plan import Prescription
from planning.predict.aimed import fields_of
from planning.predict.patient import Patient
from planning.predict.prospects import Reach, prospects

from .approved import MARK
from .catalogue import artefacts, catalogue
from .ct_nets import ZOO
from .predict_dose import load_predictor
from .request import Request
from .review.facts import CheckRow
from .steps import Walk, file_hash

DOSE_MODEL = "dose-brain"
STEP = "predicted"
_DOSE, _SIGMA, _UNLIKE = "predicted", "predicted_sigma", "unlike.json"
_ALONE = "Planned by its goals alone: "
_DOUBT_GY = 3.0  # between networks and mirror images, in the mean of a structure


@dataclass(frozen=True, eq=False)
class Foretold:
    """The dose that networks foretell of a patient.

    Parameters
    ----------
    dose, sigma
        Total dose and its standard deviation among networks and mirror images (Gy), on the CT's grid.
    unlike
        What of the patient is unlike those that networks learnt from, one sentence each.
    """

    dose: Volume
    sigma: Volume
    unlike: tuple[str, ...] = ()


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
) -> Foretold | None:
    """The dose of a good plan on the CT's grid, kept as a step; None without networks.

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

    def made() -> Foretold:
        inside = structures.mask(body)[None].to(torch.uint8)
        possible = Volume(inside, ct.grid, Quantity.LABEL, ct.frame)
        patient = Patient(ct, replace(structures, frame=ct.frame), possible)
        dose, sigma, unlike = load_predictor(request.dose_weights)(patient, request.style, fields)
        return Foretold(dose, sigma, tuple(unlike))

    return walk.step(
        STEP,
        "Predicted dose",
        {
            "networks": {path.name: file_hash(path) for path in request.dose_weights},
            "style": request.style,
            "angles": [round(beam.gantry, 1) for beam in fields],
        },
        made,
        _write,
        _read,
        after=("contours",),
    )


def _write(told: Foretold, here: Path) -> None:
    write_case(Case({_DOSE: told.dose, _SIGMA: told.sigma}), here)
    (here / _UNLIKE).write_text(json.dumps(told.unlike), encoding="utf-8")


def _read(here: Path) -> Foretold:
    volumes = read_case(here).volumes
    unlike = json.loads((here / _UNLIKE).read_text(encoding="utf-8"))
    return Foretold(volumes[_DOSE], volumes[_SIGMA], tuple(unlike))


def figures(
    told: Foretold | None,
    parts: Mapping[str, Parts],
    achieved: Mapping[str, Dvh],
    goals: Sequence[Goal],
    prescription: Prescription,
) -> dict[str, Any]:
    """What the plan was to have and has, as plain values; nothing without a foretold dose.

    ``structures`` has mean doses (Gy) and how sure networks were; ``goals`` what was to be expected of each
    before anything was optimised; ``unlike`` what of the patient networks have not learnt.
    """
    if told is None:
        return {}
    wanted, sigma = (histograms_at(volume, parts) for volume in (told.dose, told.sigma))
    means = {
        name: {
            "predicted_mean_gy": round(mean(wanted[name]), 3),
            "achieved_mean_gy": round(mean(dvh), 3),
            "sigma_gy": round(mean(sigma[name]), 3),
        }
        for name, dvh in achieved.items()
    }
    expected = prospects(goals, told.dose, told.sigma, parts, prescription)
    return {
        "structures": means,
        "goals": [
            {
                "structure": one.goal.structure,
                "goal": one.goal.text,
                "predicted": round(one.value, 3),
                "reach": str(one.reach),
                "words": one.words,
            }
            for one in expected
        ],
        "unlike": list(told.unlike),
    }


def rows(found: Mapping[str, Any]) -> tuple[CheckRow, ...]:
    """The same for the page."""
    return tuple(
        CheckRow(
            f"{name}: mean dose achieved",
            f"{of['achieved_mean_gy']:.1f} Gy",
            f"{of['predicted_mean_gy']:.1f} ± {of['sigma_gy']:.1f} Gy predicted",
        )
        for name, of in found.get("structures", {}).items()
    )


def cautions(found: Mapping[str, Any], request: Request) -> tuple[str, ...]:
    """What the reader of a plan must know of its prediction."""
    note = (request.dose_note,) if request.dose_note else ()
    out = [one["words"] for one in found.get("goals", ()) if one["reach"] == Reach.OUT]
    unsure = [name for name, of in found.get("structures", {}).items() if of["sigma_gy"] > _DOUBT_GY]
    doubt = (
        f"The networks that foretold the dose disagree in {', '.join(unsure)}: the plan may be further from "
        "the best one there."
    )
    strange = " ".join(found.get("unlike", ()))
    return (
        *note,
        *((f"By the foretold dose: {' '.join(out)}",) if out else ()),
        *((doubt,) if unsure else ()),
        *((f"{strange} Its foretold dose may be wrong.",) if strange else ()),
    )
