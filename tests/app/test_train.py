import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from app import train as training
from app.cli_train import train_app
from app.train import TissueRun, budgeted, parse_budget, train_tissues
from app.training_heads import Heads, kept_library
from models.fit import Fit
from models.unet import UNetConfig, unet
from models.weights import load_weights, read_card
from mr2ct.tissue_net import TissueNet
from synth.randomisation import Randomisation

SMALL = TissueRun(
    Heads(count=2, spacing=4.0),
    Randomisation((64, 64, 64), 4.0),
    TissueNet(4.0, (64, 64, 64), UNetConfig(features=(4, 4, 4, 4, 4, 4)), Fit(steps=2)),
)


def quiet(title: str, share: float) -> None:
    assert title
    assert 0 <= share <= 1


def test_a_budget_is_read_with_its_unit() -> None:
    assert [parse_budget(t) for t in ("90s", "25m", "1.5h")] == [90, 1500, 5400]
    for bad in ("", "25", "m", "-3m", "infm", "3d"):
        with pytest.raises(ValueError, match="expected a budget such as"):
            parse_budget(bad)
    assert budgeted(SMALL, 60.0).recipe.fit.budget_s == 60


def test_training_leaves_weights_a_card_and_a_curve(tmp_path: Path) -> None:
    took = train_tissues(SMALL, tmp_path, quiet)
    assert took["steps"] == 2
    assert {p.name for p in tmp_path.iterdir()} == {
        "checkpoint",
        "heads.safetensors",
        "losses.png",
        "tissues.json",
        "tissues.safetensors",
    }
    card = read_card(tmp_path / "tissues.safetensors")
    assert "Research use only" in card["limits"]
    assert card["run"]["heads"]["count"] == 2
    config = card["config"]
    load_weights(
        unet(UNetConfig(config["inputs"], config["outputs"], tuple(config["features"]))),
        tmp_path / "tissues.safetensors",
    )
    again = train_tissues(replace(SMALL, recipe=replace(SMALL.recipe, fit=Fit(steps=3))), tmp_path, quiet)
    assert again["steps"] == 3


def test_heads_are_kept_and_made_anew_for_another_seed(tmp_path: Path) -> None:
    path = tmp_path / "heads.safetensors"
    made = kept_library(SMALL.heads, (), path, quiet)
    written = path.stat().st_mtime_ns
    kept = kept_library(SMALL.heads, (), path, quiet)
    assert torch.equal(kept.labels, made.labels)
    assert path.stat().st_mtime_ns == written
    other = kept_library(replace(SMALL.heads, seed=1), (), path, quiet)
    assert not torch.equal(other.labels, made.labels)
    assert not torch.equal(made.labels[0], made.labels[1])


def test_the_command_trains_and_answers_in_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "TissueRun", lambda seed, start: replace(SMALL, seed=seed, start=start))
    asked = ["tissues", "--out", str(tmp_path / "run"), "--budget", "60s", "--heads", "1", "--json"]
    done = CliRunner().invoke(train_app, asked)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["steps"] == 2


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (["--budget", "1m"], "either --out"),
        (["--out", "OUT", "--budget", "soon"], "expected a budget"),
        (["--out", "FULL"], "new or empty folder"),
        (["--resume", "OUT"], "folder of an earlier run"),
    ],
)
def test_bad_wishes_get_one_sentence_and_write_nothing(
    asked: list[str], sentence: str, tmp_path: Path
) -> None:
    full = tmp_path / "FULL"
    full.mkdir()
    (full / "theirs").write_text("")
    words = [str(tmp_path / w) if w in ("OUT", "FULL") else w for w in asked]
    done = CliRunner().invoke(train_app, ["tissues", *words])
    assert done.exit_code == 2
    assert sentence in done.output.replace("\n", " ")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["FULL", "theirs"]


def test_a_head_count_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="one head or more"):
        Heads(count=0)
