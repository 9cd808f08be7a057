"""Which scans of a patient's folder are contoured."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread

from app.patient_scans import patient_scans
from imaging.dicom.series import read_series
from imaging.dicom.writer import write_mr
from imaging.grid import axial
from imaging.scan import read_scan
from imaging.source import Source
from imaging.uids import seeded_uid
from imaging.volume import Quantity, Volume

GRADIENT = {"ScanningSequence": "GR", "EchoTime": 3.0, "RepetitionTime": 9.0}
LONG = {"ScanningSequence": "SE", "EchoTime": 100.0, "RepetitionTime": 8000.0}
AGENT = {**GRADIENT, "ContrastBolusAgent": "Gd"}


def series(folder: Path, n: int, number: int, said: dict[str, object], study: str = "a") -> None:
    """A series of n slices whose header says so."""
    grid = axial(np.zeros(3), np.array([16.0, 16.0, 4.0 * n]), (2.0, 2.0, 4.0))
    data = torch.rand(1, *grid.shape, generator=torch.Generator().manual_seed(number))
    frame = seeded_uid("frame")
    source = Source("7", study_uid=seeded_uid(study), frame=frame)
    write_mr(Volume(data, grid, Quantity.MR, frame), source, folder / "new")
    for at, path in enumerate(sorted((folder / "new").iterdir())):
        dataset = dcmread(path)
        dataset.SeriesNumber = number
        dataset.ImageType = ["ORIGINAL", "PRIMARY"]
        for word, value in said.items():
            setattr(dataset, word, value)
        dataset.save_as(folder / f"{number:02d}_{at:03d}.dcm")
        path.unlink()
    (folder / "new").rmdir()


def test_series_of_an_examination_become_contrasts_and_localizers_none(tmp_path: Path) -> None:
    (tmp_path / "flair").mkdir()
    series(tmp_path, 3, 1, GRADIENT)  # a localizer
    series(tmp_path, 12, 2, GRADIENT)
    series(tmp_path, 14, 3, GRADIENT)
    series(tmp_path, 13, 4, AGENT)
    series(tmp_path, 40, 5, {**LONG, "ScanningSequence": "EP"})
    series(tmp_path, 41, 6, {**AGENT, "ImageType": ["DERIVED", "PRIMARY", "SUBTRACTION"]})
    series(tmp_path / "flair", 15, 7, {**LONG, "InversionTime": 2400.0})
    found = patient_scans(tmp_path)
    assert found.contrasts == ("t1c", "t1", "flair")
    assert found.mri[2] == tmp_path / "flair"
    slices = [
        read_series(path, Quantity.MR, n)[0].grid.shape[2]
        for path, n in zip(found.mri, found.series, strict=True)
    ]
    assert slices == [13, 14, 15]
    assert repr(found) == "PatientScans(hidden)"
    series(tmp_path, 14, 8, GRADIENT)
    with pytest.raises(ValueError, match="one series of t1, or one with the most images"):
        patient_scans(tmp_path)


def test_scans_of_two_examinations_or_patients_are_not_mixed(tmp_path: Path) -> None:
    series(tmp_path, 12, 1, GRADIENT)
    series(tmp_path, 12, 2, LONG, study="b")
    with pytest.raises(ValueError, match="one examination in a patient's folder, got several"):
        patient_scans(tmp_path)
    series(tmp_path, 12, 2, {**LONG, "PatientID": "8"}, study="b")
    with pytest.raises(ValueError, match="one patient in a patient's folder, got several"):
        patient_scans(tmp_path)


@pytest.mark.parametrize(
    ("names", "contrasts"),
    [
        (["T2-study-1-t1n", "T2-study-1-t2f", "T2-study-1-seg"], ("t1", "flair")),
        (["t1ce", "t2", "t1c_mask"], ("t1c", "t2")),
        (["anat/sub-7_ce-gd_T1w", "anat/sub-7_FLAIR"], ("t1c", "flair")),
    ],
)
def test_names_of_files_tell_contrasts(names: list[str], contrasts: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "T2-study-1"
    for name in names:
        path = folder / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (folder / "notes.txt").write_text("of T1")
    assert patient_scans(folder).contrasts == contrasts


def test_folders_that_tell_nothing_get_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got none; fill it"):
        patient_scans(tmp_path)
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(ValueError, match="expected MR or CT images"):
        patient_scans(tmp_path)
    (tmp_path / "brain.nii.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="whose names tell t1, t1c, t2 or flair"):
        patient_scans(tmp_path)
    for name in ("a_t1.nii.gz", "b_t1.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match="every contrast once, got t1 twice"):
        patient_scans(tmp_path)
    with pytest.raises(ValueError, match="expected"):
        read_scan(tmp_path / "a_t1.nii.gz", Quantity.MR)
