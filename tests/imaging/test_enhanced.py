"""Enhanced multi-frame images: functional groups shared or per frame, frames in any order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedMRImageStorage,
    RLELossless,
)

from imaging.dicom.series import read_series
from imaging.grid import Grid, close
from imaging.volume import Quantity

SHARED = ("PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence")


def _item(**attributes: object) -> Sequence:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return Sequence([item])


def _groups(grid: Grid, k: int, stack: str = "1") -> dict[str, Sequence]:
    directions = grid.affine[:3, :3] / grid.spacing
    place = (grid.affine @ [0, 0, k, 1])[:3]
    return {
        "PlanePositionSequence": _item(ImagePositionPatient=[f"{x:.9g}" for x in place]),
        "PlaneOrientationSequence": _item(
            ImageOrientationPatient=[f"{x:.12g}" for x in (*directions[:, 0], *directions[:, 1])]
        ),
        "PixelMeasuresSequence": _item(
            PixelSpacing=[str(grid.spacing[1])[:16], str(grid.spacing[0])[:16]], SliceThickness="2.51"
        ),
        "PixelValueTransformationSequence": _item(RescaleSlope="1", RescaleIntercept="0", RescaleType="US"),
        "FrameContentSequence": _item(StackID=stack, InStackPositionNumber=k + 1),
    }


def _enhanced(
    grid: Grid, order: list[int], shared: tuple[str, ...] = SHARED, sop_class: str = EnhancedMRImageStorage
) -> Dataset:
    """An enhanced image whose voxels are numbered from 0 in (i, j, k) order; frame n is slice order[n]."""
    values = np.arange(int(np.prod(grid.shape)), dtype="<u2").reshape(grid.shape)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = "1.2.3", "1.2"
    dataset.FrameOfReferenceUID = "1.2.9"
    dataset.Modality = "CT" if sop_class == EnhancedCTImageStorage else "MR"
    dataset.PatientName, dataset.PatientID = "Müller^Zoë", "ID-4711"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Columns, dataset.Rows, dataset.NumberOfFrames = grid.shape[0], grid.shape[1], len(order)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    frames = []
    for k in order:
        frame = Dataset()
        for keyword, sequence in _groups(grid, k).items():
            if keyword not in shared:
                setattr(frame, keyword, sequence)
        frames.append(frame)
    common = Dataset()
    for keyword in shared:
        setattr(common, keyword, _groups(grid, 0)[keyword])
    dataset.SharedFunctionalGroupsSequence = Sequence([common])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.PixelData = np.stack([values[:, :, k].T for k in order]).tobytes()
    return dataset


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Dataset], Path]:
    def write(dataset: Dataset) -> Path:
        dataset.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
        return tmp_path / "enhanced.dcm"

    return write


def _numbered(grid: Grid) -> torch.Tensor:
    return torch.arange(int(np.prod(grid.shape))).float().reshape(1, *grid.shape)


@pytest.mark.parametrize("shared", [SHARED, ()], ids=["shared groups", "groups per frame"])
@pytest.mark.parametrize("sop_class", [EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage])
def test_frames_go_to_where_they_lie_whatever_their_order(save, oblique, shared, sop_class):
    volume, source = read_series(save(_enhanced(oblique, [3, 0, 5, 1, 4, 2], shared, sop_class)), Quantity.MR)
    assert torch.equal(volume.data, _numbered(oblique))
    assert close(volume.grid, oblique, 1e-5)
    assert source.instance_uids == ("1.2.3.4",) * oblique.shape[2]
    assert source.modality == "MR"
    assert source.frame == volume.frame == "1.2.9"


def test_simpleitk_agrees_where_every_voxel_is(save, oblique):
    path = save(_enhanced(oblique, list(range(oblique.shape[2]))))
    image = sitk.ReadImage(str(path))
    volume, _ = read_series(path)
    assert np.array_equal(sitk.GetArrayFromImage(image), volume.data[0].permute(2, 1, 0).numpy())
    assert image.GetOrigin() == pytest.approx(volume.grid.affine[:3, 3], abs=1e-4)
    assert image.GetSpacing()[:2] == pytest.approx(volume.grid.spacing[:2], abs=1e-4)


def test_each_frame_has_its_own_slope_and_intercept(save, oblique):
    dataset = _enhanced(oblique, list(range(oblique.shape[2])), SHARED[:2])
    for k, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        transformation = frame.PixelValueTransformationSequence[0]
        transformation.RescaleSlope, transformation.RescaleIntercept = str(0.5 * (k + 1)), str(-k)
    k = torch.arange(oblique.shape[2])
    assert torch.equal(read_series(save(dataset))[0].data, _numbered(oblique) * 0.5 * (k + 1) - k)


def test_an_enhanced_ct_is_in_hu(save, oblique):
    dataset = _enhanced(oblique, list(range(oblique.shape[2])), sop_class=EnhancedCTImageStorage)
    transformation = dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
    transformation.RescaleIntercept, transformation.RescaleType = "-1024", "HU"
    volume, _ = read_series(save(dataset), Quantity.HU)
    assert torch.equal(volume.data, _numbered(oblique) - 1024)


def test_compressed_frames_are_read(save, oblique):
    dataset = _enhanced(oblique, [5, 4, 3, 2, 1, 0])
    dataset.compress(RLELossless, generate_instance_uid=False)
    assert torch.equal(read_series(save(dataset))[0].data, _numbered(oblique))


def test_several_echoes_are_refused(save, oblique):
    with pytest.raises(ValueError, match=r"got 12 images at 6 positions; .*echoes"):
        read_series(save(_enhanced(oblique, list(range(6)) * 2)))


def test_several_stacks_are_refused(save, oblique):
    dataset = _enhanced(oblique, list(range(6)))
    dataset.PerFrameFunctionalGroupsSequence[4].FrameContentSequence[0].StackID = "2"
    with pytest.raises(ValueError, match="one stack of slices, got 2"):
        read_series(save(dataset))


def test_a_missing_frame_is_refused(save, oblique):
    with pytest.raises(ValueError, match="1 missing in all"):
        read_series(save(_enhanced(oblique, [0, 1, 2, 4, 5])))


def test_frames_without_groups_are_refused(save, oblique):
    dataset = _enhanced(oblique, list(range(6)))
    del dataset.PerFrameFunctionalGroupsSequence[5]
    with pytest.raises(ValueError, match="functional groups for 6 frames, got 5"):
        read_series(save(dataset))
    del dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence
    with pytest.raises(ValueError, match="multi-frame image without functional groups"):
        read_series(save(dataset))


def test_frames_that_do_not_say_where_they_lie_are_refused(save, oblique):
    dataset = _enhanced(oblique, list(range(6)))
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence
    with pytest.raises(ValueError, match="ImagePositionPatient as 3 finite numbers"):
        read_series(save(dataset))


def test_a_file_with_half_its_frames_is_refused(save, oblique):
    path = save(_enhanced(oblique, list(range(6))))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ValueError, match="truncated"):
        read_series(path)


def test_values_behind_a_look_up_table_are_refused(save, oblique):
    dataset = _enhanced(oblique, list(range(6)))
    dataset.ModalityLUTSequence = _item(ModalityLUTType="US")
    with pytest.raises(ValueError, match="modality look-up table"):
        read_series(save(dataset))


def test_two_enhanced_files_of_one_series_are_refused(save, oblique, tmp_path):
    path = save(_enhanced(oblique, list(range(6))))
    again = pydicom.dcmread(path)
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = "1.2.3.5"
    again.save_as(tmp_path / "again.dcm")
    with pytest.raises(ValueError, match="got 12 images at 6 positions"):
        read_series(tmp_path)
