import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from app.cli import app
from app.cohort_generated import AskedDrawn, on_lattice, walk_generated
from app.volume_examples import Lattice
from imaging import brats
from imaging.brats_folder import CONTRASTS, find_cases
from imaging.grid import Grid
from imaging.nifti import read_nifti
from imaging.slices import read_slices
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from models.generator import GeneratorConfig, build
from models.pipeline import GeneratorPipeline, fingerprint
from models.weights import CARD
from synth.case import make
from synth.conditions import ConditionClass
from synth.drawn_boxes import fit
from synth.recipe import Recipe, parse

SIDE = 16
TINY = """
[grid]
shape = [40, 46, 40]
spacing = [5, 5, 5]
fine = 4
[tumour]
volume_cc = 40
shares = { glioblastoma = 1 }
post_operative = 0
[mri]
contrasts = ["t1"]
"""
NAMES = ["glioma", "meningioma", "pituitary"]
BOXES = torch.tensor([[0.4, 0.5, 0.2, 0.2], [0.6, 0.5, 0.3, 0.2]]).repeat(3, 1)


def quiet(title: str, share: float) -> None:
    assert title
    assert 0 <= share <= 1


def saved(how: GeneratorConfig, folder: Path, card: dict) -> Path:
    net = build(how)
    draw = torch.Generator().manual_seed(0)
    nn.init.normal_(net.net.out[2].conv.weight, std=0.1, generator=draw)
    pipeline = GeneratorPipeline(net.eval())
    pipeline.card = {**dict.fromkeys(CARD, "-"), "name": "toy", "licence": "Apache-2.0", **card}
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> Path:
    density = fit(torch.tensor([0, 0, 1, 1, 2, 2]), BOXES)
    card = {"config": {"lattice": {"pixels": 32}}, "data": {"classes": NAMES}, "boxes": density.as_json()}
    how = GeneratorConfig(channels=(16, 16), blocks=1, widths=3)
    return saved(how, tmp_path_factory.mktemp("slices") / "pipeline", card)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> Path:
    how = GeneratorConfig(space=3, contrasts=4, classes=12, channels=(16, 16), blocks=1, widths=3)
    card = {"config": {"lattice": {"shape": [SIDE] * 3, "spacing": 12.0}}}
    return saved(how, tmp_path_factory.mktemp("volumes") / "pipeline", card)


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    how = GeneratorConfig(space=3, contrasts=4, classes=0, channels=(16, 16), blocks=1, widths=3)
    card = {"config": {"lattice": {"shape": [SIDE] * 3, "spacing": 12.0}}}
    return saved(how, tmp_path_factory.mktemp("labels") / "pipeline", card)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return parse(TINY)


@pytest.fixture(scope="module")
def cohort(volumes, recipe, tmp_path_factory) -> AskedDrawn:
    """Two cases of the tiny recipe."""
    asked = AskedDrawn(volumes, 2, tmp_path_factory.mktemp("c") / "out", 1, recipe=recipe, n_steps=1)
    found = walk_generated(asked, quiet)
    assert (found["made"], found["kept"]) == (2, 0)
    return asked


def hashes(folder: Path) -> dict[str, str]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and ".cohort" not in p.parts]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def spoken(text: str) -> str:
    return " ".join(text.split())


def test_drawn_cases_are_read_as_brats_and_show_the_tumour_of_the_physical_cohort(cohort, recipe):
    cases = find_cases(cohort.out)
    assert [case.folder.name for case in cases] == ["SPD-00000-000", "SPD-00001-000"]
    for case in cases:
        assert set(case.contrasts) == set(CONTRASTS)
        scan = read_nifti(case.contrasts["t1c"], Quantity.MR)
        assert scan.grid.shape == (SIDE,) * 3
        assert scan.grid.spacing == pytest.approx([12.0] * 3)
        assert 0 <= float(scan.data.min()) <= float(scan.data.max()) <= 1500
        seg, tissues = read_nifti(case.seg, Quantity.LABEL), read_nifti(case.labels, Quantity.LABEL)
        assert ((seg.data == brats.ET) == (tissues.data == Tissue.ENHANCING)).all()
        told = json.loads((case.folder / "parameters.json").read_text())
        assert told["condition"]["kind"] == "glioblastoma"
        n_et = int((seg.data == brats.ET).sum())
        assert told["condition"]["volumes_cc"]["ET"] == pytest.approx(n_et * 1.728)  # 12 mm cubed
        assert told["generator"]["weights"] == fingerprint(cohort.generator)
        assert (told["generator"]["sampler"], told["generator"]["n_steps"]) == ("heun", 1)
    physical = make(recipe, 1, 1).traits
    assert (told["anatomy"], told["tumour"]) == (physical["anatomy"], physical["tumour"])


