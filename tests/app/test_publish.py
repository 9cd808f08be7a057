import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app import goal_sheet, independent
from app.optimised import keep_plan
from app.patient import Planned
from app.publish import publish
from app.request import Request
from app.robust import check, deviation_of
from app.steps import Walk
from imaging.case import Case
from imaging.dicom.header import complete
from imaging.grid import axial
from imaging.nifti import write_nifti
from imaging.phantoms import sphere
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.dose.forward import calculate
from planning.machine import load_machine
from planning.plan import Plan, Prescription

RX = Prescription(60.0, 30)
MACHINE = load_machine("generic-6mv")
EDGE = np.array([42.5, 42.5, 42.5])
GRID = axial(-EDGE, EDGE, (5.0, 5.0, 5.0))
SOURCE = complete(Source(), "a phantom")
BALL = sphere(GRID, np.zeros(3), 38.0)
WATER = Volume(BALL[None].float(), GRID, Quantity.DENSITY, SOURCE.frame)


def quiet(title: str, share: float) -> None:
    pass


def planned() -> Planned:
    """A ball of water with three open fields."""
    drawn = StructureSet(
        GRID,
        {
            "Body": Structure(BALL, RoiType.EXTERNAL, (0, 255, 0)),
            "CTV": Structure(sphere(GRID, np.zeros(3), 12.0), RoiType.CTV, (255, 0, 0)),
            "PTV": Structure(sphere(GRID, np.zeros(3), 15.0), RoiType.PTV, (255, 0, 0), 60.0),
        },
        SOURCE.frame,
    )
    n = len(MACHINE.mlc.boundaries) - 1
    leaves = np.stack([np.full(n, -16.0), np.full(n, 16.0)])
    beams = tuple(
        Beam(
            angle,
            0.0,
            0.0,
            np.zeros(3),
            f"{angle:g}",
            80.0,
            tuple(ControlPoint(m, angle, (-16.0, 16.0), (-20.0, 20.0), leaves) for m in (0.0, 1.0)),
        )
        for angle in (0.0, 120.0, 240.0)
    )
    plan = Plan(beams, RX, MACHINE.name)
    scan = Case({"mr": Volume(100 * BALL[None].float(), GRID, Quantity.MR, SOURCE.frame)}, source=SOURCE)
    ct = Volume(torch.where(BALL[None], 0.0, -1000.0), GRID, Quantity.HU, SOURCE.frame)
    return Planned(scan, ct, drawn, plan, calculate(plan, WATER, GRID, MACHINE))


def published(planned: Planned, request: Request, out: Path) -> tuple[dict, str]:
    walk = Walk(out, quiet)
    walk.keys["dose"] = "0" * 64
    publish(walk, planned, request, {"MRI": "a" * 64})
    return json.loads((out / "plan.json").read_text()), (out / "review.html").read_text()


@pytest.fixture(scope="module")
def phantom() -> Planned:
    return planned()


def test_a_plan_that_is_not_robust_says_nothing_of_it(phantom, tmp_path):
    facts, page = published(phantom, Request(RX, seed=1), tmp_path / "out")
    assert facts["robustness"] is None
    assert set(facts["inputs"]) == {"MRI"}
    assert "set-up error" not in facts["parameters"]
    assert "in the worst of" not in page


def test_a_robust_plan_is_told_on_its_page_and_in_its_facts(phantom, tmp_path):
    sigma = tmp_path / "sigma.nii.gz"
    write_nifti(Volume(0.03 * WATER.data, GRID, Quantity.DENSITY), sigma)
    request = Request(RX, seed=1, setup_error=3.0, density_uncertainty=sigma)
    unsure = deviation_of(request, WATER, WATER, None)
    found = check(phantom.plan, WATER, phantom.structures, phantom.dose, request, unsure, quiet)
    facts, page = published(replace(phantom, robustness=found), request, tmp_path / "out")
    assert facts["robustness"] == json.loads(json.dumps(found))
    digest = hashlib.sha256(sigma.read_bytes()).hexdigest()
    assert facts["inputs"]["density's standard deviation"] == digest
    assert facts["parameters"]["set-up error"] == "3 mm either way along each axis"
    assert any("--ptv-margin 0" in caution for caution in facts["cautions"])
    assert '<h2 id="c">Checks</h2>' in page
    assert "CTV V95% in the worst of 9 scenarios" in page
    assert digest in page
    assert "--ptv-margin 0" in page


