"""Real pairs in the training of the network of CT numbers: which may teach, and the command end to end."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from app import paired_material
from app import train_mr2ct as training
from app.cli_train import train_app
from app.paired_cases import paired_cases
from app.paired_material import prepare_pairs
from app.train_mr2ct import WEIGHTS, Mr2ctRun
from app.training_heads import Heads
from imaging.grid import Grid, positions
from imaging.nifti import write_nifti
from imaging.phantoms import water_box
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from imaging.warp import warp
from models.fit import Fit
from models.unet import UNetConfig
from models.weights import read_card
from mr2ct.regression import N_OUTPUTS, RegressionNet
from synth.anatomy import anatomy
from synth.randomisation import ANY, Randomisation

NET = UNetConfig(inputs=2, outputs=N_OUTPUTS, features=(4, 4, 4, 4, 4, 4))
VOXEL = 4.0
NECK = 18  # planes that are cut off, to be quick
# HU of usual tissues, and signal that no line relates to them.
LOOKS = {
    Tissue.SCALP: (40.0, 90.0),
    Tissue.FAT: (-90.0, 140.0),
    Tissue.SKULL: (900.0, 4.0),
    Tissue.MARROW: (300.0, 60.0),
    Tissue.CSF: (8.0, 20.0),
    Tissue.GREY: (38.0, 60.0),
    Tissue.WHITE: (28.0, 80.0),
    Tissue.BRAINSTEM: (28.0, 75.0),
    Tissue.EYE: (15.0, 25.0),
}


def quiet(_: str, __: float) -> None:
    return


def scans(whole: Volume, seed: int) -> tuple[Volume, Volume]:
    """An MRI and the CT of one head, with noise of their own."""
    labels = whole.data[0, :, :, NECK:]
    affine = whole.grid.affine.copy()
    affine[2, 3] += NECK * VOXEL
    grid = Grid(tuple(labels.shape), affine)
    hu = torch.where((labels == Tissue.OUTSIDE) | (labels == Tissue.AIR), -1000.0, 40.0)
    mr = torch.where(hu < 0, 2.0, 60.0)
    for tissue, (number, signal) in LOOKS.items():
        hu[labels == tissue], mr[labels == tissue] = number, signal
    generator = torch.Generator().manual_seed(seed)
    hu += 8 * torch.randn(hu.shape, generator=generator)
    mr = (mr + 2 * torch.randn(mr.shape, generator=generator)).abs()
    return Volume(mr[None], grid, Quantity.MR), Volume(hu[None], grid, Quantity.HU)


def shifted(ct: Volume, by: float) -> Volume:
    affine = ct.grid.affine.copy()
    affine[0, 3] += by
    return Volume(ct.data, Grid(ct.grid.shape, affine), Quantity.HU)


def bent(ct: Volume, by: float) -> Volume:
    """The side of the skull pushed inwards over 3 cm, as a wrong deformable registration may do it."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in ct.grid.shape), indexing="ij"), -1)
    at = positions(ct.grid, index.reshape(-1, 3).astype(np.float64))
    push = by * np.exp(-((at - [70.0, 0.0, 20.0]) ** 2).sum(axis=1) / (2 * 30.0**2))
    field = torch.zeros(3, *ct.grid.shape)
    field[0] = torch.from_numpy(push.reshape(ct.grid.shape))
    plus = Volume(ct.data + 1000, ct.grid, Quantity.HU)
    moved = warp(plus, Volume(field, ct.grid, Quantity.DISPLACEMENT), ct.grid)
    return Volume(moved.data - 1000, ct.grid, Quantity.HU)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs that fit, one shifted by 6 mm, one bent by 10 mm, and a pelvis."""
    folder, head = tmp_path_factory.mktemp("data"), anatomy(VOXEL)
    for n, change in enumerate(
        [lambda ct: ct, lambda ct: ct, lambda ct: shifted(ct, 6.0), lambda ct: bent(ct, 10.0)]
    ):
        mr, ct = scans(head, n)
        (folder / f"1BA00{n}").mkdir()
        write_nifti(mr, folder / f"1BA00{n}" / "mr.nii.gz")
        write_nifti(change(ct), folder / f"1BA00{n}" / "ct.nii.gz")
    (folder / "1PA001").mkdir()
    for name in ("mr", "ct"):
        write_nifti(water_box(8.0, 4.0), folder / "1PA001" / f"{name}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def prepared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], dict[str, str]]:
    out = tmp_path_factory.mktemp("prepared") / "pairs"
    ready, left_out = prepare_pairs(paired_cases([data]).pairs, VOXEL, out, quiet)
    return out, [pair.files.name for pair in ready], left_out


@pytest.mark.slow
def test_a_pair_in_its_place_is_kept_and_a_shifted_and_a_bent_one_are_told_of(
    prepared: tuple[Path, list[str], dict[str, str]],
) -> None:
    _, kept, left_out = prepared
    assert kept == ["pair 1", "pair 2"]
    assert set(left_out) == {"pair 3", "pair 4"}
    assert "register the two rigidly" in left_out["pair 3"]
    told = float(left_out["pair 3"].split(" mm")[0].split()[-1])
    assert abs(told - 6.0) < 1.5  # mutual information finds what was done, to a fraction of a voxel
    assert "deformed otherwise" in left_out["pair 4"]


def small(kind: str, seed: int, start: Path | None) -> Mr2ctRun:
    samples = Randomisation((64, 64, 64), VOXEL, contrasts=(ANY,) * 2, missing=0.5)
    recipe = RegressionNet(VOXEL, (64, 64, 64), NET, Fit(steps=2))
    return Mr2ctRun(Heads(count=1, spacing=VOXEL), samples, kind, recipe, None, seed, start)


@pytest.mark.slow
def test_the_command_mixes_in_what_fits_and_scores_patients_it_never_saw(
    data: Path,
    prepared: tuple[Path, list[str], dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def again(*_: object) -> str:
        raise AssertionError("a pair that was looked at is looked at again")

    monkeypatch.setattr(training, "Mr2ctRun", small)
    monkeypatch.setattr(paired_material, "unfit", again)
    shutil.copytree(prepared[0], tmp_path / "run" / "pairs")
    words = ["mr2ct", "--budget", "1h", "--heads", "1", "--resume", str(tmp_path / "run")]
    done = CliRunner().invoke(train_app, [*words[:1], str(data), *words[1:], "--json"])
    assert done.exit_code == 0, done.output
    took = json.loads(done.stdout)
    assert (took["pairs"]["training"], took["pairs"]["held out"]) == (1, 1)
    assert took["pairs"]["skipped"] == {"not of a head": 1}
    assert set(took["pairs"]["left out"]) == {"pair 3", "pair 4"}
    card = read_card(tmp_path / "run" / WEIGHTS)
    score = card["metrics"]["held_out"]
    assert score["pairs"] == 1
    # Water's error is the mean distance of every CT number from 0 in the body; it has no bone.
    assert score["all water"]["bone_dice"] == 0.0
    assert 50 < score["all water"]["mae"] < 400
    assert score["mae"] > 0
    assert "1 patients (1 pairs) of the real ones held out" in card["split"]
    assert "SynthRAD" in card["data"]
    assert "1BA00" not in json.dumps(card)
    for more, message in [
        ([], "expected the DATA that this run began with"),
        ([str(data), "--real", "0.9"], "use a new folder"),
    ]:
        refused = CliRunner().invoke(train_app, [*words[:1], *more, *words[1:]])
        assert refused.exit_code == 2
        assert message in refused.output
        assert len(refused.output.strip().splitlines()) <= 6


def test_folders_without_a_pair_that_fits_end_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "1BA001").mkdir()
    for name in ("mr", "ct"):
        write_nifti(
            Volume(water_box(8.0, 4.0).data, water_box(8.0, 4.0).grid, Quantity.HU),
            tmp_path / "1BA001" / f"{name}.nii.gz",
        )
    asked = ["mr2ct", str(tmp_path), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(train_app, asked)
    assert done.exit_code == 2
    assert "expected a pair or more that fits, got none of 1; pair 1: expected" in " ".join(
        done.output.split()
    )
    done = CliRunner().invoke(train_app, ["mr2ct", "--out", str(tmp_path / "other"), "--real", "0"])
    assert done.exit_code == 2
    assert "--real above 0" in " ".join(done.output.split())
