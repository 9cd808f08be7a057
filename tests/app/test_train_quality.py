"""Calibration of contours' quality: what it rests on, that it goes on, and what it refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app import train_quality
from app.cli_train import train_app
from app.contour_score import SETS
from app.spread import Died
from app.train_quality import QualityRun, pairs
from planning.contour.quality import read_quality


def quiet(title: str, share: float) -> None:
    pass


def row(agreement: float, dice: float) -> dict[str, object]:
    one = {"dice": {"Brain": dice, "Lens_L": 0.0}, "agreement": {"Brain": agreement}, "missing": {}}
    return {**dict.fromkeys(SETS, one), "ct": {"dice": {"Brain": 0.1}, "agreement": {"Brain": 0.9}}}


def keep(folder: Path, *rows: dict[str, object]) -> None:
    """As if patients had been contoured."""
    folder.mkdir(exist_ok=True)
    for k, one in enumerate(rows):
        (folder / f"20271_{k}.json").write_text(json.dumps(one))


def test_pairs_are_those_of_mri_alone_and_of_structures_that_were_drawn() -> None:
    found = pairs([row(0.9, 0.8), row(0.5, 0.4)])
    assert found == {"Brain": [(0.9, 0.8)] * len(SETS) + [(0.5, 0.4)] * len(SETS)}


@pytest.mark.slow
def test_what_was_done_is_gone_on_with_and_told_of(tmp_path: Path) -> None:
    keep(tmp_path / "out", row(0.9, 0.8), row(0.5, 0.4))  # both done: nothing is contoured
    words = ["quality", "--patients", "2", "--out", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(train_app, words)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    quality = read_quality(Path(told["quality"]))
    assert quality.patients == told["patients"] == 2
    # A monotone regression runs through points that rise.
    assert quality.expected("Brain", 0.9) == pytest.approx(0.8)
    assert quality.expected("Brain", 0.7) == pytest.approx(0.6)
    assert quality.expected("Eye_L", 0.7) == pytest.approx(0.6)  # no pairs of its own


def test_another_calibrations_folder_and_networks_that_are_none_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="expected"):
        train_quality.train_quality(QualityRun(tmp_path / "nothing"), tmp_path / "out", quiet)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="one patient and process or more, got 0 and 1"):
        QualityRun(patients=0)
    monkeypatch.setattr(train_quality, "read_contourer", lambda *_: None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text(json.dumps({"seed": 3, "weights": []}))
    with pytest.raises(ValueError, match="same networks and seed"):
        train_quality.train_quality(QualityRun(tmp_path), tmp_path / "out", quiet)
    with pytest.raises(ValueError, match="patient 4 to be contoured, but its process died"):
        train_quality._expect_lived(4, Died())
