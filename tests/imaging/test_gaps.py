"""Slices that are thinner than the distance between them."""

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from imaging.dicom.gaps import slice_gap


@pytest.mark.parametrize(("thickness", "gap"), [("1.5", 1.01), ("2.51", 0.0), ("4", 0.0)])
def test_a_gap_is_what_slices_leave_between_them(make_mr, oblique, edit, thickness, gap):
    _, _, folder = make_mr(oblique)  # slices 2.51 mm apart
    edit(folder, lambda _, dataset: setattr(dataset, "SliceThickness", thickness))
    assert slice_gap(folder) == pytest.approx((float(thickness), gap), abs=1e-6)


def test_who_does_not_say_how_thick_slices_are_has_no_gaps(make_mr, oblique, edit):
    _, _, folder = make_mr(oblique)
    edit(folder, lambda _, dataset: setattr(dataset, "SliceThickness", None))
    assert slice_gap(folder) == (0.0, 0.0)


def test_frames_of_one_file_say_it_in_their_groups(make_mr, oblique, tmp_path):
    _, _, folder = make_mr(oblique)
    files = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    one = files[0]
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = one.PixelSpacing, "2"
    orientation.ImageOrientationPatient = one.ImageOrientationPatient
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    frames = []
    for file in files:
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = file.ImagePositionPatient
        frame.PlanePositionSequence = Sequence([position])
        frames.append(frame)
    for word in ("SliceThickness", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(one, word)
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedMRImageStorage
    one.NumberOfFrames = len(files)
    one.SharedFunctionalGroupsSequence = Sequence([shared])
    one.PerFrameFunctionalGroupsSequence = Sequence(frames)
    one.save_as(tmp_path / "enhanced.dcm")
    assert slice_gap(tmp_path / "enhanced.dcm") == pytest.approx((2.0, 0.51), abs=1e-6)