def test_a_manifest_holds_the_hash_of_every_file(cohort):
    manifest = json.loads((cohort.out / "manifest.json").read_text())
    here = hashes(cohort.out)
    assert {name: one["sha256"] for name, one in manifest["files"].items()} == {
        name: sha256 for name, sha256 in here.items() if name != "manifest.json"
    }
    assert "Research use only" in manifest["description"]
    assert manifest["licence"] == "Apache-2.0"
    assert {"contact_sheet_01.png", "parameters.jsonl", "recipe.toml"} <= set(here)


def test_what_was_lost_is_drawn_again_to_the_bit_and_what_was_kept_stays(cohort, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(cohort.out, out)
    before = hashes(out)
    (out / "SPD-00000-000" / "SPD-00000-000-t1c.nii.gz").write_bytes(b"damaged")
    (out / ".SPD-00001-000.part").mkdir()
    stray = out / "SPD-00007-000"
    stray.mkdir()
    with (out / ".cohort" / "drawn.jsonl").open("a") as file:
        file.write('{"number": 1, "fil')  # killed while it wrote
    kept = (out / "SPD-00001-000" / "SPD-00001-000-seg.nii.gz").stat().st_mtime_ns
    found = walk_generated(replace(cohort, out=out), quiet)
    assert (found["made"], found["kept"]) == (1, 1)
    assert hashes(out) == before
    assert (out / "SPD-00001-000" / "SPD-00001-000-seg.nii.gz").stat().st_mtime_ns == kept
    assert not stray.exists()
    assert walk_generated(replace(cohort, out=out), quiet)["kept"] == 2


def test_other_settings_in_the_same_folder_are_refused(cohort, volumes, labels):
    for change, word in (
        ({"seed": 2}, "another seed"),
        ({"guidance": 2.0}, "another generator"),
        ({"labels": labels, "recipe": None}, "another recipe and generator of labels"),
        ({"n": 1}, "--n of at least 2"),
    ):
        with pytest.raises(ValueError, match=word):
            walk_generated(replace(cohort, **change), quiet)
    words = ["synth", "cohort", "--n", "2", "--out", str(cohort.out)]
    physical = CliRunner().invoke(app, words)
    assert physical.exit_code == 2
    assert "layout of files" in spoken(physical.output)


def test_whole_patients_are_drawn_from_nothing(volumes, labels, tmp_path):
    asked = AskedDrawn(volumes, 1, tmp_path / "a", labels=labels, sampler="shortcut", n_steps=2)
    walk_generated(asked, quiet)
    (case,) = find_cases(asked.out)
    tissues = read_nifti(case.labels, Quantity.LABEL)
    assert tissues.grid.center == pytest.approx([0, 0, 0])
    assert len(tissues.data.unique()) > 1
    told = json.loads((case.folder / "parameters.json").read_text())
    assert told["generator_of_labels"]["weights"] == fingerprint(labels)
    walk_generated(replace(asked, n=2, out=tmp_path / "b"), quiet)
    name = "SPD-00000-000/SPD-00000-000-t2f.nii.gz"
    assert hashes(tmp_path / "a")[name] == hashes(tmp_path / "b")[name]
    assert hashes(tmp_path / "b")[name.replace("00000", "00001")] != hashes(tmp_path / "b")[name]


def test_a_head_keeps_its_place_and_its_volumes_on_the_lattice():
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-31, -51, 9)  # edges at -32, -52, 8
    tissues = torch.zeros(1, 32, 32, 32, dtype=torch.uint8)
    tissues[:, 8:24, 8:24, 8:24] = Tissue.WHITE  # 32 mm cubed from (-16, -36, 24) on
    tissues[:, 8:12, 8:12, 8:12] = Tissue.ENHANCING
    labels = Volume(tissues, Grid((32, 32, 32), affine), Quantity.LABEL)
    classes, grid = on_lattice(labels, Lattice((16, 16, 16), 4.0))
    assert grid.center == pytest.approx([0, -20, 40])
    assert int((classes == ConditionClass.ET).sum()) == 8  # 8 mm cubed in voxels of 4 mm
    assert int((classes > 0).sum()) == 8**3


