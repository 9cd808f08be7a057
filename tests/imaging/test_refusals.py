"""What could put a voxel in the wrong place is refused, in one sentence that names nobody."""

import re

import numpy as np
import pydicom
import pytest
import torch

from imaging.dicom.series import read_series
from imaging.volume import Quantity

SECRETS = re.compile(r"4711|ller|Zo|A55|House|1\.2\.826|2\.25\.|CT0|MR0|tmp")


def _refused(path, sentence, quantity=None, **kwargs):
    with pytest.raises(ValueError, match=sentence) as refusal:
        read_series(path, quantity, **kwargs)
    said = str(refusal.value)
    assert said.startswith("expected ")
    assert "\n" not in said
    assert not SECRETS.search(said), said
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def _file(folder, k):
    return sorted(folder.iterdir())[k]


def _change_one(folder, k, **attributes):
    file = _file(folder, k)
    dataset = pydicom.dcmread(file)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(file)


def test_a_missing_slice(make_mr, oblique):
    _, _, folder = make_mr(oblique)
    _file(folder, 2).unlink()
    _refused(folder, r"slices 2\.51 mm apart, got a gap of 5\.02 mm after slice 2 of 5: 1 missing")


def test_several_missing_slices(make_mr, oblique):
    _, _, folder = make_mr(oblique)
    _file(folder, 2).unlink()
    _file(folder, 3).unlink()
    _refused(folder, "2 missing")


def test_a_slice_that_is_there_twice(make_mr, oblique):
    _, _, folder = make_mr(oblique)
    (folder / "copy.dcm").write_bytes(_file(folder, 2).read_bytes())
    _refused(folder, "one image per slice position, got 7 images at 6 positions")


def test_uneven_spacing(make_mr, oblique):
    mr, _, folder = make_mr(oblique)
    step = mr.grid.affine[:3, 2]
    moved = mr.grid.affine[:3, 3] + 3.2 * step
    _change_one(folder, 3, ImagePositionPatient=[f"{x:.6f}" for x in moved])
    _refused(folder, r"evenly spaced slices, got gaps of 2\.008 to 3\.012 mm")


def test_a_slice_shifted_in_its_plane(make_mr, oblique):
    mr, _, folder = make_mr(oblique)
    moved = mr.grid.affine[:3, 3] + 3 * mr.grid.affine[:3, 2] + mr.grid.affine[:3, 0]
    _change_one(folder, 3, ImagePositionPatient=[f"{x:.6f}" for x in moved])
    _refused(folder, "shifted against each other")


def test_a_tilted_gantry(make_ct, oblique, edit):
    _, _, folder = make_ct(oblique)
    along = oblique.affine[:3, 1] / oblique.spacing[1]

    def tilt(k, dataset):
        shift = np.tan(np.radians(5)) * 2.51 * k * along
        moved = np.array(dataset.ImagePositionPatient, dtype=float) + shift
        dataset.ImagePositionPatient = [f"{x:.6f}" for x in moved]

    edit(folder, tilt)
    _refused(folder, r"sheared by 5\.00 degrees \(gantry tilt\)")


def test_two_series(make_mr, oblique):
    _, _, folder = make_mr(oblique, "both/a")
    make_mr(oblique, "both/b")
    _refused(folder.parent, r"one series, got 2 \(1: MR of 6 images, 2: MR of 6 images\); choose one")
    _refused(folder.parent, "a series from 1 to 2, got 3", series=3)


def test_two_orientations(make_mr, oblique):
    _, _, folder = make_mr(oblique)
    _change_one(folder, 0, ImageOrientationPatient=["1", "0", "0", "0", "1", "0"])
    _refused(folder, "one orientation, got several")


def test_an_orientation_that_is_none(make_mr, oblique):
    _, _, folder = make_mr(oblique)
    _change_one(folder, 0, ImageOrientationPatient=["1", "0", "0", "1", "0", "0"])
    _refused(folder, "unit vectors at right angles")


def test_two_pixel_spacings(make_mr, oblique):
    _, _, folder = make_mr(oblique)
    _change_one(folder, 0, PixelSpacing=["2", "2"])
    _refused(folder, "one pixel spacing in all slices")


def test_two_image_sizes(make_mr, oblique):
    _, _, folder = make_mr(oblique)
    _change_one(folder, 4, Rows=7, Columns=9)
    _refused(folder, "images of one size, got rows x columns of 7 x 9, 9 x 7")


def test_two_frames_of_reference(make_mr, oblique):
    _, _, folder = make_mr(oblique)
    _change_one(folder, 4, FrameOfReferenceUID="1.2.826.0.1.3680043.8.498.79")
    _refused(folder, "one frame of reference in the whole series, got 2")


def test_two_patients(make_mr, oblique):
    _, _, folder = make_mr(oblique)
    _change_one(folder, 4, PatientID="ID-4712")
    _refused(folder, "one patient in the whole series, got 2")


def test_images_of_two_modalities_in_one_series(make_mr, oblique):
    _, _, folder = make_mr(oblique)
    _change_one(folder, 4, Modality="CT")
    _refused(folder, "one modality, got CT, MR")


def test_missing_pixel_data(make_mr, oblique):
    _, _, folder = make_mr(oblique)
    file = _file(folder, 2)
    dataset = pydicom.dcmread(file)
    del dataset.PixelData
    dataset.save_as(file)
    _refused(folder, "pixel data in every image")


