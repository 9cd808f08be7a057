"""Synthetic CT and contours of real heads, whose labels or anatomy are known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from imaging.agreement import dice
from imaging.grid import around, positions
from imaging.intensity import correct_bias, head_mask
from imaging.nifti import read_nifti
from imaging.register import fit
from imaging.resample import resample
from imaging.shapes import Mask
from imaging.tissue import BONE
from imaging.volume import Quantity, Volume
from mr2ct.bulk import to_ct
from mr2ct.tissue_classes import classify
from planning.contour.prior import contours
from synth.anatomy import anatomy

pytestmark = [pytest.mark.data, pytest.mark.slow]

CLINICAL = ["t1n", "t1c", "t2w", "t2f"]


@pytest.fixture(scope="module")
def prior() -> Volume:
    return anatomy(1.5)


def tissues_of(mr: Volume, prior: Volume) -> Volume:
    head = head_mask(mr)
    mr = correct_bias(mr, head)
    return classify(mr, head, fit(prior, mr, head))


def brain_hull(labels: np.ndarray) -> np.ndarray:
    """Labels 3 to 5 closed by five voxels and filled: bone is scored outside of it."""
    wide = np.pad(np.isin(labels, (3, 4, 5)), 6)
    closed = ndimage.binary_closing(wide, iterations=5)[6:-6, 6:-6, 6:-6]
    return ndimage.binary_fill_holes(closed)


def middle(mask: Mask, volume: Volume) -> np.ndarray:
    return positions(volume.grid, mask.nonzero().double().mean(dim=0).numpy()[None])[0]


def bone(tissues: Volume) -> torch.Tensor:
    return torch.isin(tissues.data[0], torch.tensor([int(t) for t in BONE], dtype=tissues.data.dtype))


def test_colin27_bone_head_and_brain_agree_with_its_labels(data: Path, prior: Volume) -> None:
    mr = read_nifti(data / "head" / "colin27_t1.nii.gz", Quantity.MR)
    truth = read_nifti(data / "head" / "colin27_labels.nii.gz", Quantity.LABEL).data[0]
    tissues = tissues_of(mr, prior)
    hull = torch.from_numpy(brain_hull(truth.numpy()))
    assert dice((truth == 2) & ~hull, bone(tissues) & ~hull) > 0.78
    assert dice(truth > 0, tissues.data[0] > 0) > 0.97
    assert dice(hull, contours(tissues).mask("Brain")) > 0.9
    ct = to_ct(tissues).data[0]
    # Cortical bone of the skull lies above 300 HU, brain between 0 and 100 HU.
    assert float(ct[(truth == 2) & ~hull].median()) > 300
    assert 0 < float(ct[truth == 5].median()) < 60


@pytest.mark.parametrize("contrast", CLINICAL)
def test_thick_clinical_slices_of_any_contrast_show_a_plausible_head(
    data: Path, prior: Volume, contrast: str
) -> None:
    mr = read_nifti(data / "tumour_mri" / "tcga_fg_6692" / f"{contrast}.nii.gz", Quantity.MR)
    mr = resample(mr, around(mr.grid, (1.0, 1.0, 2.0)))
    tissues = tissues_of(mr, prior)
    drawn = contours(tissues)
    brain, body = drawn.mask("Brain"), drawn.mask("Body")
    assert 1000 < int(brain.sum()) * mr.grid.voxel_volume / 1000 < 1800
    assert 0.08 < int(bone(tissues).sum()) / int(body.sum()) < 0.25
    at = middle(brain, mr)
    left, right = middle(drawn.mask("Eye_L"), mr) - at, middle(drawn.mask("Eye_R"), mr) - at
    # The pupils of adults lie 54 to 74 mm apart; the head may be turned in the coil.
    assert 50 < np.linalg.norm(left - right) < 80
    assert left[0] - right[0] > 45
    assert max(left[1], right[1]) < -55
    # No bone deep in the brain, where the tumour is bright: it once drew the scalp inwards.
    depth = ndimage.distance_transform_edt(body.numpy(), sampling=mr.grid.spacing)
    level = round(float(brain.nonzero()[:, 2].double().mean()))
    slab = slice(level + 8, level + 16)  # above the orbits, whose roof lies deep
    deep = bone(tissues)[:, :, slab] & torch.from_numpy(depth > 25)[:, :, slab]
    assert int(deep.sum()) < 0.02 * int(bone(tissues)[:, :, slab].sum())
    stem = middle(drawn.mask("Brainstem"), mr) - at
    assert abs(stem[0]) < 8
    assert stem[2] < -15


@pytest.mark.parametrize("contrast", CLINICAL)
def test_skull_stripped_scans_are_refused(data: Path, contrast: str) -> None:
    mr = read_nifti(data / "tumour_mri" / "brats_met_00110" / f"{contrast}.nii.gz", Quantity.MR)
    with pytest.raises(ValueError, match="expected an MRI of a whole head with skull and skin"):
        head_mask(mr)
