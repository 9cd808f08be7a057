"""Classic series: other programs' reading, compression, signs, bits, and other makers' habits."""

import subprocess
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from imaging.dicom.series import read_series
from imaging.grid import Grid, close
from imaging.volume import Quantity


def _spread(folder, seed=0):
    """Give the files names, instance numbers and folders that say nothing of their place."""
    files = sorted(folder.iterdir())
    order = np.random.default_rng(seed).permutation(len(files))
    for n, file in zip(order, files, strict=True):
        dataset = pydicom.dcmread(file)
        dataset.InstanceNumber = int(n) + 1
        dataset.SliceLocation = "0"
        file.unlink()
        (folder / f"part{n % 2}").mkdir(exist_ok=True)
        dataset.save_as(folder / f"part{n % 2}" / f"IM{n}")


def test_slices_are_ordered_by_place_and_not_by_number_or_name(make_mr, oblique):
    mr, source, folder = make_mr(oblique)
    _spread(folder)
    back, read = read_series(folder, Quantity.MR)
    assert torch.equal(back.data, mr.data)
    assert read.instance_uids == source.instance_uids


@pytest.mark.data
def test_simpleitk_agrees_on_a_real_layout_of_ct_slices(data):
    volume, source = read_series(data / "dicom_rt" / "conformant", Quantity.HU)
    image = sitk.ReadImage(sorted(map(str, (data / "dicom_rt" / "conformant").glob("CT*.dcm"))))
    assert np.array_equal(sitk.GetArrayFromImage(image), volume.data[0].permute(2, 1, 0).numpy())
    assert np.allclose(volume.grid.affine[:3, 3], image.GetOrigin())
    assert len(source.instance_uids) == 40


def test_files_that_are_no_images_are_passed_over(make_ct, oblique):
    ct, _, folder = make_ct(oblique)
    (folder / "README.txt").write_text("export of 2 March")
    (folder / "empty").write_bytes(b"")
    dose = pydicom.dcmread(folder / "CT0001.dcm")
    dose.SOPClassUID = dose.file_meta.MediaStorageSOPClassUID = pydicom.uid.RTDoseStorage
    dose.Modality = "RTDOSE"
    dose.save_as(folder / "dose.dcm")
    assert torch.equal(read_series(folder)[0].data, ct.data)


@pytest.mark.tools
@pytest.mark.parametrize(
    "command",
    [
        ["dcmcjpeg", "+el"],
        ["dcmcjpeg", "+e1"],
        ["dcmcjpls"],
        ["dcmcrle"],
        ["dcmconv", "+tb"],
        ["dcmconv", "+ti"],
    ],
    ids=["JPEG lossless", "JPEG lossless SV1", "JPEG-LS", "RLE", "big endian", "implicit little endian"],
)
def test_values_survive_every_lossless_coding_of_dcmtk(make_ct, oblique, tool, command):
    ct, _, folder = make_ct(oblique)
    program = tool(command[0])
    for file in sorted(folder.iterdir()):
        coded = file.with_suffix(".coded")
        subprocess.run([program, *command[1:], str(file), str(coded)], check=True, capture_output=True)
        coded.replace(file)
    assert torch.equal(read_series(folder)[0].data, ct.data)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless], ids=lambda s: s.name)
@pytest.mark.parametrize("signed", [0, 1])
def test_values_survive_every_lossless_coding_of_gdcm(make_ct, oblique, edit, syntax, signed):
    ct, _, folder = make_ct(oblique)

    def coded(_, dataset):
        dataset.PixelRepresentation = signed
        if syntax == RLELossless:
            dataset.compress(syntax)
            return
        _gdcm_code(dataset, syntax)

    edit(folder, coded)
    assert pydicom.dcmread(folder / "CT0001.dcm").file_meta.TransferSyntaxUID == syntax
    assert torch.equal(read_series(folder)[0].data, ct.data)


