"""NIfTI headers whose two forms agree, lead to two spaces, or contradict each other."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from imaging.nifti_forms import expect_one_place


def placed(path: Path, qform: np.ndarray, sform: np.ndarray, codes: tuple[int, int]) -> Path:
    image = nib.Nifti1Image(np.zeros((10, 12, 14), np.float32), None)
    image.set_qform(qform, code=codes[0])
    image.set_sform(sform, code=codes[1])
    nib.save(image, path)
    return path


def affine(angle: float = 0.0, shift: float = 0.0, flip: float = 1.0) -> np.ndarray:
    found = np.eye(4)
    found[:3, :3] = Rotation.from_euler("z", angle, degrees=True).as_matrix() * [flip * 2.0, 2.0, 2.0]
    found[0, 3] = shift
    return found


def test_forms_that_agree_or_lead_to_two_spaces_pass(tmp_path):
    expect_one_place(placed(tmp_path / "a.nii", affine(20.0), affine(20.0), (1, 1)))
    expect_one_place(placed(tmp_path / "b.nii", affine(), affine(shift=0.5), (1, 1)))
    expect_one_place(placed(tmp_path / "c.nii", affine(), affine(30.0, 40.0), (1, 4)))  # to MNI space
    expect_one_place(placed(tmp_path / "d.nii", affine(), affine(shift=50.0), (0, 1)))


def test_two_places_in_one_space_are_refused(tmp_path):
    file = placed(tmp_path / "a.nii", affine(), affine(shift=7.0), (1, 1))
    with pytest.raises(ValueError, match="in one place, got 7 mm between them"):
        expect_one_place(file)


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (1, 4)])
def test_forms_that_mirror_each_other_are_refused(tmp_path, codes):
    file = placed(tmp_path / "a.nii", affine(), affine(shift=18.0, flip=-1.0), codes)
    with pytest.raises(ValueError, match="agree on left and right"):
        expect_one_place(file)


def test_what_does_not_read_is_left_to_the_reader(tmp_path):
    (tmp_path / "a.nii").write_text("letter")
    expect_one_place(tmp_path / "a.nii")
    expect_one_place(tmp_path / "none.nii")
