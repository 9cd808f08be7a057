import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app import train_contours as training
from app.cli_train import train_app
from app.contour_recipes import RECIPES, Recipe
from models.fit import Fit
from models.unet import UNetConfig, unet
from models.weights import load_weights


def smaller(of: Recipe) -> Recipe:
    net = replace(of.net.net, features=(4, 4, 4, 4, 4, 4), sharp=4)
    return replace(of, net=replace(of.net, net=net, fit=Fit(steps=2, warmup=1)))


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks and little to look at."""
    for name in list(RECIPES):
        monkeypatch.setitem(RECIPES, name, smaller(RECIPES[name]))
    monkeypatch.setattr(training, "_N_WATCHED", 2)
    monkeypatch.setattr(training, "_N_WATCHED_HEADS", 1)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("kind", ["head", "organs"])
def test_the_command_leaves_weights_a_card_and_curves(kind: str, tmp_path: Path) -> None:
    asked = ["contours", kind, "--heads", "1", "--budget", "1h"]
    done = CliRunner().invoke(train_app, [*asked, "--out", str(tmp_path / "run"), "--json"])
    assert done.exit_code == 0, done.output
    took = json.loads(done.stdout)
    assert took["steps"] == 2
    assert took["watched"]["loss"] > 0
    assert all(0 <= d <= 1 for name, d in took["watched"].items() if name != "loss")
    weights = tmp_path / "run" / f"{kind}.safetensors"
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["config"]["contrasts"] == ["t1", "t1c", "t2", "flair"]
    assert "not a medical device" in card["limits"]
    load_weights(unet(UNetConfig.of(card["config"])), weights)
    assert {"losses.png", "watch.png"} <= {p.name for p in weights.parent.iterdir()}
    again = [*asked, "--start", str(weights), "--out", str(tmp_path / "more")]
    done = CliRunner().invoke(train_app, again)
    assert done.exit_code == 0, done.output
    assert "Dice on samples of other heads" in done.output
    assert json.loads((tmp_path / "more" / f"{kind}.json").read_text())["run"]["start"] == weights.name


def test_another_network_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(train_app, ["contours", "lungs", "--out", str(tmp_path / "no")])
    assert done.exit_code == 2
    assert "expected a network of head, organs, or own, got 'lungs'" in done.output
    assert not (tmp_path / "no").exists()
