"""The command for observer studies, end to end on four synthetic patients, and what it refuses."""

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from app.cli import app
from app.observers.ranks import median_interval
from app.observers.reading import Names, read_patient
from app.observers.scores import score
from app.observers.study import read_study
from app.observers.summary import verdict
from app.observers.volumes import Estimate
from imaging.agreement import dice
from imaging.grid import Grid, axial
from imaging.nifti import read_nifti, write_nifti
from imaging.resample import resample
from imaging.structures import StructureSet
from imaging.volume import Quantity

Truth = Callable[[int], StructureSet]


@pytest.fixture(scope="module")
def evaluated(observer_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "agreement"
    done = CliRunner().invoke(app, ["evaluate", "contours", str(observer_study), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture
def copied(observer_study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(observer_study, tmp_path / "study"))


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        assert stream.readline() == "# Research use only: not a medical device.\n"
        return list(csv.DictReader(stream))


def refused(study: Path, tmp_path: Path, *more: str) -> str:
    done = CliRunner().invoke(app, ["evaluate", "contours", str(study), "--out", str(tmp_path / "o"), *more])
    assert done.exit_code == 2
    assert not (tmp_path / "o").exists()
    said = done.output.strip().splitlines()[-1]
    assert said.startswith("spindose: ")
    return said


def test_page_pictures_and_tables_are_for_research_and_name_no_patient(evaluated: Path) -> None:
    facts = json.loads((evaluated / "contours.json").read_text())
    assert facts["note"] == "Research use only: not a medical device."
    page = (evaluated / "contours.html").read_text()
    assert "Research use only" in page
    assert "http://" not in page
    for file in ("agreement.png", "volumes.png", "times.png"):
        assert (evaluated / file).read_bytes().startswith(b"\x89PNG")
    for file in evaluated.iterdir():
        assert "Doe" not in file.name
        assert b"Doe^" not in file.read_bytes()


def test_contours_are_the_same_from_every_kind_of_file(observer_study: Path, truth_of_study: Truth) -> None:
    study = read_study(observer_study)
    drawn = read_patient(study, 0, Names(study))
    truth = truth_of_study(0)
    assert set(drawn.masks) == {"Brainstem", "Eye_L", "Eye_R"}
    for name, by in drawn.masks.items():
        # Segmentation, label map, RTSTRUCT and case: all on the true place, so none is turned or shifted.
        assert list(by) == ["Ada", "Ben", "Cleo", "Net"]
        assert min(dice(mask, truth.mask(name)) for mask in by.values()) > 0.8


def test_dice_in_the_table_is_that_of_the_files(observer_study: Path, evaluated: Path) -> None:
    a, b = (
        read_nifti(observer_study / "P2" / who / "Eye_L.nii.gz", Quantity.LABEL).data[0] > 0
        for who in ("Ada", "Cleo")
    )
    wanted = {"patient": "2", "structure": "Eye_L", "observer": "Ada", "other": "Cleo"}
    (row,) = [r for r in rows(evaluated / "pairs.csv") if wanted.items() <= r.items()]
    assert float(row["dice"]) == pytest.approx(dice(a, b))
    cc = 2.5 * 2.5 * 3 / 1000
    assert float(row["volume_difference_cc"]) == pytest.approx(abs(int(a.sum()) - int(b.sum())) * cc)


def test_who_draws_outwards_has_a_bias_and_a_model_nearer_to_the_truth_agrees_better(evaluated: Path) -> None:
    bias = {
        (r["structure"], r["observer"]): float(r["bias_cc"]) for r in rows(evaluated / "bland_altman.csv")
    }
    for organ in ("Brainstem", "Eye_L", "Eye_R"):
        assert bias[organ, "Ben"] > 0 > bias[organ, "Cleo"]
    judged = rows(evaluated / "models_against_people.csv")
    assert all(float(r["median_difference"]) > 0 for r in judged if r["figure"] == "dice")
    assert {r["verdict"] for r in judged} == {"too few patients (4 of 6)"}


def test_what_is_missing_is_told(evaluated: Path) -> None:
    (row,) = rows(evaluated / "missing.csv")
    assert row == {"patient": "3", "structure": "Eye_R", "observer": "Ben", "why": "not drawn"}
    pairs = [r for r in rows(evaluated / "summary.csv") if r["compared"] == "people, pairs"]
    # Three pairs of people in each of four patients, but for one without Ben's two.
    assert {r["structure"]: r["n"] for r in pairs if r["figure"] == "dice"} == {
        "Brainstem": "12",
        "Eye_L": "12",
        "Eye_R": "10",
    }
    # The brainstem has tolerances of its own.
    own = {r["figure"] for r in pairs if r["structure"] == "Brainstem"}
    assert {"surface_dice_1mm", "surface_dice_3mm"} <= own
    assert "surface_dice_2mm" not in own


def test_a_model_has_no_part_in_what_it_is_held_against() -> None:
    grid = Grid((24, 24, 24), np.diag([2.0, 2.0, 2.0, 1.0]))
    masks = {name: torch.zeros(grid.shape, dtype=torch.bool) for name in ("a", "b", "c", "net")}
    for n, name in enumerate(("a", "b", "c")):
        masks[name][6 + n : 14 + n, 6:14, 6:14] = True
    first = score("x", masks, ["net"], grid, [1.0], 6.0)
    masks["net"] = torch.ones(grid.shape, dtype=torch.bool)
    second = score("x", masks, ["net"], grid, [1.0], 6.0)
    assert first.reference_cc == second.reference_cc
    people = [[a.metrics["dice"] for a in s.against if not a.model] for s in (first, second)]
    assert people[0] == people[1]
    # A model that finds nothing has no overlap, and no distance either.
    nothing = next(a for a in first.against if a.model and not a.without)
    assert nothing.metrics["dice"] == nothing.metrics["surface_dice_1mm"] == 0
    assert math.isnan(nothing.metrics["hd95_mm"])
    assert nothing.metrics["volume_difference_percent"] == -200


def test_non_inferiority_is_read_off_the_interval() -> None:
    assert verdict(Estimate(0.0, -0.04, 0.01), 6, 0.05) == "not inferior"
    assert verdict(Estimate(-0.04, -0.06, 0.01), 6, 0.05) == "undecided"
    assert verdict(Estimate(-0.2, -0.3, -0.1), 6, 0.05) == "inferior"
    constant = median_interval(np.full(8, -0.01), seed=3)
    assert (constant.low, constant.high) == (-0.01, -0.01)


def test_plain_folders_need_no_toml_but_the_names_of_models(copied: Path, tmp_path: Path) -> None:
    (copied / "study.toml").unlink()
    shutil.rmtree(copied / "Doe^Jane")
    out = tmp_path / "agreement"
    told = ["evaluate", "contours", str(copied), "--out", str(out), "--model", "Net", "--json"]
    done = CliRunner().invoke(app, told)
    assert done.exit_code == 0, done.output
    facts = json.loads((out / "contours.json").read_text())
    assert facts["patients"] == 3
    assert [o["name"] for o in facts["observers"] if o["kind"] == "model"] == ["Net"]
    assert "expected models among" in refused(copied, tmp_path, "--model", "Nobody")


def test_contours_on_another_grid_are_refused_or_resampled_with_a_note(copied: Path, tmp_path: Path) -> None:
    finer = axial(np.array([-60.0, -90.0, -75.0]), np.array([60.0, 45.0, 5.0]), (2.0, 2.0, 2.0))
    for file in (copied / "P2" / "Net").iterdir():
        moved = resample(read_nifti(file, Quantity.LABEL), finer)
        write_nifti(moved, file)
    assert "patient 2, Net: expected contours on the grid" in refused(copied, tmp_path)
    out = tmp_path / "agreement"
    told = ["evaluate", "contours", str(copied), "--out", str(out), "--resample"]
    done = CliRunner().invoke(app, told)
    assert done.exit_code == 0, done.output
    facts = json.loads((out / "contours.json").read_text())
    assert facts["cautions"] == ["patient 2, Net: contours were resampled to the first person's grid."]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[observers]", "[observers", "expected TOML"),
        ('kind = "model"', 'kind = "robot"', 'expected kind = "person" or "model"'),
        ('"Doe^Jane" =', '"../Doe" =', "leads elsewhere"),
        ('scan = "mr"', 'scan = "/etc"', "leads elsewhere"),
        ("region_mm = 10", "region_mm = -1", "region_mm of 0-100"),
        ("region_mm = 10", "colour = 1", "in [analysis], got 'colour'"),
        ("tolerances_mm = [1, 3]", "tolerances_mm = [0]", "tolerances of 0-50 mm"),
        ('synonyms = ["Hirnstamm"]', 'synonyms = ["eye l"]', "to name one structure"),
        ("manual = 14", "manual = 0", "minutes above 0"),
        ("P4 = {", "P5 = {", "of the study"),
    ],
)
def test_a_wrong_study_is_refused_in_one_sentence(
    copied: Path, tmp_path: Path, old: str, new: str, said: str
) -> None:
    file = copied / "study.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    told = refused(copied, tmp_path)
    assert said in told
    assert "Jane" not in told


def test_the_example_in_the_documents_is_a_study(tmp_path: Path) -> None:
    study = read_study(Path(__file__).parents[2] / "docs" / "observer_study.toml")
    assert [o.name for o in study.models] == ["Network"]
    assert study.times[0].manual == 14.5
    (tmp_path / "empty").mkdir()
    assert "got models alone" in refused(tmp_path / "empty", tmp_path)