def test_slices_are_read_back_with_the_boxes_they_were_drawn_from(slices, tmp_path):
    found = walk_generated(AskedDrawn(slices, 9, tmp_path / "out", n_steps=1), quiet)
    assert found["classes"] == dict.fromkeys(NAMES, 3)
    read = read_slices(tmp_path / "out", 32)
    assert read.names == tuple(NAMES)
    low, high = read.boxes[:, :2] - read.boxes[:, 2:] / 2, read.boxes[:, :2] + read.boxes[:, 2:] / 2
    assert float(low.min()) >= -1e-6
    assert float(high.max()) <= 1 + 1e-6
    told = [json.loads(line) for line in (tmp_path / "out" / "parameters.jsonl").read_text().splitlines()]
    assert [one["number"] for one in told] == list(range(9))
    for at, number in enumerate(read.numbers.tolist()):
        assert read.boxes[at].tolist() == pytest.approx(told[number]["box"], abs=1e-6)
        assert int(read.classes[at]) == told[number]["class"]
    assert len({picture.numpy().tobytes() for picture in read.images}) == 9
    assert (tmp_path / "out" / "contact_sheet.png").stat().st_size > 1000


def test_slices_are_the_same_to_the_bit_in_whatever_order_they_were_drawn(slices, tmp_path):
    out = tmp_path / "out"
    walk_generated(AskedDrawn(slices, 4, out, n_steps=1), quiet)
    before = hashes(out)
    next(out.glob("*/2.txt")).unlink()
    next(out.glob("*/0.png")).write_bytes(b"damaged")
    (out / NAMES[0] / ".1.part.2.png").touch()
    found = walk_generated(AskedDrawn(slices, 4, out, n_steps=1), quiet)
    assert (found["made"], found["kept"]) == (2, 2)
    assert hashes(out) == before
    walk_generated(AskedDrawn(slices, 6, out, n_steps=1), quiet)
    assert before.items() - hashes(out).items() == {
        (name, before[name]) for name in ("contact_sheet.png", "manifest.json", "parameters.jsonl")
    }


def test_the_command_tells_people_and_programs(slices, tmp_path):
    words = ["synth", "cohort", "--generator", str(slices), "--n", "2", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--steps", "1"])
    assert done.exit_code == 0
    assert "2 made, 0 kept" in done.output
    assert "Research use only" in done.output
    done = CliRunner().invoke(app, [*words, "--steps", "1", "--json"])
    assert json.loads(done.stdout)["kept"] == 2


def test_bad_requests_get_one_sentence_and_begin_no_folder(slices, volumes, labels, tmp_path):
    out = tmp_path / "out"
    for words, sentence in (
        (["--generator", str(tmp_path)], "folder of a pipeline"),
        (["--generator", str(slices), "--workers", "2"], "without --format, --workers"),
        (["--guidance", "2"], "with --generator FOLDER"),
    ):
        done = CliRunner().invoke(app, ["synth", "cohort", "--out", str(out), "--n", "1", *words])
        assert done.exit_code == 2, words
        assert sentence in spoken(done.output), words
    for change, sentence in (
        ({"n": 0}, "--n of 1 to"),
        ({"seed": -1}, "--seed of 0 or more"),
        ({"recipe": Recipe()}, "generator of volumes"),
        ({"sampler": "ddim"}, "heun, euler, dpm, shortcut"),
        ({"sampler": "shortcut", "n_steps": 3}, "1, 2, 4, 8"),
        ({"guidance": -1.0}, "--guidance of 0"),
        ({"device": "moon"}, "--device such as"),
        ({"generator": labels}, "one of label maps goes to --labels"),
        ({"generator": volumes, "labels": slices}, "from no classes"),
        ({"generator": volumes, "labels": labels, "recipe": Recipe()}, "leave one out"),
    ):
        whole = {"generator": slices, "n": 1, "out": out, "n_steps": 1, **change}
        with pytest.raises(ValueError, match=sentence):
            walk_generated(AskedDrawn(**whole), quiet)
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"boxes": None}, "where boxes lie"),
        ({"data": {"classes": ["../../up", "b", "c"]}}, "by a word each"),
        ({"data": {"classes": ["a", "b"]}}, "by a word each"),
        ({"config": {"lattice": {"pixels": 30}}}, "multiples of 4"),
        ({"config": "-"}, "multiples of 4"),
        ({"config": {"lattice": {"pixels": 2**20}}}, "do not trust it"),
    ],
)
def test_a_card_from_elsewhere_is_not_trusted(slices, tmp_path, change, sentence):
    shutil.copytree(slices, tmp_path / "pipeline")
    card = json.loads((slices / "card.json").read_text())
    (tmp_path / "pipeline" / "card.json").write_text(json.dumps({**card, **change}))
    with pytest.raises(ValueError, match=sentence):
        walk_generated(AskedDrawn(tmp_path / "pipeline", 1, tmp_path / "out", n_steps=1), quiet)
    assert not (tmp_path / "out").exists()
