"""``spindose evaluate ct`` on a synthetic patient: files in, figures and a picture out."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from app.cli import app
from app.evaluate_ct import lines
from imaging.case import Case
from imaging.grid import Grid
from imaging.nifti import write_nifti
from imaging.tissue import Tissue
from imaging.tissue_maps import tissue_maps
from imaging.volume import Quantity, Volume
from synth.patient import patient


@pytest.fixture(scope="module")
def made() -> Case:
    return patient(3, 2.0)


@pytest.fixture(scope="module")
def maps(made: Case) -> Volume:
    return tissue_maps(made.volumes["labels"], 4.0, 2.0)


@pytest.fixture(autouse=True)
def registered(made: Case, maps: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registration that has found its place, coarse: the true one takes a minute."""
    monkeypatch.setattr("app.head_ct.anatomy", lambda _mm: made.volumes["labels"])
    still = Volume(torch.zeros(3, *maps.grid.shape), maps.grid, Quantity.DISPLACEMENT)
    monkeypatch.setattr("app.head_ct.align", lambda _prior, _mr, _head: still)
    monkeypatch.setattr("app.head_ct.moved_maps", lambda _prior, _field, _grid: maps)


def run(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["evaluate", "ct", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


def moved(volume: Volume, mm: float) -> Volume:
    affine = volume.grid.affine.copy()
    affine[0, 3] += mm
    return Volume(volume.data, Grid(volume.grid.shape, affine), volume.quantity)


def test_a_ct_that_is_too_dense_has_its_bias_beside_baselines_and_a_picture(
    made: Case, tmp_path: Path
) -> None:
    truth = made.volumes["ct"]
    body = made.volumes["labels"].data != Tissue.OUTSIDE
    dense = Volume(truth.data + 25.0 * body, truth.grid, Quantity.HU)
    files = {name: tmp_path / f"{name}.nii.gz" for name in ("sct", "ct", "t1", "mask")}
    for volume, name in ((dense, "sct"), (truth, "ct"), (made.volumes["t1"], "t1")):
        write_nifti(volume, files[name])
    write_nifti(Volume(body.to(torch.uint8), truth.grid, Quantity.LABEL), files["mask"])
    png = tmp_path / "sct.png"
    words = [files["sct"], "--truth", files["ct"], "--mri", files["t1"], "--mask", files["mask"]]
    code, out, err = run(*words, "--picture", png, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["mae"] == pytest.approx(25, abs=0.01)
    assert told["bias"] == pytest.approx(25, abs=0.01)
    assert told["psnr"] == pytest.approx(20 * np.log10(4024 / 25), abs=0.05)
    assert told["mae"] < min(one["mae"] for one in told["baselines"].values())
    assert told["baselines"]["4 classes of the true CT"]["mae"] < told["baselines"]["all water"]["mae"]
    of_mri = {name: told["baselines"][f"{name} of the MRI"]["mae"] for name in ("3 classes", "4 classes")}
    of_ct = {name: told["baselines"][f"{name} of the true CT"]["mae"] for name in of_mri}
    # Nothing can draw the classes better than the true CT itself; each is better than water.
    assert all(of_ct[name] < of_mri[name] < told["baselines"]["all water"]["mae"] for name in of_mri)
    assert told["baselines"]["atlas"]["mae"] < told["baselines"]["all water"]["mae"]
    assert told["alignment_mm"]["synthetic CT"] < 1.5  # of voxels of 2 mm: both were made of one head
    assert "not a medical device" in told["note"]
    assert Image.open(io.BytesIO(png.read_bytes())).size == (1000, 1000)
    shown = "\n".join(lines(told))
    for said in ("MAE 25.0 HU, bias +25.0 HU", "Bone: Dice", "surfaces", "From the MRI", "Beside atlas: MAE"):
        assert said in shown


def test_a_ct_that_lies_beside_the_mri_is_told(made: Case, tmp_path: Path) -> None:
    truth = moved(made.volumes["ct"], 6.0)
    for volume, name in ((truth, "ct"), (made.volumes["t1"], "t1")):
        write_nifti(volume, tmp_path / f"{name}.nii.gz")
    ct = tmp_path / "ct.nii.gz"
    code, out, err = run(ct, "--truth", ct, "--mri", tmp_path / "t1.nii.gz", "--json")
    assert code == 0, err
    assert json.loads(out)["alignment_mm"]["true CT"] == pytest.approx(6.0, abs=1.0)


def test_what_does_not_go_together_gets_one_sentence(made: Case, tmp_path: Path) -> None:
    truth = made.volumes["ct"]
    for volume, name in ((truth, "ct"), (moved(truth, 60.0), "away")):
        write_nifti(volume, tmp_path / f"{name}.nii.gz")
    empty = Volume(torch.zeros_like(truth.data, dtype=torch.uint8), truth.grid, Quantity.LABEL)
    write_nifti(empty, tmp_path / "empty.nii.gz")
    ct = tmp_path / "ct.nii.gz"
    for words, sentence in (
        (["--truth", tmp_path / "away.nii.gz"], "bodies of Dice"),
        (["--truth", ct, "--mask", tmp_path / "empty.nii.gz"], "mask with voxels inside"),
        (["--truth", ct, "--picture", tmp_path / "sct.jpg"], "end in .png"),
        (["--truth", tmp_path / "none.nii.gz"], "path where there is none"),
    ):
        code, _, err = run(ct, *words)
        assert code == 2, words
        assert sentence in " ".join(err.split()), err
