"""``spindose machine``: from beam scans to a machine that plans can name."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli import app
from planning.machine import load_machine, machines

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A 10 cm x 10 cm field as the generic machine has it, roughly: exponential depth dose, round edges."""
    folder = tmp_path_factory.mktemp("scans")
    depth = np.arange(0, 300, 3.0)
    dose = np.exp(-0.0055 * depth) * (1 - np.exp(-0.3 * depth))
    _write(folder / "10x10mPDD-zZver.csv", depth, dose)
    for deep, name in ((50, "xXlat"), (200, "xXlat"), (100, "zYlng")):
        at = np.arange(-100, 101, 2.0)
        half = 50 * (900 + deep) / 1000
        edge = 1 / (1 + np.exp((np.abs(at) - half) / 2))
        _write(folder / f"10x10m{deep // 10:02d}cm-{name}.csv", at, edge + 0.05)
    (folder / "AbsoluteDose.csv").write_text("a,d10 @ 90 SSD\n6 MV,0.8\n")
    return folder


def _write(path, at, dose):
    path.write_text("\n".join(f"{a / 10:.2f},{d:.6f}" for a, d in zip(at, dose, strict=True)))


def test_a_fit_makes_a_machine_that_can_be_named_and_a_page_that_asks_for_nothing(
    scans, tmp_path, monkeypatch
):
    out = tmp_path / "my-linac"
    done = RUNNER.invoke(app, ["machine", "fit", str(scans), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["note"].startswith("Research use only")
    assert facts["calibration"].startswith("1 MU gives 0.008 Gy")
    assert facts["pass_percent"]["fitted"] > 90
    assert json.loads((out / "report.json").read_text())["research_use_only"] is True
    page = (out / "report.html").read_text()
    assert "Research use only" in page
    assert page.count('src="data:image/png;base64,') == 3
    assert "http:" not in page
    assert "https:" not in page
    monkeypatch.setenv("SPINDOSE_MACHINES", str(tmp_path))
    assert "my-linac" in machines()
    assert load_machine("my-linac").mlc.transmission == load_machine("generic-6mv").mlc.transmission


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--out", "a-name-of-17-chars"], "expected a folder named like the machine"),
        (["--out", "x", "--detector-blur", "-1"], "expected a detector blur of 0 or more"),
        (["--out", "x", "--like", "nothing"], "expected one of the machines"),
        (["--out", "x", "--keep-out", "7x7"], "expected fields among 10x10 to keep out, got 7x7"),
        (["--out", "x", "--keep-out", "10x10"], "expected the depth dose of at least one field"),
        (["--out", "x", "--check", "missing"], "expected a folder of beam scans"),
    ],
)
def test_what_cannot_be_fitted_ends_in_one_sentence(scans, tmp_path, monkeypatch, options, what):
    monkeypatch.chdir(tmp_path)
    done = RUNNER.invoke(app, ["machine", "fit", str(scans), *options])
    assert done.exit_code == 2
    assert what in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_list_and_show_say_what_there_is():
    listed = json.loads(RUNNER.invoke(app, ["machine", "list", "--json"]).stdout)
    assert {"generic-6mv", "measured-6mv"} <= set(listed)
    assert "Gy" in listed["measured-6mv"]
    shown = json.loads(RUNNER.invoke(app, ["machine", "show", "measured-6mv", "--json"]).stdout)
    assert shown["leaf_pairs"] == 80
    assert RUNNER.invoke(app, ["machine", "show", "nothing"]).exit_code == 2
