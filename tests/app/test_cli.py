import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from app.cli import app
from imaging.grid import Grid
from imaging.nifti import write_nifti
from imaging.volume import Quantity, Volume

COMMANDS = ["demo", "plan", "mr2ct", "contour", "dose"]


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def empty_scan(tmp_path) -> Path:
    grid = Grid((20, 20, 20), np.diag([5.0, 5.0, 5.0, 1.0]))
    path = tmp_path / "t1.nii.gz"
    write_nifti(Volume(torch.zeros(1, 20, 20, 20), grid, Quantity.MR), path)
    return path


def test_help_imports_neither_torch_nor_simpleitk():
    code = (
        "import sys; from app.cli import app; from typer.testing import CliRunner;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        "print([m for m in ('torch', 'SimpleITK', 'scipy', 'pydicom', 'matplotlib') if m in sys.modules])"
    )
    asked = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert asked.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"spindose {command}" in result.output


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--target", "1,2,3"], "x,y,z,radius in LPS mm"),
        (["--target", "0,0,0,-1"], "radius above 0 mm"),
        (["--target", "0,0,0,10", "--prescription", "60"], "such as 60/30"),
        (["--target", "0,0,0,10", "--ptv-margin", "99"], "margin of 0-50 mm"),
        (["--target", "0,0,0,10", "--dose-spacing", "9"], "dose grid of 1-5 mm"),
        (["--target", "0,0,0,10"], "expected"),  # an image of nothing
    ],
)
def test_bad_input_ends_with_status_2_and_one_sentence(empty_scan, tmp_path, wrong, sentence):
    result = run("plan", "--allow-unapproved", str(empty_scan), "--out", str(tmp_path / "out"), *wrong)
    assert result.exit_code == 2
    said = [line for line in result.stderr.splitlines() if line.startswith("spindose: ")]
    assert len(said) == 1
    assert sentence in said[0]
    assert str(tmp_path) not in said[0]


GOAL = '[[goal]]\nstructures = ["PTV"]\ngoal = "{}"\n'


@pytest.mark.parametrize(
    ("sheet", "sentence"),
    [
        (b"D95% of the PTV", "a sheet of goals in TOML, got something else"),
        (b"\xff\xfe\x00", "a file that is no UTF-8 text"),
        (b"", "[[goal]] tables"),
        (GOAL.format("D95% > 95%").encode(), "expected a goal such as 'D95% >= 95%'"),
        (
            (GOAL.format("Dmin >= 60 Gy") + GOAL.format("D2% <= 55 Gy")).encode(),
            "goals that one dose can meet, got PTV Dmin >= 60 Gy and PTV D2% <= 55 Gy",
        ),
        (
            # 95 % of 60 Gy.
            (GOAL.format("D95% >= 95%") + GOAL.format("D50% <= 50 Gy")).encode(),
            "goals that one dose can meet, got PTV D95% >= 95 % and PTV D50% <= 50 Gy",
        ),
        (None, "expected a TOML file of goals, got no file there"),
    ],
)
def test_a_goal_sheet_that_cannot_be_met_is_refused_before_anything_is_computed(
    empty_scan, tmp_path, sheet, sentence
):
    path = tmp_path / "goals.toml"
    if sheet is not None:
        path.write_bytes(sheet)
    out = tmp_path / "out"
    result = run(
        "plan",
        "--allow-unapproved",
        str(empty_scan),
        "--target",
        "0,0,0,10",
        "--out",
        str(out),
        "--goals",
        str(path),
    )
    assert result.exit_code == 2
    said = [line for line in result.stderr.splitlines() if line.startswith("spindose: ")]
    assert len(said) == 1
    assert sentence in said[0]
    assert str(tmp_path) not in said[0]
    assert not out.exists()


@pytest.mark.parametrize(
    ("sigma", "sentence"),
    [(30.0, "convert it from HU"), (-0.1, "got a negative one"), (float("nan"), "NaN or infinite voxels")],
)
def test_an_uncertainty_that_cannot_be_is_refused_before_anything_is_computed(
    empty_scan, tmp_path, sigma, sentence
):
    path, out = tmp_path / "sigma.nii.gz", tmp_path / "out"
    grid = Grid((20, 20, 20), np.diag([5.0, 5.0, 5.0, 1.0]))
    write_nifti(Volume(torch.full((1, 20, 20, 20), sigma), grid, Quantity.DENSITY), path)
    arguments = ["--target", "0,0,0,10", "--out", str(out), "--density-uncertainty", str(path)]
    result = run("plan", "--allow-unapproved", str(empty_scan), *arguments)
    assert result.exit_code == 2
    said = [line for line in result.stderr.splitlines() if line.startswith("spindose: ")]
    assert len(said) == 1
    assert sentence in said[0]
    assert not out.exists()


def test_a_missing_scan_is_named(tmp_path):
    result = run("mr2ct", str(tmp_path / "none.nii.gz"), "--out", str(tmp_path / "ct.nii.gz"))
    assert result.exit_code == 2
    assert "expected" in result.stderr
    assert not (tmp_path / "ct.nii.gz").exists()


def test_results_never_go_into_a_folder_of_other_files(empty_scan, tmp_path):
    result = run(
        "plan", "--allow-unapproved", str(empty_scan), "--target", "0,0,0,10", "--out", str(tmp_path)
    )
    assert result.exit_code == 2
    assert "got one that holds other files" in result.stderr


def test_json_is_for_programs(monkeypatch, tmp_path):
    from app import demo
    from app.publish import Summary

    monkeypatch.setattr(demo, "walk_demo", lambda out, *_, **__: Summary(out, (), {}))
    result = run("demo", str(tmp_path), "--json")
    said = json.loads(result.stdout)
    assert said["review"] == str(tmp_path / "review.html")
    assert "not a medical device" in said["note"]
