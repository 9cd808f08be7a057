"""Series that we write, as other programs read and judge them."""

import dataclasses
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from imaging.dicom.series import read_series
from imaging.dicom.writer import write_ct, write_mr
from imaging.grid import Grid, close, corners, indices, positions
from imaging.resample import resample
from imaging.scan import read_scan
from imaging.sitk import from_sitk
from imaging.source import Source
from imaging.volume import Quantity, Volume

_TURNS = {
    "axial": np.diag([1.0, 1.2, 2.5]),
    "sagittal": np.array([[0, 0, -2.5], [1.0, 0, 0], [0, -1.2, 0]]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 2.5], [0, -1.2, 0]]),
}


def _turned(name: str) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = _TURNS[name]
    affine[:3, 3] = [-10.5, 20.25, -30.125]
    return Grid((6, 5, 4), affine)


def test_a_ct_reads_back_with_the_same_hu_and_place(make_ct, oblique):
    ct, source, folder = make_ct(oblique)
    back, read = read_series(folder, Quantity.HU)
    assert torch.equal(back.data, ct.data)
    assert np.abs(corners(back.grid) - corners(ct.grid)).max() < 1e-9
    assert back.frame == ct.frame
    assert read == source


@pytest.mark.parametrize("name", _TURNS)
def test_every_main_plane_keeps_hu_and_place(make_ct, name):
    ct, _, folder = make_ct(_turned(name))
    back, _ = read_series(folder)
    assert torch.equal(back.data, ct.data)
    assert close(back.grid, ct.grid, 1e-9)


@settings(max_examples=15, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    place=st.tuples(*[st.floats(-400, 400)] * 3),
    hand=st.sampled_from([1, -1]),
)
def test_any_orientation_keeps_hu_exactly_and_place_to_a_tenth_of_a_micrometre(angles, spacing, place, hand):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 2] *= hand
    affine[:3, 3] = place
    grid = Grid((4, 3, 5), affine)
    hu = torch.randint(-1024, 31744, (1, 4, 3, 5), generator=torch.Generator().manual_seed(5)).float()
    with TemporaryDirectory() as folder:
        write_ct(Volume(hu, grid, Quantity.HU), Source(), Path(folder) / "ct")
        back, _ = read_series(Path(folder) / "ct")
    inside = np.indices(grid.shape).reshape(3, -1).T.astype(np.float64)
    there = indices(back.grid, positions(grid, inside))
    assert np.abs(there - np.rint(there)).max() * max(spacing) < 1e-4
    i, j, k = np.rint(there).astype(int).T
    assert torch.equal(back.data[0, i, j, k], hu.flatten())


@pytest.mark.data
def test_a_clinical_oblique_scan_keeps_place_and_signal_as_dicom(data, tmp_path):
    mr, _ = read_scan(data / "tumour_mri" / "tcga_fg_6692" / "t2f.nii.gz", Quantity.MR)
    write_mr(mr, Source(), tmp_path / "mr")
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "mr"))
    theirs = from_sitk(sitk.ReadImage(names), Quantity.MR)
    ours, _ = read_scan(tmp_path / "mr", Quantity.MR)
    assert close(ours.grid, theirs.grid, 1e-3)
    assert torch.equal(ours.data, theirs.data.float())
    assert torch.allclose(resample(ours, mr.grid).data, mr.data, atol=0.05)


def test_a_left_handed_volume_reads_back_right_handed_with_every_voxel_in_place(make_ct):
    grid = Grid((5, 4, 3), np.array([[1.0, 0, 0, 5], [0, -1, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]]))
    ct, source, folder = make_ct(grid)
    back, read = read_series(folder)
    assert torch.equal(back.data, ct.data.flip(3))
    assert back.grid.affine @ [0, 0, 2, 1] == pytest.approx(grid.affine @ [0, 0, 0, 1])
    assert read.instance_uids == source.instance_uids[::-1]


def test_simpleitk_reads_the_same_voxels_at_the_same_places(make_ct, oblique):
    ct, _, folder = make_ct(oblique)
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(files)
    assert np.array_equal(sitk.GetArrayFromImage(image), ct.data[0].permute(2, 1, 0).numpy())
    for index in ((0, 0, 0), (6, 8, 5)):
        place = image.TransformIndexToPhysicalPoint(index)
        assert place == pytest.approx((ct.grid.affine @ [*index, 1])[:3], abs=1e-4)


@pytest.mark.tools
def test_plastimatch_reads_the_same_voxels_at_the_same_places(make_ct, oblique, tmp_path, tool):
    ct, _, folder = make_ct(oblique)
    out = tmp_path / "plastimatch.nii"
    subprocess.run(
        [tool("plastimatch"), "convert", "--input", str(folder), "--output-img", str(out)],
        check=True,
        capture_output=True,
    )
    image = nib.load(out)
    lps = image.affine * np.array([[-1], [-1], [1], [1]])
    assert np.abs(lps - ct.grid.affine).max() < 1e-4
    assert np.array_equal(image.get_fdata(), ct.data[0].numpy())


@pytest.mark.tools
def test_dciodvfy_finds_no_error_in_ct_and_mr(make_ct, make_mr, oblique, dciodvfy):
    for folder in (make_ct(oblique)[2], make_mr(oblique)[2]):
        for file in sorted(folder.iterdir()):
            assert dciodvfy(file) == []


