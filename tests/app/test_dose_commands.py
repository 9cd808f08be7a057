"""``spindose train dose`` and ``spindose predict dose`` on patients in OpenKBP's layout."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli import app
from app.cli_train import train_app

SIDE = 128
SPACING = np.array([4.0, 4.0, 3.0])
RUNNER = CliRunner()


def column(path: Path, values: np.ndarray, mask: bool = False) -> None:
    at = np.flatnonzero(values)
    told = ["" if mask else f"{v:.2f}" for v in values.ravel()[at]]
    lines = [",data", *(f"{i},{v}" for i, v in zip(at, told, strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_patient(folder: Path, at: float) -> Path:
    """A ball of water with a target beside its middle."""
    index = np.stack(np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij"), axis=-1)
    place = (index - SIDE / 2) * SPACING
    body = np.linalg.norm(place, axis=-1) < 45
    ptv = np.linalg.norm(place - [0, at, 0], axis=-1) < 14
    folder.mkdir(parents=True)
    column(folder / "ct.csv", 1024.0 * body)
    column(folder / "dose.csv", np.where(ptv, 70.0, 30.0) * body)
    column(folder / "possible_dose_mask.csv", body, mask=True)
    column(folder / "PTV70.csv", ptv, mask=True)
    column(folder / "Brainstem.csv", np.linalg.norm(place - [0, -at, 0], axis=-1) < 9, mask=True)
    (folder / "voxel_dimensions.csv").write_text("\n".join(map(str, SPACING)) + "\n", encoding="utf-8")
    return folder


def test_patients_teach_a_network_that_predicts_others(tmp_path: Path) -> None:
    for n in range(3):
        write_patient(tmp_path / "train" / f"pt_{n + 1}", 5.0 * n)
    write_patient(tmp_path / "others" / "pt_9", 12.0)
    out = tmp_path / "run"
    asked = ["dose", str(tmp_path / "train"), "--validation", str(tmp_path / "others"), "--stages", "1"]
    asked += ["--budget", "1s", "--no-beams", "--histogram", "0.1", "--patients", "2", "--track", "none"]
    done = RUNNER.invoke(train_app, [*asked, "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    took = json.loads(done.stdout)
    assert took["patients"] == {"training": 2, "held out": 1, "left out": {}}
    card = json.loads((out / "dose.json").read_text(encoding="utf-8"))
    assert not [p for p in card["config"]["planes"] if p.startswith(("beams", "fields"))]
    done = RUNNER.invoke(train_app, [*asked, "--resume", str(out)])
    assert done.exit_code == 0, done.output
    assert "Held out:" in done.output
    said = tmp_path / "said"
    asked = ["predict", "dose", str(tmp_path / "others"), "--weights", str(out / "dose.safetensors")]
    done = RUNNER.invoke(app, [*asked, "--out", str(said)])
    assert done.exit_code == 0, done.output
    lines = (said / "pt_9.csv").read_text(encoding="utf-8").splitlines()
    allowed = (tmp_path / "others" / "pt_9" / "possible_dose_mask.csv").read_text(encoding="utf-8")
    inside = {line.split(",")[0] for line in allowed.splitlines()[1:]}
    told = {line.split(",")[0]: float(line.split(",")[1]) for line in lines[1:]}
    assert set(told) <= inside
    assert len(told) > 0.9 * len(inside)
    assert all(0 <= dose < 200 for dose in told.values())
    done = RUNNER.invoke(app, [*asked, "--out", str(said)])
    assert done.exit_code == 2
    assert "new or empty folder" in done.output


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--site", "knee"], "expected a site of brain, openkbp"),
        (["--budget", "soon"], "expected"),
        (["--norm", "batch"], "expected a normalisation of"),
    ],
)
def test_bad_settings_end_in_one_sentence(more: list[str], message: str, tmp_path: Path) -> None:
    write_patient(tmp_path / "train" / "pt_1", 0.0)
    out = tmp_path / "run"
    done = RUNNER.invoke(train_app, ["dose", str(tmp_path / "train"), "--out", str(out), *more])
    assert done.exit_code == 2
    assert message in done.output
    assert not out.exists()


def test_prediction_without_weights_is_refused(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["predict", "dose", str(tmp_path), "--out", str(tmp_path / "said")])
    assert done.exit_code == 2
    assert "expected weights of a dose predictor" in done.output
