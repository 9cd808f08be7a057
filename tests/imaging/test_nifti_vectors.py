import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from imaging.nifti_vectors import read_displacement
from imaging.volume import Quantity

# Turned by 90 degrees about z, 2 x 3 x 4 mm voxels, RAS as NIfTI has it.
AFFINE = np.array(
    [[0.0, -3.0, 0.0, 10.0], [2.0, 0.0, 0.0, -20.0], [0.0, 0.0, 4.0, 30.0], [0.0, 0.0, 0.0, 1.0]]
)
VECTORS = np.random.default_rng(1).normal(size=(4, 5, 6, 1, 3)).astype(np.float32)


def written(path, vectors=VECTORS, intent=1007, code=1):
    image = nib.Nifti1Image(vectors, AFFINE)
    image.header["intent_code"] = intent
    image.set_sform(AFFINE, code=code)
    image.set_qform(AFFINE, code=code)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def test_a_field_that_itk_writes_points_where_itk_says(tmp_path):
    image = sitk.GetImageFromArray(np.moveaxis(VECTORS[..., 0, :], 2, 0).transpose(0, 2, 1, 3), isVector=True)
    image.SetSpacing((2.0, 3.0, 4.0))
    image.SetOrigin((7.0, -8.0, 9.0))
    sitk.WriteImage(image, str(tmp_path / "field.nii.gz"))
    found = read_displacement(tmp_path / "field.nii.gz")
    at = (3, 1, 2)
    assert found.data[:, *at].numpy() == pytest.approx(image.GetPixel(at), abs=1e-6)
    there = found.grid.affine @ np.array([*at, 1.0])
    assert there[:3] == pytest.approx(image.TransformIndexToPhysicalPoint(at), abs=1e-4)
    assert found.quantity is Quantity.DISPLACEMENT


def test_ras_vectors_are_turned_and_lps_vectors_are_not(tmp_path):
    lps = read_displacement(written(tmp_path / "lps.nii"))
    ras = read_displacement(written(tmp_path / "ras.nii", intent=1006))
    assert np.array_equal(lps.data.numpy(), np.moveaxis(VECTORS[..., 0, :], -1, 0))
    assert np.array_equal(ras.data.numpy() * np.array([-1, -1, 1])[:, None, None, None], lps.data.numpy())
    assert np.allclose(lps.grid.affine, np.diag([-1, -1, 1, 1]) @ AFFINE)


def test_vectors_along_the_fourth_axis_are_the_same(tmp_path):
    four = read_displacement(written(tmp_path / "four.nii.gz", VECTORS[..., 0, :]))
    assert np.array_equal(four.data.numpy(), read_displacement(written(tmp_path / "five.nii")).data.numpy())


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"intent": 0}, "which way its vectors point"),
        ({"vectors": VECTORS[..., 0, 0]}, "three numbers a voxel"),
        ({"vectors": VECTORS[..., :2]}, "three numbers a voxel"),
        ({"vectors": np.full_like(VECTORS, np.nan)}, "NaN or infinite"),
        ({"code": 0}, "sform or qform"),
    ],
)
def test_fields_that_cannot_be_read_without_guessing_are_refused(tmp_path, how, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_displacement(written(tmp_path / "field.nii", **how))


def test_what_is_no_nifti_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="path where there is none"):
        read_displacement(tmp_path / "none.nii")
    (tmp_path / "text.nii").write_text("a text")
    with pytest.raises(ValueError, match="does not read as NIfTI"):
        read_displacement(tmp_path / "text.nii")
    whole = written(tmp_path / "field.nii").read_bytes()
    (tmp_path / "cut.nii").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_displacement(tmp_path / "cut.nii")
