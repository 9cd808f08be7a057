"""Plans read back as a dose predictor sees them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from imaging.case import Case
from imaging.folder import write_case
from imaging.grid import axial
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.predict.plans import read_planned

GRID = axial(np.zeros(3), np.array([7.0, 9.0, 11.0]), (1.0, 1.0, 1.0))
TOLD = {"style": "sparing", "technique": "imrt", "gantry_angles": [0.0, 40.0]}


def _write(folder: Path, told: object = TOLD, dose: bool = True, body: bool = True) -> None:
    values = torch.arange(GRID.shape[0] * GRID.shape[1] * GRID.shape[2]).reshape(1, *GRID.shape).float()
    box = torch.zeros(GRID.shape, dtype=torch.bool)
    box[2:5, 2:6, 3:8] = True
    structures = {"PTV": Structure(box, RoiType.PTV, (0, 0, 255), 60.0)}
    if body:
        whole = torch.ones(GRID.shape, dtype=torch.bool)
        whole[0] = False
        structures["Body"] = Structure(whole, RoiType.EXTERNAL, (0, 255, 0))
    volumes = {"ct": Volume(values - 1000, GRID, Quantity.HU)}
    if dose:
        volumes["dose"] = Volume(values / 8, GRID, Quantity.DOSE)
    write_case(Case(volumes, StructureSet(GRID, structures), Source()), folder)
    (folder / "plan.json").write_text(json.dumps(told))


def test_a_planned_patient_comes_back_as_it_was_written(tmp_path: Path) -> None:
    _write(tmp_path)
    found = read_planned(tmp_path)
    assert (found.style, found.technique, found.gantry_angles) == ("sparing", "imrt", (0.0, 40.0))
    patient = found.patient
    count = torch.arange(patient.ct.data.numel()).reshape(patient.ct.data.shape).float()
    assert torch.equal(patient.ct.data.float(), count - 1000)
    assert patient.dose is not None
    assert torch.equal(patient.dose.data.float(), count / 8)
    assert not patient.possible.data[0, 0].any()
    assert patient.possible.data[0, 1:].all()
    assert patient.structures.structures["PTV"].prescription_gy == 60.0


@pytest.mark.parametrize(
    "told", [[], {}, {**TOLD, "technique": "protons"}, {**TOLD, "gantry_angles": []}, {**TOLD, "style": ""}]
)
def test_no_word_of_how_it_was_planned_is_refused(tmp_path: Path, told: object) -> None:
    _write(tmp_path, told)
    with pytest.raises(ValueError, match=r"plan\.json that tells style"):
        read_planned(tmp_path)


def test_a_case_without_dose_or_body_is_refused(tmp_path: Path) -> None:
    for n, words in enumerate(({"dose": False}, {"body": False})):
        folder = tmp_path / str(n)
        folder.mkdir()
        _write(folder, **words)
        with pytest.raises(ValueError, match=r"expected a planned patient with ct, dose|expected one body"):
            read_planned(folder)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="spindose synth plans"):
        read_planned(tmp_path)
