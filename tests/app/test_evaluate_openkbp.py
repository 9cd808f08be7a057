"""``spindose evaluate dose --openkbp``: predictions and patients in, the challenge's two scores out."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from app.cli import app


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two patients of one target each, 60 Gy inside; told 1 Gy too much of the first, 3 of the second."""
    patients, told = tmp_path / "validation-pats", tmp_path / "told"
    told.mkdir()
    box = np.zeros((128,) * 3, dtype=bool)
    box[60:70, 60:70, 60:70] = True
    inside = np.flatnonzero(box)
    for n, off in ((201, 1), (202, 3)):
        here = patients / f"pt_{n}"
        here.mkdir(parents=True)
        mask = ",data\n" + "".join(f"{i},\n" for i in inside)
        for name in ("possible_dose_mask", "PTV70"):
            (here / f"{name}.csv").write_text(mask)
        (here / "ct.csv").write_text(mask.replace(",\n", ",1024\n"))
        (here / "dose.csv").write_text(mask.replace(",\n", ",60\n"))
        (here / "voxel_dimensions.csv").write_text("4\n4\n2.5\n")
        (told / f"pt_{n}.csv").write_text(mask.replace(",\n", f",{60 + off}\n"))
    return told, patients


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["evaluate", "dose", *map(str, words)])
    if done.exit_code == 1 and done.exception:
        raise done.exception
    return done.exit_code, done.stdout if done.exit_code == 0 else done.stderr


def test_both_scores_are_the_means_that_were_built_in(folders: tuple[Path, Path], tmp_path: Path) -> None:
    told, patients = folders
    picture = tmp_path / "scores.png"
    code, output = run("--openkbp", told, patients, "--picture", picture, "--json")
    assert code == 0, output
    found = json.loads(output)
    assert (found["patients"], found["dose_score_gy"], found["dvh_score_gy"]) == (2, 2.0, 2.0)
    assert found["by_patient"]["pt_202"] == {"dose_gy": 3.0, "dvh_gy": 3.0}
    assert found["structures"]["PTV70"] == {"patients": 2, "D99": 2.0, "D95": 2.0, "D1": 2.0}
    assert "not a medical device" in found["note"]
    with Image.open(picture) as image:
        assert image.format == "PNG"
    assert "Dose score 2.000 Gy" in run("--openkbp", told, patients)[1]


def test_what_does_not_match_gets_one_sentence(folders: tuple[Path, Path]) -> None:
    told, patients = folders
    (told / "pt_202.csv").rename(told / "pt_203.csv")
    for words, message in (
        (("--openkbp", told, patients), "expected a prediction of pt_202, got none"),
        (("--openkbp", told), "expected a folder of OpenKBP's patients after the predictions"),
        (("--openkbp", told / "nowhere", patients), "expected a folder of predictions"),
        ((told, patients), "expected one dose and --reference"),
    ):
        code, output = run(*words)
        assert code == 2
        assert message in " ".join(output.split())
    (told / "pt_203.csv").rename(told / "pt_202.csv")
    (told / "pt_204.csv").write_text(",data\n1,5\n")
    assert "a patient for the prediction of pt_204" in " ".join(run("--openkbp", told, patients)[1].split())
    (told / "pt_204.csv").unlink()
    (told / "pt_201.csv").write_text(",data\n1,-5\n")
    assert "pt_201: expected doses of 0 to 1000 Gy" in " ".join(run("--openkbp", told, patients)[1].split())
