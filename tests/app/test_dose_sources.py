"""Reference plans on disk as what a dose predictor learns from."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from app.dose_material import ReadyDose, split_doses
from app.dose_sources import dose_sources, site_of
from app.train_dose import DoseRun, train_dose
from imaging.case import Case
from imaging.folder import write_case
from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from models.fit import Fit
from planning.predict.site import read_site

GRID = axial(np.full(3, -60.0), np.full(3, 60.0), (6.0, 6.0, 6.0))
TURN = [float(angle) for angle in range(0, 360, 4)]


def plan(folder: Path, patient: int, style: str, technique: str = "imrt", seed: int = 3) -> None:
    """A ball of water whose target lies further right from patient to patient."""
    body = sphere(GRID, np.zeros(3), 50.0)
    at = np.array([5.0 * patient, 6.0, 0.0])
    drawn = {
        "Body": Structure(body, RoiType.EXTERNAL, (0, 255, 0)),
        "PTV": Structure(sphere(GRID, at, 15.0), RoiType.PTV, (255, 0, 0), 60.0),
    }
    volumes = {
        "ct": Volume(torch.where(body, 0.0, -1000.0)[None], GRID, Quantity.HU),
        "dose": Volume((40.0 * body.float())[None], GRID, Quantity.DOSE),
    }
    folder.mkdir(parents=True)
    write_case(Case(volumes, StructureSet(GRID, drawn), Source()), folder)
    told = {
        "style": style,
        "technique": technique,
        "gantry_angles": TURN if technique == "vmat" else [0.0, 120.0],
        "patient": patient,
        "planner": {"seed": seed},
    }
    (folder / "plan.json").write_text(json.dumps(told), encoding="utf-8")


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    for n, (patient, style, technique) in enumerate(
        ((0, "balanced", "imrt"), (0, "sparing", "vmat"), (1, "balanced", "imrt"), (2, "conformal", "imrt"))
    ):
        plan(tmp_path / "plans" / f"patient-{n:04d}", patient, style, technique)
    return tmp_path / "plans"


def test_plans_bring_their_styles_their_directions_and_whose_they_are(plans: Path) -> None:
    found = dose_sources([plans])
    assert [one.style for one in found] == ["balanced", "sparing", "balanced", "conformal"]
    assert [len(one.beams or ()) for one in found] == [2, 18, 2, 2]
    assert len({one.patient for one in found}) == 3
    # The isocentre is the middle of the target.
    assert found[2].beams is not None
    assert found[2].beams[0].isocenter == pytest.approx([5.0, 6.0, 0.0], abs=1.0)
    assert [one.path for one in dose_sources([plans / "patient-0002"])] == [plans / "patient-0002"]
    plan(plans / "other", 0, "balanced", seed=4)
    assert len({one.patient for one in dose_sources([plans])}) == 4


def test_what_patients_are_of_is_told_by_what_is_there(plans: Path, tmp_path: Path) -> None:
    assert site_of([plans]) == "brain"
    (tmp_path / "pt_1").mkdir()
    assert site_of([tmp_path / "pt_1"]) == "openkbp"
    with pytest.raises(ValueError, match="got both; train on each alone"):
        dose_sources([plans, tmp_path / "pt_1"])


def test_plans_of_one_patient_are_never_on_both_sides_of_a_split(plans: Path, tmp_path: Path) -> None:
    net = {"features": (4, 4, 4, 4, 4, 4), "stages": 1}
    run = DoseRun(read_site("brain"), fit=Fit(steps=2, warmup=1), shape=(32, 32, 32), net=net, held_out=0.4)
    took = train_dose(run, dose_sources([plans]), tmp_path / "out", lambda *_: None)
    assert sum(took["patients"][part] for part in ("training", "held out")) == 4
    ready = [ReadyDose(tmp_path, str(n), "a", 60.0, (1.0, 1.0, 1.0)) for n in range(2)]
    with pytest.raises(ValueError, match="one in both"):
        split_doses(ready[:1], ready[1:], {}, 0.2)
