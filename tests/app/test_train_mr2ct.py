"""The training of the network of CT numbers, as a command."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from app import train_mr2ct as training
from app.cli_train import train_app
from app.train_mr2ct import WEIGHTS, Mr2ctRun
from app.training_heads import Heads
from models.fit import Fit
from models.unet import UNetConfig, unet
from models.weights import load_weights, read_card
from mr2ct.ct_features import SegmenterOfCts
from mr2ct.recipes import read_flow
from mr2ct.regression import N_OUTPUTS, RegressionNet
from mr2ct.tissue_net import TissueClass
from synth.randomisation import ANY, Randomisation

NET = UNetConfig(inputs=2, outputs=N_OUTPUTS, features=(4, 4, 4, 4, 4, 4))
SEGMENTER = UNetConfig(inputs=1, outputs=len(TissueClass), features=(4, 4, 4, 4, 4, 4))


def small(kind: str, seed: int, start: Path | None) -> Mr2ctRun:
    samples = Randomisation((64, 64, 64), 4.0, contrasts=(ANY,) * 2, missing=0.5)
    fit = Fit(steps=2 if start is None else 1)
    return Mr2ctRun(
        heads=Heads(count=2, spacing=4.0),
        samples=samples,
        kind=kind,
        recipe=RegressionNet(4.0, (64, 64, 64), NET, fit),
        features=SegmenterOfCts(SEGMENTER, Fit(steps=1)),
        seed=seed,
        start=start,
    )


def test_the_command_leaves_weights_and_a_card_and_starts_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "Mr2ctRun", small)
    words = ["mr2ct", "--budget", "1h", "--heads", "2", "--json"]
    done = CliRunner().invoke(train_app, [*words, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["steps"] == 2
    card = read_card(tmp_path / "run" / WEIGHTS)
    assert "Research use only" in card["limits"]
    assert (card["config"]["spacing"], card["config"]["outputs"]) == (4.0, N_OUTPUTS)
    assert card["split"].startswith("no real image")
    assert "held_out" not in card["metrics"]
    net = unet(NET)
    load_weights(net, tmp_path / "run" / WEIGHTS)
    asked = [
        *words,
        "--out",
        str(tmp_path / "more"),
        "--start",
        str(tmp_path / "run" / WEIGHTS),
        "--seed",
        "1",
    ]
    done = CliRunner().invoke(train_app, asked)
    assert done.exit_code == 0, done.output
    other = unet(NET)
    load_weights(other, tmp_path / "more" / WEIGHTS)
    apart = [
        float((a - b).detach().abs().max()) for a, b in zip(net.parameters(), other.parameters(), strict=True)
    ]
    assert 0 < max(apart) < 0.1  # one step away
    assert torch.isfinite(torch.tensor(apart)).all()
    kept = unet(NET)
    asked[asked.index("--out") + 1] = str(tmp_path / "kept")
    done = CliRunner().invoke(train_app, [*asked, "--keep-start", "0.25"])
    assert done.exit_code == 0, done.output
    assert "25% of the weights" in load_weights(kept, tmp_path / "kept" / WEIGHTS)["method"]
    for a, b, c in zip(net.parameters(), other.parameters(), kept.parameters(), strict=True):
        torch.testing.assert_close(c, 0.25 * a + 0.75 * b, atol=2e-4, rtol=2e-3)  # of half precision
    for kind in ("gan", "unpaired", "flow"):
        made = tmp_path / kind
        begun = ["--start", str(tmp_path / "run" / WEIGHTS), "--recipe", kind, "--out", str(made)]
        done = CliRunner().invoke(train_app, [*words, *begun])
        assert done.exit_code == 0, done.output
        weights = Path(json.loads(done.stdout)["weights"])
        assert weights.parent == made
        assert read_card(weights)["name"] == ("mr2ct-flow" if kind == "flow" else "mr2ct")
        assert read_card(weights)["method"]
    assert read_flow(weights)[1].spacing == 4.0
    for wrong, message in [
        (["--recipe", "magic"], "expected a recipe of regression, gan, unpaired, flow"),
        (["--keep-start", "0.5"], "expected --keep-start with --start"),
        ([*asked[-4:-2], "--keep-start", "1"], "expected --keep-start of 0 to less than 1"),
        (["--start", str(weights), "--keep-start", "0.5"], "expected weights that fit the network"),
        (["--recipe", "flow"], "expected weights of a regression to draw residuals of"),
    ]:
        done = CliRunner().invoke(train_app, [*words, *wrong, "--out", str(tmp_path / "wrong")])
        assert done.exit_code == 2
        assert message in " ".join(done.output.split())
