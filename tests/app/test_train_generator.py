import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from app import train_generator as train_generator_module
from app.cli import app
from app.generator_material import slice_material
from app.train_generator import GeneratorRun, obedience, train_generator
from models.fit import Fit
from models.generator import GeneratorConfig
from models.pipeline import GeneratorPipeline, fingerprint

TINY = GeneratorConfig(channels=(16, 16), blocks=1, widths=3)
RUN = GeneratorRun(fit=Fit(steps=2, batch=2, watch_s=0.0, warmup=1), net=TINY, held_out=0.5)


def quiet(title: str, share: float) -> None:
    assert title
    assert 0 <= share <= 1


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_generator_module, "_SLICE", 32)


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of two patients each: a bright disc on the left or on the right."""
    folder = tmp_path_factory.mktemp("slices")
    noise = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    for kind, name in enumerate(("left", "right")):
        (folder / name).mkdir()
        for number in (1, 2, 3, 61, 62, 63):
            middle = 9 + 14 * kind
            disc = (x - middle) ** 2 + (y - 16) ** 2 < 25
            picture = (200 * disc + noise.integers(0, 40, (32, 32))).astype(np.uint8)
            Image.fromarray(picture).save(folder / name / f"{number}.png")
            line = f"{kind} {(middle + 0.5) / 32} 0.515625 0.3125 0.3125"
            (folder / name / f"{number}.txt").write_text(line)
    return folder


@pytest.mark.parametrize("kind", ["diffusion", "ddpm", "gan"])
def test_a_generator_is_trained_into_a_pipeline_with_sheets_and_a_card(
    slices: Path, tmp_path: Path, kind: str
) -> None:
    took = train_generator(replace(RUN, kind=kind), [slices], tmp_path, quiet)
    assert took["steps"] == 2
    assert took["weights"] == fingerprint(tmp_path / "pipeline")
    pipeline = GeneratorPipeline.from_pretrained(tmp_path / "pipeline")
    drawn = pipeline(torch.zeros(1, 2, 32, 32), torch.Generator().manual_seed(0), n_steps=1)
    assert drawn.shape == (1, 1, 32, 32)
    assert bool(torch.isfinite(drawn).all())
    card = json.loads((tmp_path / "pipeline" / "card.json").read_text())
    assert card["data"]["training slices"] == card["data"]["held-out slices"] == 6
    assert "Research use only" in card["limits"]
    assert card["boxes"]["shares"] == [0.5, 0.5]
    assert len(list((tmp_path / "sheets").glob("*.png"))) == 2
    seen = [json.loads(line) for line in (tmp_path / "checkpoint" / "watch.jsonl").read_text().splitlines()]
    assert {"diversity", "noise", "obedience", "collapsed"} <= set(seen[-1])
    assert (tmp_path / "losses.png").stat().st_size > 1000


def test_held_out_patients_are_never_trained_on(slices: Path) -> None:
    material = slice_material(slices, 32, 0.5, 0)
    blocks = {n // 60 for n in material.told["held-out numbers"]["left"]}
    assert len(blocks) == 1
    assert material.told["training slices"] == 6


def test_a_killed_training_goes_on_and_a_longer_one_too(slices: Path, tmp_path: Path) -> None:
    train_generator(RUN, [slices], tmp_path, quiet)
    longer = replace(RUN, fit=replace(RUN.fit or Fit(steps=1), steps=3))
    assert train_generator(longer, [slices], tmp_path, quiet)["steps"] == 3
    with pytest.raises(ValueError, match="new folder"):
        train_generator(replace(longer, kind="gan"), [slices], tmp_path, quiet)


def test_obedience_is_one_for_chance_and_more_for_the_right_image() -> None:
    real = torch.eye(4).reshape(4, 1, 2, 2)
    assert obedience(torch.zeros(4, 2, 1, 2, 2), real) == pytest.approx(1)
    near = (0.9 * real)[:, None].repeat(1, 2, 1, 1, 1)
    # Own: 0.1 at one pixel; others': 0.9 at one and 1 at another.
    assert obedience(near, real) == pytest.approx(19.0, rel=1e-4)


def test_bad_requests_get_one_sentence(slices: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    for words, sentence in (
        (["--size", "huge"], "size of slices"),
        (["--held-out", "1"], "share between 0 and 1"),
        (["--budget", "soon"], "budget such as"),
        (["--resume", str(tmp_path)], "earlier run"),
    ):
        out = [] if "--resume" in words else ["--out", str(tmp_path / "new")]
        done = runner.invoke(app, ["train", "gan", str(slices), *out, *words])
        assert done.exit_code == 2
        assert sentence in " ".join(done.output.split())
    done = runner.invoke(app, ["train", "diffusion", str(tmp_path), "--out", str(tmp_path / "new")])
    assert done.exit_code == 2
    assert "CLASS/NUMBER.jpg" in " ".join(done.output.split())
    assert not (tmp_path / "new" / "pipeline").exists()
