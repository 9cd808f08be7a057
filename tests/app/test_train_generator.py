import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from app import train_generator as train_generator_module
from app.cli import app
from app.drawer import draw, read_drawer
from app.generator_material import slice_material
from app.train_generator import GeneratorRun, obedience, train_generator
from app.volume_examples import Lattice
from imaging.brats_folder import CONTRASTS
from imaging.grid import Grid
from imaging.nifti import write_nifti
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from models.fit import Fit
from models.generator import GeneratorConfig
from models.pipeline import GeneratorPipeline, fingerprint
from models.wavelet import to_bands
from synth.conditions import ConditionClass, planes
from synth.render import render

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
    assert card["metrics"]["diversity"] == seen[-1]["diversity"]
    assert took["shown"]["collapsed"] == seen[-1]["collapsed"]
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


def test_a_gan_is_trained_on_from_a_diffusion_and_its_card_says_so(slices: Path, tmp_path: Path) -> None:
    flow = train_generator(RUN, [slices], tmp_path / "flow", quiet)
    start = tmp_path / "flow" / "pipeline"
    train_generator(replace(RUN, kind="gan", start=start), [slices], tmp_path / "gan", quiet)
    made = GeneratorPipeline.from_pretrained(tmp_path / "gan" / "pipeline")
    assert made.card["config"]["started from"] == flow["weights"]
    assert str(tmp_path) not in json.dumps(made.card)
    assert made.net.settings == replace(made.net.settings, channels=TINY.channels, widths=TINY.widths)
    before = GeneratorPipeline.from_pretrained(start).net.state_dict()
    # Two steps at a ten-thousandth move weights by less than fresh ones differ.
    off = [float((t - before[name]).abs().max()) for name, t in made.net.state_dict().items()]
    assert 0 < max(off) < 0.01
    with pytest.raises(ValueError, match="--start to name a flow or GAN of 3 axes"):
        train_volumes(tmp_path, start=start)
    with pytest.raises(ValueError, match="DDPM from scratch"):
        replace(RUN, kind="ddpm", start=start)


def train_volumes(folder: Path, **changed: Any) -> Path:
    """Two steps on two heads of white matter with a tumour."""
    for name, bright in (("a", 200.0), ("b", 400.0)):
        case = folder / "cases" / name
        if not case.is_dir():
            case.mkdir(parents=True)
            at = torch.stack(torch.meshgrid(*[torch.arange(20.0)] * 3, indexing="ij")) - 10
            grid = Grid((20, 20, 20), np.diag([9.0, 9.0, 9.0, 1.0]))
            head, core = at.abs().amax(0) <= 7, (at - 2).abs().amax(0) <= 3
            tissue = head * int(Tissue.WHITE) + core * int(Tissue.ENHANCING - Tissue.WHITE)
            for word in CONTRASTS:
                scan = Volume((head * 300.0 + core * bright)[None], grid, Quantity.MR)
                write_nifti(scan, case / f"{name}-{word}.nii.gz")
            labels = Volume(tissue[None].to(torch.uint8), grid, Quantity.LABEL)
            write_nifti(labels, case / f"{name}-labels.nii.gz")
    net = GeneratorConfig(space=3, contrasts=4, classes=12, channels=(16, 16), blocks=1, widths=3)
    run = replace(RUN, size="small", net=net, **changed)
    train_generator(run, [folder / "cases"], folder / "volumes", quiet)
    return folder / "volumes" / "pipeline"


def test_volumes_are_drawn_from_a_render_of_their_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(train_generator_module.LATTICES, "small", Lattice((16, 16, 16), 12.0))
    drawer = read_drawer(train_volumes(tmp_path, render=0.9), "euler", 1)
    assert drawer.settings.render_share == 0.9
    classes = torch.zeros(16, 16, 16, dtype=torch.uint8)
    classes[4:12, 4:12, 4:12] = ConditionClass.WHITE
    condition = planes(classes[None])[0]
    image = draw(drawer, condition, torch.Generator().manual_seed(1))
    assert torch.equal(image, draw(drawer, condition, torch.Generator().manual_seed(1)))
    # After two steps the network still answers next to nothing: what is drawn is the source itself.
    noise = torch.Generator().manual_seed(1)
    start = to_bands(render(classes, 4, noise)[None], drawer.settings.std)[:, :4]
    drawn = to_bands(image[None], drawer.settings.std)[:, :4]
    assert float(torch.corrcoef(torch.stack([start.flatten(), drawn.flatten()]))[0, 1]) > 0.7
    for wrong in ({"render": 1.0}, {"render": 0.5, "kind": "gan"}):
        with pytest.raises(ValueError, match="--render from 0 to below 1"):
            replace(RUN, size="small", **wrong)


def test_a_generator_draws_as_its_card_says_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(train_generator_module.LATTICES, "small", Lattice((16, 16, 16), 12.0))
    folder = train_volumes(tmp_path)

    def how(*asked: Any) -> tuple[str, int]:
        drawer = read_drawer(folder, *asked)
        return drawer.sampler, drawer.n_steps

    assert how() == ("shortcut", 1)
    assert how(None, 4) == ("shortcut", 4)
    assert how("euler") == ("euler", 30)
    told = json.loads((folder / "card.json").read_text())
    for wrong in ({"sampler": "shortcut", "n_steps": "many"}, {"sampler": ["shortcut"], "n_steps": 1}, 7):
        told["config"]["usual"] = wrong
        (folder / "card.json").write_text(json.dumps(told))
        assert how() == ("heun", 15)


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