@pytest.mark.tools
def test_dciodvfy_finds_no_error_in_a_series_without_a_patient(tmp_path, oblique, dciodvfy):
    ct = Volume(torch.zeros((1, *oblique.shape)), oblique, Quantity.HU)
    source = write_ct(ct, Source(), tmp_path / "ct")
    assert dciodvfy(tmp_path / "ct" / "CT0001.dcm") == []
    assert source.patient_id.startswith("RESEARCH")
    assert source.frame


@pytest.mark.tools
def test_dcmdump_opens_every_file(make_ct, oblique, tool):
    for file in make_ct(oblique)[2].iterdir():
        done = subprocess.run([tool("dcmdump"), str(file)], capture_output=True, text=True, check=True)
        assert "DERIVED\\SECONDARY\\AXIAL" in done.stdout
        assert not done.stderr


def test_a_synthetic_ct_says_what_it_is_and_where_it_comes_from(make_mr, tmp_path, oblique, patient):
    _, mr, _ = make_mr(oblique)
    ct = Volume(torch.zeros((1, *oblique.shape)), oblique, Quantity.HU, patient.frame)
    target = write_ct(ct, mr, tmp_path / "sct", derivation="Tissue classes of a T1")
    dataset = pydicom.dcmread(tmp_path / "sct" / "CT0003.dcm")
    assert list(dataset.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert dataset.SeriesDescription.startswith("RESEARCH ONLY")
    assert "Tissue classes of a T1" in dataset.DerivationDescription
    assert tuple(i.ReferencedSOPInstanceUID for i in dataset.SourceImageSequence) == mr.instance_uids
    assert {i.ReferencedSOPClassUID for i in dataset.SourceImageSequence} == {mr.sop_class}
    assert dataset.FrameOfReferenceUID == patient.frame == target.frame
    assert dataset.StudyInstanceUID == patient.study_uid
    assert str(dataset.PatientName) == patient.patient_name
    assert dataset.PatientPosition == "HFS"
    assert dataset.SeriesInstanceUID == target.series_uid != mr.series_uid
    assert dataset.SOPInstanceUID == target.instance_uids[2]


def test_hu_are_rounded_and_clipped_to_what_the_words_hold(tmp_path):
    grid = _turned("axial")
    hu = torch.zeros((1, *grid.shape))
    hu[0, 0, 0, :] = torch.tensor([-5000.0, 99999.0, 0.4, -0.6])
    write_ct(Volume(hu, grid, Quantity.HU), Source(), tmp_path / "ct")
    assert read_series(tmp_path / "ct")[0].data[0, 0, 0].tolist() == [-1024, 31743, 0, -1]


def test_one_seed_gives_the_same_bytes_and_no_seed_gives_new_identities(make_ct, oblique, tmp_path, patient):
    ct, source, folder = make_ct(oblique)
    again = tmp_path / "again"
    write_ct(ct, patient, again, seed=("ct",), when=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert [f.read_bytes() for f in sorted(again.iterdir())] == [
        f.read_bytes() for f in sorted(folder.iterdir())
    ]
    fresh = write_ct(ct, patient, tmp_path / "fresh")
    assert not set(fresh.instance_uids) & set(source.instance_uids)


def test_instances_are_unique(make_ct, oblique):
    _, source, _ = make_ct(oblique)
    assert len({source.series_uid, *source.instance_uids}) == 1 + oblique.shape[2]


def test_whole_mr_signal_is_kept_and_fractions_are_scaled_by_one_factor(make_mr, oblique, tmp_path):
    mr, _, folder = make_mr(oblique)
    assert torch.equal(read_series(folder, Quantity.MR)[0].data, mr.data)
    half = dataclasses.replace(mr, data=mr.data + 0.5)
    write_mr(half, Source(frame=mr.frame), tmp_path / "half")
    back = read_series(tmp_path / "half")[0].data
    factor = 32767 / float(half.data.max())
    assert float((back - half.data * factor).abs().max()) <= 0.5 + 1e-3


def test_a_folder_that_holds_files_is_left_alone(make_ct, oblique, patient):
    ct, _, folder = make_ct(oblique)
    with pytest.raises(ValueError, match="new or empty folder"):
        write_ct(ct, patient, folder)


def test_a_write_that_fails_leaves_nothing(tmp_path, oblique, patient, monkeypatch):
    calls = []

    def broken(*args: object) -> None:
        calls.append(args)
        if len(calls) > 2:
            raise OSError("no space left on device")

    monkeypatch.setattr("imaging.dicom.writer.save", broken)
    ct = Volume(torch.zeros((1, *oblique.shape)), oblique, Quantity.HU)
    with pytest.raises(OSError, match="no space"):
        write_ct(ct, patient, tmp_path / "ct")
    assert not list(tmp_path.iterdir())


def test_other_quantities_frames_and_values_are_refused(tmp_path, oblique, patient):
    zeros = torch.zeros((1, *oblique.shape))
    cases = {
        "expected a volume in HU": Volume(zeros, oblique, Quantity.MR),
        "frame of reference": Volume(zeros, oblique, Quantity.HU, "1.2.3"),
        "finite values": Volume(zeros / 0, oblique, Quantity.HU),
        "got 2 of": Volume(torch.cat([zeros, zeros]), oblique, Quantity.HU),
    }
    for sentence, volume in cases.items():
        with pytest.raises(ValueError, match=sentence):
            write_ct(volume, patient, tmp_path / "ct")
    with pytest.raises(ValueError, match="expected a volume in MR"):
        write_mr(cases["frame of reference"], patient, tmp_path / "mr")
    assert not list(tmp_path.iterdir())
