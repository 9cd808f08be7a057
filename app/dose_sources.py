"""Patients with doses on disk, of OpenKBP's layout or of a reference planner, as what trainings take."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imaging.structures import RoiType, named
from planning.beams import Beam
from planning.predict.aimed import middle_of, standing
from planning.predict.openkbp import patients_of, read_patient
from planning.predict.patient import Patient
from planning.predict.plans import PLAN, PlannedPatient, read_planned

from .dose_material import DoseSource

OPENKBP, BRAIN = "openkbp", "brain"


def openkbp_folders(paths: Sequence[Path]) -> list[Path]:
    """Folders of patients in folders, each once, in order.

    Raises
    ------
    ValueError
        As :func:`planning.predict.openkbp.patients_of`.
    """
    return list(dict.fromkeys(folder for path in paths for folder in patients_of(path)))


def planned_folders(paths: Sequence[Path]) -> list[Path]:
    """Folders of reference plans that are these paths or lie in them, each once, in order of their names."""
    found = [sorted(path.glob(f"*/{PLAN}")) if path.is_dir() else [] for path in paths]
    own = [
        [path / PLAN] if (path / PLAN).is_file() else more for path, more in zip(paths, found, strict=True)
    ]
    return list(dict.fromkeys(plan.parent for each in own for plan in each))


def site_of(paths: Sequence[Path]) -> str:
    """The site that patients on disk are of: brain for reference plans, openkbp for its layout.

    Raises
    ------
    ValueError
        If there are both.
    """
    plans = [bool(planned_folders([path])) for path in paths]
    if any(plans) and not all(plans):
        raise ValueError(
            "expected reference plans or patients in OpenKBP's layout, got both; train on each alone"
        )
    return BRAIN if any(plans) else OPENKBP


def dose_sources(paths: Sequence[Path]) -> list[DoseSource]:
    """Patients on disk as sources of a training, told apart by what is there.

    Every folder of OpenKBP's layout is another patient; of reference plans those of one seed and number are
    one, whatever their styles.

    Raises
    ------
    ValueError
        If there are none, plans of both kinds, or a plan that does not tell how it was made.
    """
    if not paths:
        return []
    if site_of(paths) == OPENKBP:
        return [DoseSource(folder, read_patient) for folder in openkbp_folders(paths)]
    return [_planned(folder) for folder in planned_folders(paths)]


def _planned(folder: Path) -> DoseSource:
    one = read_planned(folder)
    told = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    patient = f"seed {_seed(told)} patient {told.get('patient', folder.name)}"
    return DoseSource(folder, _patient, one.style, patient, beams_of(one))


def _seed(told: dict[str, Any]) -> object:
    planner = told.get("planner")
    return planner.get("seed", "") if isinstance(planner, dict) else ""


def _patient(folder: Path) -> Patient:
    return read_planned(folder).patient


def beams_of(one: PlannedPatient) -> tuple[Beam, ...]:
    """Fields that stand for a plan's directions, about the middle of its target.

    Raises
    ------
    ValueError
        If the patient has not one planning target.
    """
    targets = named(one.patient.structures, RoiType.PTV)
    if len(targets) != 1:
        raise ValueError(f"expected a plan with one target (kind PTV), got {len(targets)}")
    middle = middle_of(one.patient.structures.mask(targets[0]), one.patient.ct.grid)
    return standing(one.gantry_angles, middle, turning=one.technique == "vmat")
