"""Contouring networks on a user's own cases: they learn, are scored, and start from the catalogue."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from app import catalogue as models
from app import train_contours as training
from app.catalogue import Spec
from app.cli_train import train_app
from app.contour_real import Real, read_names
from app.contour_recipes import RECIPES, Recipe, own_recipe
from app.train_contours import ContourRun, started, train_contours
from app.training_heads import Heads
from imaging.grid import Grid
from imaging.nifti import write_nifti
from imaging.phantoms import sphere
from imaging.segmentations import write_seg_nrrd
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from models.fit import Fit
from planning.contour.classes import HEAD

GRID = Grid((24, 24, 24), np.diag([4.0, 4.0, 4.0, 1.0]))
FIT = Fit(steps=60, learning_rate=1e-2, warmup=1, average=0.8, watch_steps=20)


def small(of: Recipe, fit: Fit) -> Recipe:
    net = replace(of.net.net, features=(4, 4, 4, 4, 4, 4), sharp=4)
    classes = replace(of.net.classes, least=10.0)
    own = replace(
        of.net, classes=classes, net=net, spacing=2.0, shape=(64, 64, 64), window=(64, 64, 64), fit=fit
    )
    samples = replace(of.samples, shape=(64, 64, 64), spacing=2.0, shift=8.0, artefacts=0.1, missing=0.0)
    return replace(of, net=own, samples=samples)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks on large voxels, and little to look at."""
    for name in list(RECIPES):
        monkeypatch.setitem(RECIPES, name, small(RECIPES[name], FIT))
    monkeypatch.setattr(training, "_N_WATCHED", 2)
    monkeypatch.setattr(training, "_N_WATCHED_HEADS", 1)