@pytest.mark.parametrize("left", [0.2, 0.5, 0.95, 0.999])
def test_a_truncated_file(make_mr, oblique, left):
    _, _, folder = make_mr(oblique)
    file = _file(folder, 5)
    content = file.read_bytes()
    file.write_bytes(content[: int(left * len(content))])
    _refused(folder, "truncated|in every image")


@pytest.mark.parametrize("left", range(140, 1700, 41))
def test_a_header_cut_anywhere(make_mr, oblique, left):
    _, _, folder = make_mr(oblique)
    file = _file(folder, 5)
    file.write_bytes(file.read_bytes()[:left])
    _refused(folder, "truncated or damaged|in every image")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(make_mr, oblique, bad):
    _, _, folder = make_mr(oblique)
    file = _file(folder, 1)
    dataset = pydicom.dcmread(file)
    del dataset.PixelData
    values = np.zeros((dataset.Rows, dataset.Columns), dtype="<f4")
    values[1, 1] = bad
    dataset.FloatPixelData = values.tobytes()
    dataset.BitsAllocated = 32
    for keyword in ("BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, keyword)
    dataset.save_as(file)
    _refused(folder, "finite values, got 1 NaN")


def test_a_slope_that_is_not_a_number(make_mr, oblique):
    _, _, folder = make_mr(oblique)
    _change_one(folder, 1, RescaleSlope="1", RescaleIntercept="0")
    file = _file(folder, 1)
    file.write_bytes(file.read_bytes().replace(b"DS\x02\x001 ", b"DS\x02\x00x "))
    _refused(folder, "RescaleSlope as 1 finite number in every image")


def test_a_ct_where_an_mr_is_needed_and_the_reverse(make_mr, make_ct, oblique):
    _refused(make_ct(oblique)[2], "MR series, got CT", Quantity.MR)
    _refused(make_mr(oblique)[2], "CT series, got MR", Quantity.HU)


def test_a_ct_whose_numbers_are_not_hu(make_ct, oblique, edit):
    _, _, folder = make_ct(oblique)
    edit(folder, lambda _, d: setattr(d, "RescaleType", "US"))
    _refused(folder, "a CT in HU, got rescale type US")


def test_a_ct_that_does_not_say_how_its_numbers_become_hu(make_ct, oblique, edit):
    _, _, folder = make_ct(oblique)

    def forget(_, dataset):
        del dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType

    edit(folder, forget)
    _refused(folder, "rescale slope and intercept, got none")


def test_colour_images(make_mr, oblique, edit):
    _, _, folder = make_mr(oblique)

    def colour(_, dataset):
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        dataset.PixelData = bytes(dataset.Rows * dataset.Columns * 3 + dataset.Rows * dataset.Columns * 3 % 2)

    edit(folder, colour)
    _refused(folder, "grey images .*, got RGB with 3")


def test_inverted_images(make_mr, oblique, edit):
    _, _, folder = make_mr(oblique)
    edit(folder, lambda _, d: setattr(d, "PhotometricInterpretation", "MONOCHROME1"))
    _refused(folder, "got MONOCHROME1")


def test_one_slice_alone(make_mr, oblique):
    _, _, folder = make_mr(oblique)
    _refused(_file(folder, 0), "at least 2 slices, got 1")


def test_an_image_that_does_not_say_where_it_lies(make_mr, oblique):
    _, _, folder = make_mr(oblique)
    _change_one(folder, 0, ImagePositionPatient=None)
    _refused(folder, "ImagePositionPatient as 3 finite numbers")


def test_what_is_not_dicom(tmp_path):
    (tmp_path / "Müller^Zoë.txt").write_text("letter")
    _refused(tmp_path, "MR or CT images, got 1 file of which none is one; none is DICOM")
    _refused(tmp_path / "Müller^Zoë.txt", "none is DICOM")


def test_an_empty_folder_and_a_missing_one(tmp_path):
    _refused(tmp_path, "got an empty folder")
    _refused(tmp_path / "ID-4711", "where there is none")


def test_other_dicom_objects_alone(make_mr, oblique, edit):
    _, _, folder = make_mr(oblique)

    def dose(_, dataset):
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.RTDoseStorage

    edit(folder, dose)
    _refused(folder, r"got 6 files of which none is one \(RT Dose Storage\)")


def test_flipped_bytes_end_in_a_volume_or_in_one_sentence_that_names_nobody(make_ct, oblique):
    _, _, folder = make_ct(oblique)
    file = _file(folder, 3)
    whole = file.read_bytes()
    chance = np.random.default_rng(7)
    said = []
    for _ in range(120):
        spoiled = bytearray(whole)
        for place in chance.integers(132, len(whole), size=chance.integers(1, 6)):
            spoiled[place] = chance.integers(256)
        file.write_bytes(bytes(spoiled))
        try:
            read_series(folder, Quantity.HU)
        except ValueError as refusal:
            said.append(str(refusal))
    assert 20 < len(said) < 110
    assert all(sentence.startswith("expected ") for sentence in said)
    assert not any(SECRETS.search(sentence) for sentence in said)


def test_a_cut_file_that_is_no_image_is_passed_over(make_ct, oblique):
    ct, _, folder = make_ct(oblique)
    plan = pydicom.dcmread(_file(folder, 0))
    plan.SOPClassUID = plan.file_meta.MediaStorageSOPClassUID = pydicom.uid.RTPlanStorage
    plan.save_as(folder / "plan.dcm")
    content = (folder / "plan.dcm").read_bytes()
    (folder / "plan.dcm").write_bytes(content[: len(content) // 2])
    assert torch.equal(read_series(folder, Quantity.HU)[0].data, ct.data)
