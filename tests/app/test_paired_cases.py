"""Pairs found in every layout, and what is refused, on volumes of a few voxels."""

import json
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch

from app.paired_cases import BIDS, CASES, SYNTHRAD, paired_cases, read_pair
from imaging.case import Case
from imaging.folder import write_case
from imaging.nifti import write_nifti
from imaging.phantoms import water_box
from imaging.sitk import to_sitk
from imaging.source import Source
from imaging.volume import Quantity, Volume

CT = water_box(8.0, 2.0)
MR = Volume((CT.data > -500).float() * 100, CT.grid, Quantity.MR)
MASK = Volume((CT.data > -500).byte(), CT.grid, Quantity.LABEL)


def put(volume: Volume, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mha":
        sitk.WriteImage(to_sitk(volume), str(path))
    else:
        write_nifti(volume, path)


def synthrad(folder: Path, end: str = ".nii.gz", mask: bool = True) -> None:
    put(MR, folder / f"mr{end}")
    put(CT, folder / f"ct{end}")
    if mask:
        put(MASK, folder / f"mask{end}")


@pytest.mark.parametrize(
    ("place", "end"), [("Task1/brain/1BA001", ".nii.gz"), ("Train/Task1/HN/1HNA001", ".mha")]
)
def test_both_years_of_synthrad_are_read_alike(tmp_path: Path, place: str, end: str) -> None:
    synthrad(tmp_path / place, end)
    (case,) = paired_cases([tmp_path]).pairs
    assert (case.layout, len(case.mr)) == (SYNTHRAD, 1)
    pair = read_pair(case)
    assert torch.equal(pair.ct.data, CT.data)
    assert torch.equal(pair.mr[0].data, MR.data)
    assert torch.equal(pair.body, MASK.data[0] > 0)


def test_what_is_no_head_or_no_pair_is_counted(tmp_path: Path) -> None:
    for name in ("1BA001", "1PA001", "1PA002", "HN/1HNB007", "TH/1THA001", "AB/1ABA001"):
        synthrad(tmp_path / name)
    put(MR, tmp_path / "1BA002" / "mr.nii.gz")
    put(CT, tmp_path / "2BA003" / "ct.nii.gz")
    found = paired_cases([tmp_path])
    assert [case.name for case in found.pairs] == ["pair 1", "pair 2"]
    assert found.skipped == {"not of a head": 4, "without a CT of its own": 1, "without an MRI": 1}
    (tmp_path / "1BA001" / "mask.nii.gz").unlink()
    assert torch.equal(read_pair(paired_cases([tmp_path]).pairs[0]).body, MASK.data[0] > 0)


def test_bids_gives_contrasts_by_session_and_patients_by_subject(tmp_path: Path) -> None:
    for session in ("sub-01/ses-1", "sub-01/ses-2", "sub-02"):
        for name in ("T1w", "acq-again_T1w", "ce-gd_T1w", "T2w", "bold"):
            put(MR, tmp_path / session / "anat" / f"{session.replace('/', '_')}_{name}.nii.gz")
    put(CT, tmp_path / "sub-01/ses-1/ct/sub-01_ses-1_ct.nii.gz")
    put(CT, tmp_path / "sub-01/ses-2/anat/sub-01_ses-2_ct.nii.gz")
    put(CT, tmp_path / "derivatives/sub-01/ct/sub-01_ct.nii.gz")
    found = paired_cases([tmp_path])
    assert [(case.layout, len(case.mr)) for case in found.pairs] == [(BIDS, 3), (BIDS, 3)]
    assert found.pairs[0].patient == found.pairs[1].patient
    assert found.skipped == {"without a CT of its own": 1}


def test_cases_and_cohorts_of_the_project_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_case(Case({"t1": MR, "flair": MR, "ct": CT}, source=Source("007", "Doe^Jane")), tmp_path / "a")
    for name in ("t1n", "t2w", "ct", "electron_density"):
        put(CT if name == "ct" else MR, tmp_path / "SPD-0" / f"SPD-0-{name}.nii.gz")
    found = paired_cases([tmp_path, tmp_path])  # twice is once
    assert [(case.layout, len(case.mr)) for case in found.pairs] == [(CASES, 2), (CASES, 2)]
    assert torch.equal(read_pair(found.pairs[1]).ct.data, CT.data)
    shown = repr(found.pairs)
    assert "007" not in shown
    assert str(tmp_path) not in shown
    assert found.pairs[1].patient != "007"


def test_untrusted_folders_end_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none"):
        paired_cases([tmp_path / "nowhere"])
    put(MR, tmp_path / "bare" / "1BA001" / "mr.nii.gz")
    with pytest.raises(ValueError, match=r"got none \(1 without a CT of its own\)"):
        paired_cases([tmp_path / "bare"])
    synthrad(tmp_path / "elsewhere")
    (tmp_path / "data" / "1BA001").mkdir(parents=True)
    put(MR, tmp_path / "data" / "1BA001" / "mr.nii.gz")
    (tmp_path / "data" / "1BA001" / "ct.nii.gz").symlink_to(tmp_path / "elsewhere" / "ct.nii.gz")
    with pytest.raises(ValueError, match="link that leads out"):
        paired_cases([tmp_path / "data"])
    for text, match in [
        ('{"volumes": 3}', "damaged"),
        (
            json.dumps(
                {
                    "volumes": {"ct": {"file": "../elsewhere/ct.nii.gz", "quantity": "HU"}},
                    "source": {"patient_id": ""},
                }
            ),
            "leads elsewhere",
        ),
    ]:
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / "own" / "case.json").write_text(text)
        with pytest.raises(ValueError, match=match):
            paired_cases([tmp_path / "own"])