def shorter(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    for name, of in list(RECIPES.items()):
        fit = replace(of.net.fit, steps=steps)
        monkeypatch.setitem(RECIPES, name, replace(of, net=replace(of.net, fit=fit)))


def put(folder: Path, n: int) -> None:
    """A ball of a head with a bright ball in it, elsewhere in every case."""
    generator = np.random.default_rng(n)
    blob = sphere(GRID, generator.uniform(34, 58, 3), 13.0)
    data = 60.0 * sphere(GRID, np.full(3, 46.0), 40.0) + 60.0 * blob
    data += torch.from_numpy(generator.uniform(0, 4, GRID.shape))
    folder.mkdir(parents=True)
    write_nifti(Volume(data[None].float(), GRID, Quantity.MR), folder / "t1.nii.gz")
    drawn = StructureSet(GRID, {"my blob": Structure(blob, RoiType.ORGAN, (1, 2, 3))})
    write_seg_nrrd(drawn, folder / "a.seg.nrrd")


def asked(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(train_app, ["contours", *words, "--track", "none", "--json"])
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.slow
@pytest.mark.usefixtures("quickly")
def test_a_network_of_ones_own_structures_learns_from_an_approved_model_and_is_scored_on_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPINDOSE_MODELS", str(tmp_path / "models"))
    for n in range(4):
        put(tmp_path / "data" / f"somebody {n}", n)
    (tmp_path / "names.toml").write_text('Blob = ["My Blob"]\n')
    words = ["own", str(tmp_path / "data"), "--names", str(tmp_path / "names.toml"), "--budget", "1h"]
    shorter(monkeypatch, 2)
    asked(*words, "--out", str(tmp_path / "first"))
    spec = Spec("blobs", "clinic", "Blobs", "head", "MR")
    files = [tmp_path / "first" / name for name in ("own.safetensors", "own.json")]
    model = models.import_files(spec, files, "Marie", "trial")
    assert model is not None
    more = [*words, "--start-model", "blobs", "--out", str(tmp_path / "more")]
    refused = CliRunner().invoke(train_app, ["contours", *more])
    assert refused.exit_code == 2
    assert "expected an approved model blobs" in " ".join(refused.output.split())
    models.configure("blobs", "", None, "head", "Marie", "trial")
    models.catalogue().approve("blobs", "", "Marie", "looked at")
    shorter(monkeypatch, 60)
    took = asked(*more, "--patience", "9")
    assert took["cases"] == {"training": 3, "watched": 0, "held out": 1, "left out": {}}
    before, after = (took["held_out"][part]["Blob"] for part in ("start", "structures"))
    assert after["cases"] == 1
    assert after["dice"] > max(0.5, before["dice"] + 0.2)
    card = json.loads((tmp_path / "more" / "own.json").read_text())
    assert card["parent"] == f"blobs {model.revision[:12]}"
    assert card["metrics"]["held_out"] == took["held_out"]
    assert card["config"]["classes"] == ["none", "Blob"]
    assert "3 real cases of the user's (3D Slicer; Blob) in all samples" in card["data"]
    assert "somebody" not in json.dumps(card)
    assert (tmp_path / "more" / card["losses"]).is_file()


def brats(folder: Path, n: int) -> None:
    folder.mkdir(parents=True)
    seg = torch.zeros(GRID.shape, dtype=torch.uint8)
    seg[8 + n : 14 + n, 8:14, 8:14], seg[10 + n : 12 + n, 10:12, 10:12] = 2, 3
    image = 50.0 * sphere(GRID, np.full(3, 46.0), 40.0) + 20.0 * seg
    write_nifti(Volume(image[None].float(), GRID, Quantity.MR), folder / f"{folder.name}-t2f.nii.gz")
    write_nifti(Volume(seg[None], GRID, Quantity.LABEL), folder / f"{folder.name}-seg.nii.gz")


@pytest.mark.usefixtures("quickly")
def test_tumours_of_brats_mix_with_synthetic_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(3):
        brats(tmp_path / "data" / f"A-{n}", n)
    shorter(monkeypatch, 4)
    run = ContourRun("head", Heads(1, spacing=4.0), real=Real(0.5, 0.3))
    took = train_contours(run, tmp_path / "out", lambda *_: None, real=[tmp_path / "data"])
    assert (took["cases"]["training"], took["cases"]["held out"]) == (2, 1)
    assert set(took["held_out"]["structures"]) == {"Edema", "ET"}  # the case has no necrosis
    assert "start" not in took["held_out"]
    card = json.loads((tmp_path / "out" / "head.json").read_text())
    assert "1 synthetic heads" in card["data"]
    assert "2 real cases of the user's (BraTS; ET, Edema, NCR) in 50% of the samples" in card["data"]
    # An earlier run goes on with the same cases alone.
    with pytest.raises(ValueError, match="expected the DATA"):
        train_contours(run, tmp_path / "out", lambda *_: None)
    other = replace(run, real=Real(0.6, 0.3))
    with pytest.raises(ValueError, match="that this run began with"):
        train_contours(other, tmp_path / "out", lambda *_: None, real=[tmp_path / "data"])


def test_an_approved_model_gives_the_weights_of_the_network_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPINDOSE_MODELS", str(tmp_path / "models"))
    models.import_shipped("Marie", "trial")
    for name in ("cranial-oar", "brain-tumour"):
        models.configure(name, "", None, "head", "Marie", "trial")
        models.catalogue().approve(name, "", "Marie", "looked at")
    revision = models.catalogue().approved("cranial-oar").revision[:12]
    run = started(ContourRun("organs"), "cranial-oar")
    assert run.start is not None
    assert (run.start.name, run.parent) == ("contour-organs.safetensors", f"cranial-oar {revision}")
    head = started(ContourRun("head"), "brain-tumour").start
    assert head is not None
    assert head.name == "contour-head.safetensors"
    with pytest.raises(ValueError, match="got brain-tumour, which has none"):
        started(ContourRun("organs"), "brain-tumour")
    with pytest.raises(ValueError, match="got both"):
        started(run, "cranial-oar")
    assert started(ContourRun("head"), "") == ContourRun("head")


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--real above 0"):
        Real(share=0.0)
    with pytest.raises(ValueError, match="1 to 30 structures"):
        own_recipe(())
    assert len(own_recipe(["A"] * 30).net.classes.names) == 31 > len(HEAD.names)
    run = ContourRun("own", real=Real(names={"Blob": ()}))
    with pytest.raises(ValueError, match="expected DATA"):
        train_contours(run, tmp_path / "no", lambda *_: None)
    for text, match in (("A = 3", 'A = \\["another name"\\]'), ("A", "names in TOML")):
        (tmp_path / "names.toml").write_text(text)
        with pytest.raises(ValueError, match=match):
            read_names(tmp_path / "names.toml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected cases of MRI with contours"):
        train_contours(run, tmp_path / "no", lambda *_: None, real=[tmp_path / "empty"])
