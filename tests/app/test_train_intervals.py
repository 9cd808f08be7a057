"""What an ensemble does not know, held against patients: kept, gone on with, and used."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from app import train_intervals as training
from app.cli_train import train_app
from app.ct_nets import calibration_of
from app.held_out import HeldOut
from app.train_intervals import dose_factor
from imaging.grid import axial
from imaging.volume import Quantity, Volume
from mr2ct.calibration import TISSUES
from mr2ct.convert import SyntheticCt

GRID = axial(np.zeros(3), np.full(3, 96.0), (2.0,) * 3)
LEVELS = (-800.0, -80.0, 30.0, 900.0)  # HU
TOLD = 10.0  # HU


def blocks() -> Volume:
    """A block of each tissue, side by side."""
    n = GRID.shape[0]
    hu = torch.tensor(LEVELS)[torch.arange(n) * 4 // n][:, None, None].expand(GRID.shape)
    return Volume(hu[None].clone(), GRID, Quantity.HU)


def patient(_seed: int, k: int, contrasts: tuple[str, ...]) -> HeldOut:
    """One whose CT numbers are normal about what is told, twice as far as is told."""
    ct = blocks()
    g = torch.Generator().manual_seed(k)
    off = 2 * TOLD * torch.randn(ct.data.shape, generator=g)
    labels = Volume(torch.ones(ct.data.shape, dtype=torch.uint8), GRID, Quantity.LABEL)
    return HeldOut(dict.fromkeys(contrasts, ct), Volume(ct.data + off, GRID, Quantity.HU), labels)


def told(_run: object, _patient: HeldOut) -> SyntheticCt:
    sigma = Volume(torch.full(blocks().data.shape, TOLD), GRID, Quantity.HU_DEVIATION)
    return SyntheticCt(blocks(), sigma, Volume(torch.zeros_like(sigma.data), GRID, Quantity.HU_DEVIATION))


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "held_out", patient)
    monkeypatch.setattr(training, "_found", told)
    monkeypatch.setattr(training, "read_nets", lambda _: None)


@pytest.mark.usefixtures("stand_ins")
def test_the_command_writes_what_patients_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["intervals", "--out", str(tmp_path / "c"), "--patients", "3", "--no-plans", "--json"]
    done = CliRunner().invoke(train_app, words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    calibration = calibration_of((), Path(found["intervals"]))
    assert calibration is not None
    for name in TISSUES:
        # 1.645 standard deviations of a normal distribution, each twice what is told.
        assert calibration.factors[name]["0.9"] == pytest.approx(3.29, rel=0.03)
    assert (calibration.dose_factor, calibration.patients, calibration.plans) == (1.0, 3, 0)

    def never(*_: object) -> None:
        raise AssertionError("a patient that was looked at is looked at again")

    monkeypatch.setattr(training, "observed", never)
    again = CliRunner().invoke(train_app, words)
    assert json.loads(again.stdout) == found
    other = CliRunner().invoke(train_app, [*words, "--seed", "7"])
    assert other.exit_code == 2
    assert "use a new folder" in " ".join(other.output.split())


def test_bands_become_as_wide_as_nine_points_in_ten_need() -> None:
    within = np.linspace(0.01, 1.0, 100).tolist()
    assert dose_factor([within]) == pytest.approx(0.9, abs=0.02)
    assert dose_factor([[2 * w for w in within], []]) == pytest.approx(1.8, abs=0.03)
    # A patient of many points counts as much as one of few.
    assert dose_factor([[1.0] * 1000, [3.0] * 10]) == 3.0
    assert dose_factor([]) == 1.0
