import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from app.cli import app
from app.single import dose_of_rtplan
from imaging.dicom.header import complete
from imaging.grid import axial, indices
from imaging.nifti import read_nifti, write_nifti
from imaging.source import Source
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.machine import load_machine
from planning.plan import Plan, Prescription
from planning.rtplan import write_rtplan

MACHINE = load_machine("generic-6mv")
# Water of 210 x 240 x 210 mm in air; its surface is 100 mm before the isocentre.
EDGE = np.array([130.0, 160.0, 130.0])
GRID = axial(-EDGE, EDGE, (5.0, 5.0, 5.0))
AXIS = np.stack([np.zeros(45), np.arange(-90.0, 135.0, 5.0) + 2.5, np.zeros(45)], axis=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """A water phantom and the plan of the machine's reference conditions: 100 MU, 100 x 100 mm."""
    folder = tmp_path_factory.mktemp("dose")
    hu = torch.full((1, *GRID.shape), -1000.0)
    hu[:, 5:-5, 12:-4, 5:-5] = 0.0
    write_nifti(Volume(hu, GRID, Quantity.HU), folder / "ct.nii.gz")
    leaves = np.zeros((2, 80))
    inside = np.abs(np.arange(-197.5, 200, 5)) < 50
    leaves[0, inside], leaves[1, inside] = -50.0, 50.0
    ends = tuple(ControlPoint(s, 0.0, (-50.0, 50.0), (-50.0, 50.0), leaves) for s in (0.0, 1.0))
    plan = Plan((Beam(0.0, 0.0, 0.0, np.zeros(3), "1", 100.0, ends),), Prescription(1.0, 1), MACHINE.name)
    write_rtplan(plan, MACHINE, complete(Source()), folder / "RTPLAN.dcm", structure_set_uid="1.2.3")
    return folder / "RTPLAN.dcm", folder / "ct.nii.gz"


def run(*arguments: object):
    return CliRunner().invoke(app, ["dose", *map(str, arguments)])


def on_axis(dose: Volume) -> np.ndarray:
    i, j, k = np.rint(indices(dose.grid, AXIS)).astype(int).T
    return dose.data[0].numpy()[i, j, k]


@pytest.fixture(scope="module")
def doses(files, tmp_path_factory) -> dict[str, Volume]:
    out = tmp_path_factory.mktemp("out")
    found = {}
    for engine in ("pencil-beam", "collapsed-cone"):
        path = out / f"{engine}.nii.gz"
        result = run(*files, "--out", path, "--spacing", 5, "--engine", engine, "--json")
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["engine"] == engine
        found[engine] = read_nifti(path, Quantity.DOSE)
    return found


def test_both_engines_give_one_gray_for_a_hundred_monitor_units_at_reference_conditions(doses):
    depth = AXIS[:, 1] + 100
    for name, dose in doses.items():
        assert np.interp(100.0, depth, on_axis(dose)) == pytest.approx(1.0, abs=0.01), name


def test_both_engines_agree_in_water_behind_the_first_20_mm(doses):
    depth = AXIS[:, 1] + 100
    behind = (depth > 25) & (depth < 200)
    cone, pencil = on_axis(doses["collapsed-cone"]), on_axis(doses["pencil-beam"])
    np.testing.assert_allclose(cone[behind], pencil[behind], rtol=0.025)
    # They are two engines: before that electrons from the head are missing in the second.
    assert cone[0] < 0.99 * pencil[0]


def test_an_engine_that_there_is_not_is_refused_in_one_sentence(files, tmp_path):
    result = run(*files, "--out", tmp_path / "dose.nii.gz", "--engine", "monte-carlo")
    assert result.exit_code == 2
    said = [line for line in result.stderr.splitlines() if "spindose: " in line]
    assert said == [
        "spindose: expected one of the dose engines pencil-beam, collapsed-cone, got 'monte-carlo'"
    ]
    assert not (tmp_path / "dose.nii.gz").exists()


@pytest.mark.parametrize("engine", ["pencil-beam", "collapsed-cone"])
def test_the_share_of_the_dose_that_is_done_is_told(files, tmp_path, engine):
    told: list[tuple[str, float]] = []
    dose_of_rtplan(*files, tmp_path / "dose.nii.gz", 5.0, lambda *now: told.append(now), engine)
    assert {title for title, _ in told} == {"Dose of the segments"}
    # At first, by the engine after its one beam, and at last.
    assert [share for _, share in told] == [0.0, 1.0, 1.0]
