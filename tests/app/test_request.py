import json
from dataclasses import replace

import pytest

from app.asked import as_json, request_of
from app.request import Request, Sphere, TargetFile, Technique, parse_target
from planning.contour.barriers import parse_barriers
from planning.plan import Prescription


def test_four_numbers_are_a_sphere():
    target = parse_target("-30,42.5, 24,20")
    assert isinstance(target, Sphere)
    assert target.center.tolist() == [-30.0, 42.5, 24.0]
    assert target.radius == 20.0


def test_an_existing_file_is_a_target_file(tmp_path):
    path = tmp_path / "1,2,3,4.nii"
    path.touch()
    assert parse_target(str(path), "GTV") == TargetFile(path, "GTV")


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1,2,3,x", "nan,1,2,3", "absent.nii.gz"])
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="neither four numbers nor a file"):
        parse_target(text)


@pytest.mark.parametrize("text", ["1,2,3,0", "1,2,3,-5"])
def test_a_sphere_needs_a_radius(text):
    with pytest.raises(ValueError, match="radius above 0 mm"):
        parse_target(text)


@pytest.mark.parametrize("wrong", [{"ctv_margin": -1.0}, {"ptv_margin": 51.0}, {"dose_spacing": 6.0}])
def test_margins_and_grids_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected a"):
        Request(Prescription(60.0, 30), **wrong)


ASKED = Request(
    Prescription(40.05, 15),
    10.0,
    5.0,
    technique=Technique.VMAT,
    arcs=("180:0:cw:0:10",),
    machine="millennium-6mv",
    setup_error=2.0,
    barriers=parse_barriers("bone,falx=2"),
    style="sparing",
    prediction=False,
)


def test_what_was_asked_is_asked_again_from_plain_values():
    assert request_of(json.loads(json.dumps(as_json(ASKED)))) == ASKED


def test_a_request_from_a_file_that_is_not_one_is_refused():
    told = as_json(ASKED)
    with pytest.raises(ValueError, match="tells what was asked for"):
        request_of({name: value for name, value in told.items() if name != "style"})
    with pytest.raises(ValueError, match="margin of 0-50 mm"):
        request_of({**told, "ctv_margin": 99.0})
    with pytest.raises(ValueError, match="without --density-uncertainty"):
        request_of({**told, "density_uncertainty": True})


def test_neither_seed_nor_path_is_among_what_was_asked(tmp_path):
    sheet = tmp_path / "name-of-a-patient.toml"
    sheet.touch()
    told = json.dumps(as_json(replace(ASKED, goal_sheet=sheet, seed=123456)))
    assert "patient" not in told
    assert "123456" not in told