def test_a_plan_is_held_against_the_planners_own_goals(phantom, tmp_path):
    sheet = tmp_path / "own.toml"
    sheet.write_text('[[goal]]\nstructures = ["CTV", "Lens"]\ngoal = "Dmean >= 30 Gy"\n')
    request = Request(RX, seed=1, goal_sheet=sheet)
    facts, page = published(phantom, request, tmp_path / "out")
    assert [(g["structure"], g["goal"], g["status"]) for g in facts["goals"]] == [
        ("CTV", "Dmean >= 30 Gy", "met"),
        ("Lens", "Dmean >= 30 Gy", "not evaluated"),
    ]
    assert facts["inputs"]["goal sheet"] == hashlib.sha256(sheet.read_bytes()).hexdigest()
    assert facts["parameters"]["goals"] == "a sheet of the planner's own"
    assert "Dmean &gt;= 30 Gy" in page
    assert "D95% &gt;= 95 %" not in page


def test_goals_and_structures_are_told_from_the_same_histograms(phantom, tmp_path):
    sheet = tmp_path / "own.toml"
    sheet.write_text(
        '[[goal]]\nstructures = ["PTV"]\ngoal = "D95% >= 30 Gy"\n'
        '[[goal]]\nstructures = ["PTV"]\ngoal = "Dmean <= 70 Gy"\n'
    )
    facts, _ = published(phantom, Request(RX, seed=1, goal_sheet=sheet), tmp_path / "out")
    ptv, body = facts["structures"]["PTV"], facts["structures"]["Body"]
    assert [goal["value"] for goal in facts["goals"]] == pytest.approx(
        [ptv["d95_gy"], ptv["mean_gy"]], abs=6e-4
    )
    # A ball of 15 mm around the middle of a voxel of 5 mm.
    assert ptv["volume_cc"] == pytest.approx(4 / 3 * np.pi * 1.5**3, rel=0.15)
    covered, isodose = (
        ptv["v100_percent"] / 100 * ptv["volume_cc"],
        body["v100_percent"] / 100 * body["volume_cc"],
    )
    found = facts["indices"]["PTV"]
    assert found["paddick_conformity"] == pytest.approx(covered**2 / (ptv["volume_cc"] * isodose), abs=2e-3)
    assert found["gradient_index"] == pytest.approx(body["v50_percent"] / body["v100_percent"], rel=5e-3)
    assert found["icru_homogeneity"] == pytest.approx(
        (ptv["d2_gy"] - ptv["d98_gy"]) / ptv["d50_gy"], abs=1e-3
    )
    # No organ of the phantom has published parameters.
    assert facts["complications"] == {}


def test_a_plan_made_from_other_goals_is_another_plan_and_keeps_its_sheet(phantom, tmp_path):
    sheet = tmp_path / "own.toml"
    sheet.write_text('[[goal]]\nstructures = ["CTV"]\ngoal = "Dmean >= 30 Gy"\n')
    assert goal_sheet.asked(Request(RX)) == {}
    assert set(goal_sheet.asked(Request(RX, goal_sheet=sheet))) == {"goals"}
    keep_plan(phantom.plan, Request(RX, goal_sheet=sheet), tmp_path)
    assert (tmp_path / "goals.toml").read_bytes() == sheet.read_bytes()


def checked(planned: Planned, scale: float) -> dict[str, object]:
    dose = Volume(scale * planned.dose.data, GRID, Quantity.DOSE, SOURCE.frame)
    return independent.check(planned.plan, WATER, planned.structures, dose, GRID, quiet)


def test_a_plan_that_the_second_engine_confirms_says_so(phantom, tmp_path):
    found = checked(phantom, 1.0)
    independent.write(found, tmp_path)
    assert independent.read(tmp_path) == found
    facts, page = published(replace(phantom, independent=found), Request(RX, seed=1), tmp_path / "out")
    assert facts["independent"] == json.loads(json.dumps(found))
    assert set(found["structures"]) == {"Body", "CTV", "PTV"}
    assert abs(found["structures"]["PTV"]["mean_difference_percent"]) < 2.5
    assert "Mean dose of the PTV, plan \N{MINUS SIGN} second engine" in page
    assert "chosen by this project" in page
    assert "TG-218" in page
    assert not any("second dose engine" in caution for caution in facts["cautions"])


def test_a_plan_that_the_second_engine_contradicts_is_cautioned_against(phantom, tmp_path):
    found = checked(phantom, 1.1)
    assert found["agrees"] is False
    # 80 MU a field give about the prescription: a tenth more is 10 % of it.
    assert found["structures"]["CTV"]["mean_difference_percent"] > 6
    missed = [row for row in independent.rows(found) if row.met is False]
    assert {"CTV" in row.what or "PTV" in row.what or "Gamma" in row.what for row in missed} == {True}
    facts, page = published(replace(phantom, independent=found), Request(RX, seed=1), tmp_path / "out")
    told = [caution for caution in facts["cautions"] if "The second dose engine disagrees" in caution]
    assert len(told) == 1
    assert "find out why" in page


def test_a_plan_without_a_check_says_nothing_of_one():
    assert independent.rows({}) == independent.cautions({}) == ()
    assert independent.lines({}) == []
