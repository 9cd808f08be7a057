import pytest

from app.request import Request, Sphere, TargetFile, parse_target
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