def _gdcm_code(dataset, syntax):
    kind = {
        JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
        JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
    }
    name = f"{dataset.filename}.raw"
    dataset.save_as(name)
    reader = gdcm.ImageReader()
    reader.SetFileName(name)
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(kind[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(name)
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    new = pydicom.dcmread(name)
    dataset.PixelData = new.PixelData
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    Path(name).unlink()


def test_slope_and_intercept_may_differ_from_slice_to_slice(make_mr, oblique, edit):
    mr, _, folder = make_mr(oblique)

    def scaled(k, dataset):
        dataset.RescaleSlope, dataset.RescaleIntercept = str(0.5 * (k + 1)), str(10 * k)

    edit(folder, scaled)
    k = torch.arange(oblique.shape[2])
    assert torch.equal(read_series(folder)[0].data, mr.data * 0.5 * (k + 1) + 10 * k)


def test_bits_above_the_stored_ones_are_no_part_of_the_value(make_mr, oblique, edit):
    _, _, folder = make_mr(oblique)

    def twelve_bits(_, dataset):
        words = np.full((dataset.Rows, dataset.Columns), 0x8FFE, dtype="<u2")
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 1
        dataset.PixelData = words.tobytes()

    edit(folder, twelve_bits)
    assert set(read_series(folder)[0].data.unique().tolist()) == {-2.0}


def test_unsigned_words_reach_beyond_the_signed_ones(make_mr, oblique, edit):
    _, _, folder = make_mr(oblique)

    def unsigned(_, dataset):
        dataset.PixelRepresentation = 0
        dataset.PixelData = np.full((dataset.Rows, dataset.Columns), 65535, dtype="<u2").tobytes()

    edit(folder, unsigned)
    assert set(read_series(folder)[0].data.unique().tolist()) == {65535.0}


def test_padding_outside_the_reconstruction_circle_becomes_air(make_ct, oblique, edit):
    _, _, folder = make_ct(oblique)

    def padded(_, dataset):
        words = np.full((dataset.Rows, dataset.Columns), 1024, dtype="<i2")
        words[0, 0] = -2000
        dataset.add_new("PixelPaddingValue", "SS", -2000)
        dataset.PixelData = words.tobytes()

    edit(folder, padded)
    volume, _ = read_series(folder)
    assert float(volume.data[0, 0, 0, 0]) == -1000
    assert float(volume.data[0, 1, 1, 0]) == 0


def test_padding_that_a_tissue_could_have_is_left_as_it_is(make_ct, oblique, edit):
    _, _, folder = make_ct(oblique)

    def water_as_padding(_, dataset):
        dataset.add_new("PixelPaddingValue", "SS", 1024)
        dataset.PixelData = np.full((dataset.Rows, dataset.Columns), 1024, dtype="<i2").tobytes()

    edit(folder, water_as_padding)
    assert set(read_series(folder)[0].data.unique().tolist()) == {0.0}


def test_spacing_comes_from_positions_and_not_from_slice_thickness(make_mr, oblique, edit):
    mr, _, folder = make_mr(oblique)

    def thin(_, dataset):
        dataset.SliceThickness = "0.7"
        dataset.SpacingBetweenSlices = "9"

    edit(folder, thin)
    assert close(read_series(folder)[0].grid, mr.grid, 1e-9)


def test_headers_rounded_to_four_digits_are_accepted(make_mr, oblique, edit):
    mr, _, folder = make_mr(oblique)

    def rounded(_, dataset):
        dataset.ImagePositionPatient = [f"{x:.3f}" for x in dataset.ImagePositionPatient]
        dataset.ImageOrientationPatient = [f"{x:.5f}" for x in dataset.ImageOrientationPatient]

    edit(folder, rounded)
    assert close(read_series(folder)[0].grid, mr.grid, 5e-3)


def test_a_series_is_chosen_by_its_number(make_mr, make_ct, oblique):
    _, _, folder = make_mr(oblique, "both/mr")
    ct, _, _ = make_ct(Grid(oblique.shape, np.eye(4)), "both/ct")
    chosen = [read_series(folder.parent, series=n)[0] for n in (1, 2)]
    assert {v.quantity for v in chosen} == {Quantity.MR, Quantity.HU}
    assert torch.equal(next(v for v in chosen if v.quantity is Quantity.HU).data, ct.data)


def test_odd_values_in_a_header_raise_no_warning_that_could_quote_them(make_mr, oblique, edit, recwarn):
    _, _, folder = make_mr(oblique)

    def odd(_, dataset):
        dataset.add(pydicom.DataElement(0x00100030, "DA", "MUELLER", validation_mode=0))

    edit(folder, odd)
    read_series(folder)
    assert not recwarn.list
