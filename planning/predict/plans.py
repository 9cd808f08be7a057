"""Plans of a reference planner, as a dose predictor learns from them."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from imaging.folder import read_case
from imaging.structures import RoiType, named
from imaging.volume import Quantity, Volume

from .patient import Patient

PLAN = "plan.json"
TECHNIQUES = ("imrt", "vmat")


@dataclass(frozen=True, eq=False)
class PlannedPatient:
    """A patient with the dose of a plan, and how it was planned.

    Parameters
    ----------
    patient
        CT, structures, body and dose on one grid.
    style
        Of planning, as :mod:`planning.styles` names it.
    technique
        ``imrt`` (standing fields) or ``vmat`` (arcs).
    gantry_angles
        Gantry angles of the fields (degrees, IEC 61217); where arcs turn, of their control points.
    """

    patient: Patient
    style: str
    technique: str
    gantry_angles: tuple[float, ...]


def read_planned(folder: Path) -> PlannedPatient:
    """A planned patient from a case folder with volumes ``ct`` and ``dose`` and a ``plan.json`` beside it.

    Raises
    ------
    ValueError
        If the folder holds no such case, or no word of how it was planned.
    """
    style, technique, angles = _told(folder)
    case = read_case(folder)
    if case.structures is None or not {"ct", "dose"} <= set(case.volumes):
        raise ValueError(
            "expected a planned patient with ct, dose and structures, got a case without some of them; "
            "make it again"
        )
    ct = case.volumes["ct"]
    bodies = named(case.structures, RoiType.EXTERNAL)
    if len(bodies) != 1:
        raise ValueError(f"expected one body (kind EXTERNAL), got {len(bodies)}; contour the patient again")
    body = case.structures.mask(bodies[0])
    possible = Volume(body[None].to(torch.uint8), ct.grid, Quantity.LABEL, ct.frame)
    return PlannedPatient(
        Patient(ct, case.structures, possible, case.volumes["dose"]), style, technique, angles
    )


def _told(folder: Path) -> tuple[str, str, tuple[float, ...]]:
    try:
        told = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        style, technique = told["style"], told["technique"]
        angles = tuple(float(angle) for angle in told["gantry_angles"])
        fits = bool(angles) and all(map(math.isfinite, angles)) and isinstance(style, str) and bool(style)
    except (OSError, ValueError, KeyError, TypeError):
        fits = False
    if not fits or technique not in TECHNIQUES:
        raise ValueError(
            f"expected a {PLAN} that tells style, technique ({' or '.join(TECHNIQUES)}) "
            "and gantry angles, got none; make it with `spindose synth plans`"
        )
    return style, technique, angles
