"""NIfTI files against nibabel's own reading, and every refusal."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from imaging.grid import Grid, positions
from imaging.nifti import read_nifti, write_nifti
from imaging.volume import Quantity, Volume


def _oblique(angles: tuple[float, float, float] = (10, -20, 35)) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * [0.9, 1.1, 2.5]
    affine[:3, 3] = [-31.1, 12.53, 77.27]
    # NIfTI keeps its affine in single precision.
    return Grid((4, 5, 6), affine.astype(np.float32).astype(np.float64))


def _volume(grid: Grid, dtype: torch.dtype = torch.float32, quantity: Quantity = Quantity.MR) -> Volume:
    values = torch.arange(int(np.prod(grid.shape))).reshape(1, *grid.shape)
    return Volume(values.to(dtype), grid, quantity)


def _save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine), path)
    return path


_ANGLE = st.floats(-180, 180)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(angles=st.tuples(_ANGLE, _ANGLE, _ANGLE))
def test_the_affine_survives_to_the_bit(tmp_path, angles):
    volume = _volume(_oblique(angles))
    write_nifti(volume, tmp_path / "v.nii")
    back = read_nifti(tmp_path / "v.nii", Quantity.MR)
    assert back.grid == volume.grid
    assert torch.equal(back.data, volume.data)


def test_reading_turns_ras_into_lps_by_changing_two_signs(tmp_path):
    affine = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
    volume = read_nifti(_save(tmp_path / "v.nii", np.zeros((3, 4, 5), np.float32), affine), Quantity.MR)
    expected = [[2.0, 0, 0, -90], [0, -2, 0, 126], [0, 0, 2, -72], [0, 0, 0, 1]]
    assert np.array_equal(volume.grid.affine, expected)


def test_nibabel_finds_every_value_at_the_mirrored_position(tmp_path):
    volume = _volume(_oblique())
    write_nifti(volume, tmp_path / "v.nii.gz")
    image = nib.load(tmp_path / "v.nii.gz")
    assert image.header.get_xyzt_units()[0] == "mm"
    index = np.array([[3, 1, 4]], dtype=np.float64)
    ras = nib.affines.apply_affine(image.affine, index)[0]
    assert ras * [-1, -1, 1] == pytest.approx(positions(volume.grid, index)[0], abs=1e-5)
    assert image.get_fdata()[3, 1, 4] == volume.data[0, 3, 1, 4]


@pytest.mark.parametrize("hand", [1.0, -1.0])
def test_qform_and_sform_agree_for_either_hand(tmp_path, hand):
    grid = _oblique()
    affine = grid.affine.copy()
    affine[:3, 0] *= hand
    write_nifti(_volume(Grid(grid.shape, affine)), tmp_path / "v.nii")
    header = nib.load(tmp_path / "v.nii").header
    assert header.get_qform() == pytest.approx(header.get_sform(), abs=2e-5)


def test_the_qform_places_a_file_without_sform(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.float32), None)
    image.set_qform(np.diag([-1.0, 1.0, 2.0, 1.0]), code=1)
    image.set_sform(None, code=0)
    nib.save(image, tmp_path / "v.nii")
    assert read_nifti(tmp_path / "v.nii", Quantity.MR).grid.affine[0, 0] == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_labels_keep_their_type(tmp_path, dtype):
    volume = _volume(_oblique(), dtype, Quantity.LABEL)
    write_nifti(volume, tmp_path / "v.nii.gz")
    back = read_nifti(tmp_path / "v.nii.gz", Quantity.LABEL)
    assert back.data.dtype == dtype
    assert torch.equal(back.data, volume.data)


def test_whole_labels_stored_as_fractions_become_integers(tmp_path):
    path = _save(tmp_path / "v.nii", np.arange(24, dtype=np.float64).reshape(2, 3, 4))
    assert read_nifti(path, Quantity.LABEL).data.dtype == torch.int32


def test_unsigned_and_big_endian_labels_keep_their_values(tmp_path):
    array = np.array([0, 40000, 65535, 1], dtype=">u2").reshape(1, 2, 2)
    nib.save(nib.Nifti1Image(array, np.eye(4), nib.Nifti1Header(endianness=">")), tmp_path / "v.nii")
    assert read_nifti(tmp_path / "v.nii", Quantity.LABEL).data.flatten().tolist() == [0, 40000, 65535, 1]


def test_the_headers_scaling_is_applied(tmp_path):
    image = nib.Nifti1Image(np.full((2, 2, 2), 100, np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, -1024)
    nib.save(image, tmp_path / "v.nii")
    volume = read_nifti(tmp_path / "v.nii", Quantity.HU)
    assert (volume.data == 100 * 0.5 - 1024).all()
    assert volume.data.dtype == torch.float32


def test_a_fourth_axis_of_one_is_accepted(tmp_path):
    volume = read_nifti(_save(tmp_path / "v.nii", np.zeros((2, 3, 4, 1), np.float32)), Quantity.MR)
    assert volume.grid.shape == (2, 3, 4)


def test_equal_volumes_give_equal_bytes_under_any_name(tmp_path):
    write_nifti(_volume(_oblique()), tmp_path / "a.nii.gz")
    write_nifti(_volume(_oblique()), tmp_path / "b.nii.gz")
    first = (tmp_path / "a.nii.gz").read_bytes()
    assert first == (tmp_path / "b.nii.gz").read_bytes()
    assert first[4:8] == bytes(4)  # gzip's time of modification (RFC 1952)


def test_masks_and_doubles_are_written_as_bytes_and_floats(tmp_path):
    grid = _oblique()
    mask = torch.ones((1, *grid.shape), dtype=torch.bool)
    write_nifti(Volume(mask, grid, Quantity.LABEL), tmp_path / "m.nii")
    write_nifti(_volume(grid, torch.float64), tmp_path / "d.nii")
    assert nib.load(tmp_path / "m.nii").get_data_dtype() == np.uint8
    assert nib.load(tmp_path / "d.nii").get_data_dtype() == np.float32


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_nifti(_volume(_oblique()), tmp_path / "v.nii.gz")
    before = (tmp_path / "v.nii.gz").read_bytes()

    def broken(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(gzip.GzipFile, "write", broken)
    with pytest.raises(OSError, match="no space"):
        write_nifti(_volume(_oblique()), tmp_path / "v.nii.gz")
    assert [p.name for p in tmp_path.iterdir()] == ["v.nii.gz"]
    assert (tmp_path / "v.nii.gz").read_bytes() == before


def test_several_volumes_are_refused(tmp_path):
    path = _save(tmp_path / "v.nii", np.zeros((2, 3, 4, 5), np.float32))
    with pytest.raises(ValueError, match=r"one volume of 3 dimensions, got 4 dimensions \(2 x 3 x 4 x 5\)"):
        read_nifti(path, Quantity.MR)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, bad):
    array = np.zeros((2, 3, 4), np.float32)
    array[1, 1, 1] = bad
    with pytest.raises(ValueError, match="finite values, got 1"):
        read_nifti(_save(tmp_path / "v.nii", array), Quantity.MR)


def test_values_beyond_single_precision_are_refused(tmp_path):
    with pytest.raises(ValueError, match="finite values, got 24"):
        read_nifti(_save(tmp_path / "v.nii", np.full((2, 3, 4), 1e300)), Quantity.MR)


def test_a_sheared_affine_is_refused(tmp_path):
    affine = np.eye(4)
    affine[1, 2] = 0.05
    with pytest.raises(ValueError, match="sheared"):
        read_nifti(_save(tmp_path / "v.nii", np.zeros((2, 3, 4), np.float32), affine), Quantity.MR)


def test_a_file_that_does_not_say_where_it_lies_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4), np.float32), None), tmp_path / "v.nii")
    with pytest.raises(ValueError, match="sform or qform"):
        read_nifti(tmp_path / "v.nii", Quantity.MR)


def test_a_file_in_metres_is_refused(tmp_path):
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.float32), np.eye(4))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "v.nii")
    with pytest.raises(ValueError, match="in mm, got meter"):
        read_nifti(tmp_path / "v.nii", Quantity.MR)


def test_labels_with_fractions_are_refused(tmp_path):
    path = _save(tmp_path / "v.nii", np.full((2, 3, 4), 0.5, np.float32))
    with pytest.raises(ValueError, match="labels as whole numbers"):
        read_nifti(path, Quantity.LABEL)


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_truncated_files_are_refused(tmp_path, name):
    path = tmp_path / name
    noise = torch.rand((1, 20, 20, 20), generator=torch.Generator().manual_seed(0))
    write_nifti(Volume(noise, Grid((20, 20, 20), np.eye(4)), Quantity.MR), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_nifti(path, Quantity.MR)


@pytest.mark.parametrize("content", [b"", b"not an image", bytes(400)])
def test_what_is_not_nifti_is_refused_without_its_name(tmp_path, content):
    path = tmp_path / "SMITH_JOHN.nii"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="does not read as NIfTI") as refusal:
        read_nifti(path, Quantity.MR)
    assert "SMITH" not in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a NIfTI file"):
        read_nifti(tmp_path / "none.nii", Quantity.MR)


def test_other_formats_colours_and_flat_images_are_refused(tmp_path):
    nib.save(nib.MGHImage(np.zeros((2, 3, 4), np.float32), np.eye(4)), tmp_path / "v.mgz")
    with pytest.raises(ValueError, match="got MGHImage"):
        read_nifti(tmp_path / "v.mgz", Quantity.MR)
    rgb = np.zeros((2, 3, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(ValueError, match="one number per voxel"):
        read_nifti(_save(tmp_path / "c.nii", rgb), Quantity.MR)
    with pytest.raises(ValueError, match="3 dimensions, got 2"):
        read_nifti(_save(tmp_path / "f.nii", np.zeros((2, 3), np.float32)), Quantity.MR)


def test_channels_and_foreign_endings_are_refused_when_writing(tmp_path):
    grid = _oblique()
    with pytest.raises(ValueError, match="one channel, got 2"):
        write_nifti(Volume(torch.zeros((2, *grid.shape)), grid, Quantity.MR), tmp_path / "v.nii")
    with pytest.raises(ValueError, match="ends in"):
        write_nifti(_volume(grid), tmp_path / "v.img")
    assert not list(tmp_path.iterdir())
