"""One door, three kinds of scan."""

import pytest
import torch

from imaging.nifti import write_nifti
from imaging.scan import read_scan
from imaging.source import Source
from imaging.volume import Quantity


def test_a_dicom_folder_comes_with_its_source(make_mr, oblique):
    mr, source, folder = make_mr(oblique)
    volume, read = read_scan(folder, Quantity.MR)
    assert torch.equal(volume.data, mr.data)
    assert read == source


def test_a_nifti_file_comes_without_a_source(make_mr, oblique, tmp_path):
    mr, _, _ = make_mr(oblique)
    write_nifti(mr, tmp_path / "mr.nii.gz")
    volume, read = read_scan(tmp_path / "mr.nii.gz", Quantity.MR)
    assert torch.equal(volume.data, mr.data)
    assert read == Source()


def test_a_series_is_chosen_in_a_folder_and_nowhere_else(make_mr, make_ct, oblique, tmp_path):
    mr, _, folder = make_mr(oblique, "both/mr")
    make_ct(oblique, "both/ct")
    with pytest.raises(ValueError, match="one series, got 2"):
        read_scan(folder.parent, Quantity.MR)
    found = []
    for n in (1, 2):
        try:
            found.append(read_scan(folder.parent, Quantity.MR, series=n)[0])
        except ValueError as refusal:
            assert "MR series, got CT" in str(refusal)  # noqa: PT017 - one of the two is the CT
    assert [torch.equal(v.data, mr.data) for v in found] == [True]
    write_nifti(mr, tmp_path / "mr.nii")
    with pytest.raises(ValueError, match="DICOM folder to choose a series from"):
        read_scan(tmp_path / "mr.nii", Quantity.MR, series=1)


def test_a_ct_where_an_mr_is_needed_is_refused(make_ct, oblique):
    with pytest.raises(ValueError, match="MR series, got CT"):
        read_scan(make_ct(oblique)[2], Quantity.MR)


def test_neither_nifti_nor_dicom_is_refused(tmp_path):
    (tmp_path / "scan.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match="none is DICOM"):
        read_scan(tmp_path / "scan.png", Quantity.MR)
    with pytest.raises(ValueError, match="NIfTI file, got a path where there is none"):
        read_scan(tmp_path / "none.nii.gz", Quantity.MR)


def test_printing_a_source_shows_nobody(patient):
    assert "Müller" not in f"{patient} {patient!r}"
    assert "4711" not in f"{patient!r}"
