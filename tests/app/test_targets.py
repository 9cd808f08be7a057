import numpy as np
import pytest
import torch

from app.request import Sphere, TargetFile
from app.targets import gtv_of, target_key
from imaging.case import Case
from imaging.dicom.header import complete
from imaging.dicom.rtstruct import write_rtstruct
from imaging.dicom.writer import write_mr
from imaging.grid import Grid
from imaging.nifti import write_nifti
from imaging.phantoms import sphere
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume

CENTER = np.array([5.0, -3.0, 12.0])
RADIUS = 15.0
VOLUME = 4 / 3 * np.pi * RADIUS**3


def grid(spacing: float) -> Grid:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -40.0 + 0.3 * spacing  # no centre of one grid halfway between two of the other
    n = round(80 / spacing) + 1
    return Grid((n, n, n), affine)


SCAN = Case({"mr": Volume(torch.ones(1, *grid(2.0).shape), grid(2.0), Quantity.MR)})


def assert_is_the_ball(mask: torch.Tensor, on: Grid) -> None:
    assert float(mask.sum()) * on.voxel_volume == pytest.approx(VOLUME, rel=0.05)
    middle = mask.nonzero().double().mean(dim=0).numpy() * on.spacing + on.affine[:3, 3]
    assert np.abs(middle - CENTER).max() < 0.5


def test_a_sphere_has_its_volume_and_place():
    assert_is_the_ball(gtv_of(Sphere(CENTER, RADIUS), SCAN)(grid(1.0)), grid(1.0))


def test_a_nifti_mask_is_taken_to_any_grid(tmp_path):
    drawn = Volume(sphere(grid(2.0), CENTER, RADIUS)[None].byte(), grid(2.0), Quantity.LABEL)
    write_nifti(drawn, tmp_path / "gtv.nii.gz")
    assert_is_the_ball(gtv_of(TargetFile(tmp_path / "gtv.nii.gz"), SCAN)(grid(1.0)), grid(1.0))


def test_an_empty_mask_is_refused(tmp_path):
    nothing = Volume(torch.zeros(1, *grid(2.0).shape, dtype=torch.uint8), grid(2.0), Quantity.LABEL)
    write_nifti(nothing, tmp_path / "gtv.nii.gz")
    with pytest.raises(ValueError, match="got an empty one"):
        gtv_of(TargetFile(tmp_path / "gtv.nii.gz"), SCAN)


def structure_set(tmp_path, names: dict[str, RoiType]) -> Case:
    """A scan with an RTSTRUCT beside it that holds the ball under each name."""
    asked = complete(Source(patient_id="1"), "test")
    mr = Volume(torch.ones(1, *grid(2.0).shape), grid(2.0), Quantity.MR, asked.frame)
    source = write_mr(mr, asked, tmp_path / "mr", seed=("test",))
    ball = sphere(grid(2.0), CENTER, RADIUS)
    structures = {name: Structure(ball, kind, (255, 0, 0)) for name, kind in names.items()}
    write_rtstruct(StructureSet(grid(2.0), structures, asked.frame), source, grid(2.0), tmp_path / "rs.dcm")
    return Case({"mr": mr}, source=source)


def test_the_only_gtv_of_a_structure_set_is_the_target(tmp_path):
    scan = structure_set(tmp_path, {"lesion": RoiType.GTV, "brain": RoiType.ORGAN})
    assert_is_the_ball(gtv_of(TargetFile(tmp_path / "rs.dcm"), scan)(grid(1.0)), grid(1.0))


def test_one_roi_can_be_named(tmp_path):
    scan = structure_set(tmp_path, {"a": RoiType.GTV, "b": RoiType.GTV})
    assert_is_the_ball(gtv_of(TargetFile(tmp_path / "rs.dcm", "b"), scan)(grid(1.0)), grid(1.0))


def test_two_gtvs_are_not_guessed_between(tmp_path):
    scan = structure_set(tmp_path, {"a": RoiType.GTV, "b": RoiType.GTV})
    with pytest.raises(ValueError, match="name the target with --roi"):
        gtv_of(TargetFile(tmp_path / "rs.dcm"), scan)


def test_the_key_changes_with_the_target(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    keys = [
        target_key(Sphere(CENTER, 15.0)),
        target_key(Sphere(CENTER, 16.0)),
        target_key(TargetFile(tmp_path / "a")),
        target_key(TargetFile(tmp_path / "a", "GTV")),
    ]
    (tmp_path / "a").write_bytes(b"2")
    keys.append(target_key(TargetFile(tmp_path / "a")))
    assert len(set(keys)) == 5
