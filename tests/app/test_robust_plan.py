import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.ct_nets import calibration_of
from app.request import Request
from app.robust import asked, check, deviation_of, inputs, lines, parameters, read, rows, settings_of, write
from imaging.grid import axial
from imaging.nifti import write_nifti
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.dose.forward import calculate
from planning.machine import load_machine
from planning.optimise.robust import Aggregate
from planning.plan import Plan, Prescription

RX = Prescription(60.0, 30)
MACHINE = load_machine("generic-6mv")
EDGE = np.array([42.5, 42.5, 42.5])
GRID = axial(-EDGE, EDGE, (5.0, 5.0, 5.0))
WATER = Volume(torch.ones(1, *GRID.shape), GRID, Quantity.DENSITY)
HEAD = Volume(torch.full((1, *GRID.shape), 50.0), GRID, Quantity.HU)
SD = Quantity.HU_DEVIATION
DRAWN = StructureSet(
    GRID,
    {
        "CTV": Structure(sphere(GRID, np.zeros(3), 14.0), RoiType.CTV, (255, 0, 0)),
        "PTV": Structure(sphere(GRID, np.zeros(3), 17.0), RoiType.PTV, (255, 0, 0), 60.0),
    },
)


def planned() -> Plan:
    """One open field that is a little too small for the PTV."""
    n = len(MACHINE.mlc.boundaries) - 1
    leaves = np.stack([np.full(n, -16.0), np.full(n, 16.0)])
    points = tuple(ControlPoint(m, 0.0, (-16.0, 16.0), (-20.0, 20.0), leaves) for m in (0.0, 1.0))
    return Plan((Beam(0.0, 0.0, 0.0, np.zeros(3), "1", 260.0, points),), RX, MACHINE.name)


@pytest.fixture(scope="module")
def dose():
    return calculate(planned(), WATER, GRID, MACHINE)


@pytest.fixture
def sigma(tmp_path):
    write_nifti(Volume(0.03 * WATER.data, GRID, Quantity.DENSITY), tmp_path / "sigma.nii.gz")
    return tmp_path / "sigma.nii.gz"


def test_a_request_without_errors_makes_the_plan_it_always_made(sigma):
    assert asked(Request(RX)) == {}
    assert len(settings_of(Request(RX)).scenarios(None)) == 1
    assert deviation_of(Request(RX), WATER, HEAD, None) is None
    assert settings_of(Request(RX, setup_error=3.0)).aggregate is Aggregate.WORST
    assert settings_of(Request(RX, setup_error=3.0, expected_value=True)).aggregate is Aggregate.EXPECTED
    other = asked(Request(RX, setup_error=3.0, density_uncertainty=sigma))
    assert other["setup_error"] == 3.0
    assert len(str(other["density_uncertainty"])) == 64


def test_what_was_asked_of_errors_is_told_to_the_reader(sigma):
    assert parameters(Request(RX)) == inputs(Request(RX)) == {}
    worst = Request(RX, setup_error=3.0, density_uncertainty=sigma)
    assert parameters(worst) == {
        "set-up error": "3 mm either way along each axis",
        "density error": "1 standard deviation either way",
        "over these errors": "best in the worst case",
    }
    assert inputs(worst) == {
        "density's standard deviation": hashlib.sha256(sigma.read_bytes()).hexdigest(),
    }
    average = parameters(Request(RX, setup_error=3.0, expected_value=True))
    assert average["over these errors"] == "best on average"


def test_a_plan_is_checked_in_every_scenario_and_its_words_name_the_worst(dose, sigma, tmp_path):
    request = Request(RX, setup_error=5.0, ptv_margin=0.0, density_uncertainty=sigma)
    unsure = deviation_of(request, WATER, HEAD, None)
    found = check(planned(), WATER, DRAWN, dose, request, unsure, lambda *_: None)
    assert len(found["scenarios"]) == 9
    assert set(found["v95_percent"]) == {"CTV", "PTV"}
    told = found["v95_percent"]["CTV"]
    # The field's edges lie to the left and right, 2 mm from the CTV.
    assert told["worst_scenario"] in {"5 mm to the left", "5 mm to the right"}
    assert told["worst"] < told["mean"] < told["nominal"]
    write(found, tmp_path)
    assert read(tmp_path) == found
    said = lines({"robustness": found})
    assert said[0] == "Robustness: 9 scenarios"
    assert any("CTV V95%" in line and told["worst_scenario"] in line for line in said)
    assert not any("Caution" in line for line in said)
    assert [row.what for row in rows(found)] == [
        "CTV V95% in the worst of 9 scenarios",
        "PTV V95% in the worst of 9 scenarios",
        "PTV D95% >= 95 %, at worst",
        "PTV D98% >= 95 %, at worst",
        "PTV D2% <= 107 %, at worst",
    ]
    assert {row.met for row in rows(found)[2:]} <= {True, False}
    assert rows({}) == ()


def test_a_margin_beside_the_errors_it_stands_for_is_told(dose):
    found = check(planned(), WATER, DRAWN, dose, Request(RX, setup_error=3.0), None, lambda *_: None)
    assert any("--ptv-margin 0" in line for line in lines({"robustness": found}))


@pytest.mark.parametrize("wrong", [{"setup_error": -1.0}, {"setup_error": 30.0}])
def test_errors_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="set-up error of 0-20 mm"):
        Request(RX, **wrong)


def test_an_expected_value_over_nothing_is_refused():
    with pytest.raises(ValueError, match="to take the expected value over"):
        Request(RX, expected_value=True)


def test_a_missing_file_of_deviations_is_refused(tmp_path):
    with pytest.raises(ValueError, match="NIfTI file of the density's standard deviation"):
        Request(RX, density_uncertainty=tmp_path / "none.nii.gz")


@pytest.mark.parametrize(
    ("sigma", "sentence"),
    [
        (torch.full_like(WATER.data, torch.nan), "NaN or infinite voxels"),
        (-0.03 * WATER.data, "got a negative one"),
    ],
)
def test_a_file_of_deviations_that_cannot_be_is_refused(tmp_path, sigma, sentence):
    path = tmp_path / "sigma.nii.gz"
    write_nifti(Volume(sigma, GRID, Quantity.DENSITY), path)
    with pytest.raises(ValueError, match=sentence):
        deviation_of(Request(RX, density_uncertainty=path), WATER, HEAD, None)


def test_a_plan_is_held_against_what_the_networks_may_be_off_by():
    """From 0 to 100 HU the table of density rises by 0.095."""
    asked_for = Request(RX, robust_ct=True)
    calibration = calibration_of(())
    assert calibration is not None
    whole, place, _ = calibration.parts["soft tissue"]
    deviation = deviation_of(asked_for, WATER, HEAD, replace(HEAD, data=0 * HEAD.data + 10.0, quantity=SD))
    assert deviation is not None
    assert deviation.data.mean().item() == pytest.approx(10 * 0.095 / 100 * (whole + place) ** 0.5, rel=1e-4)
    assert len(settings_of(asked_for).scenarios(deviation)) == 3
    assert parameters(asked_for)["density error"] == "1 standard deviation either way"
    assert len(str(asked(asked_for)["robust_ct"])) == 64
    with pytest.raises(ValueError, match="calibrated deviations for --robust-ct"):
        deviation_of(asked_for, WATER, HEAD, None)


@pytest.mark.parametrize("wrong", [{"networks": False}, {"density_uncertainty": Path(__file__)}])
def test_the_networks_own_errors_are_refused_without_them_or_twice(wrong):
    with pytest.raises(ValueError, match="--robust-ct without --bulk"):
        Request(RX, robust_ct=True, **wrong)
