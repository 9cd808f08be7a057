"""One plan on two CTs by ``spindose evaluate ct``: balls of water, and of something denser."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from app.cli import app
from app.ct_dose import Made, made_and_recomputed
from app.ct_dose_figures import lines
from app.request import Request, Sphere
from imaging.case import Case
from imaging.dicom.header import complete
from imaging.dicom.rtstruct import write_rtstruct
from imaging.dicom.writer import write_ct
from imaging.grid import axial
from imaging.nifti import write_nifti
from imaging.phantoms import sphere
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.density import HU_TABLE
from planning.machine import load_machine
from planning.plan import Plan, Prescription
from planning.rtplan import write_rtplan

MACHINE = load_machine("generic-6mv")
RX = Prescription(60.0, 30)
GRID = axial(np.full(3, -54.0), np.full(3, 54.0), (3.0, 3.0, 3.0))
BALL = sphere(GRID, np.zeros(3), 45.0)
DENSER = 1.1
HU, DENSITY = np.array(HU_TABLE).T


def ball(density: float) -> Volume:
    hu = float(np.interp(density, DENSITY, HU))
    return Volume(torch.where(BALL[None], hu, -1000.0), GRID, Quantity.HU)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One open field on a ball of water, its structures, and the same ball denser."""
    here = tmp_path_factory.mktemp("recomputed")
    source = write_ct(ball(1.0), complete(Source()), here / "CT")
    drawn = StructureSet(
        GRID,
        {
            "Body": Structure(BALL, RoiType.EXTERNAL, (0, 255, 0)),
            "PTV": Structure(sphere(GRID, np.zeros(3), 12.0), RoiType.PTV, (255, 0, 0), 60.0),
            "Cord": Structure(sphere(GRID, np.array([0.0, 24.0, 0.0]), 6.0), RoiType.ORGAN, (0, 0, 255)),
        },
        source.frame,
    )
    (here / "plan").mkdir()
    structures = write_rtstruct(drawn, source, GRID, here / "plan" / "RTSTRUCT.dcm")
    n = len(MACHINE.mlc.boundaries) - 1
    leaves = np.stack([np.full(n, -20.0), np.full(n, 20.0)])
    ends = tuple(ControlPoint(m, 0.0, (-20.0, 20.0), (-20.0, 20.0), leaves) for m in (0.0, 1.0))
    plan = Plan((Beam(0.0, 0.0, 0.0, np.zeros(3), "1", 270.0, ends),), RX, MACHINE.name)
    write_rtplan(plan, MACHINE, source, here / "plan" / "RTPLAN.dcm", structure_set_uid=structures)
    write_nifti(ball(DENSER), here / "denser.nii.gz")
    write_nifti(ball(1.0), here / "water.nii.gz")
    return here


def run(*words: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", "ct", *map(str, words)])


def told(*words: object) -> dict[str, Any]:
    done = run(*words, "--json")
    assert done.exit_code == 0, done.stderr
    return dict(json.loads(done.stdout)["dose"])


def test_on_one_ct_twice_a_plan_has_one_dose(folder: Path) -> None:
    found = told(folder / "CT", "--truth", folder / "CT", "--plan", folder / "plan")
    assert found["target"] == "PTV"
    assert found["synthrad"] == {"dose_mae": 0, "dvh_metric": 0, "organs": ["Cord"]}
    assert found["gamma_2_2_percent"] == found["gamma_1_1_percent"] == 100
    assert {found[f"target_{m}_difference_percent"] for m in ("mean", "d98", "d2")} == {0}


def test_a_denser_head_takes_about_half_a_percent_a_millimetre(folder: Path) -> None:
    words = ("--truth", folder / "water.nii.gz", "--plan", folder / "plan" / "RTPLAN.dcm")
    words = (*words, "--structures", folder / "plan" / "RTSTRUCT.dcm")
    found = told(folder / "denser.nii.gz", *words)
    # 45 mm of water become 49.5: 6 MV photons fall by 0.4-0.6 % a millimetre in small fields.
    lost = -found["target_mean_difference_percent"] * RX.dose_gy / found["target_mean_gy"]
    assert 4.5 * 0.4 < lost < 4.5 * 0.6
    assert found["gamma_1_1_percent"] < found["gamma_2_2_percent"] <= 100
    assert 0.01 < found["synthrad"]["dose_mae"] < 0.04
    assert found["synthrad"]["dvh_metric"] > 0
    shown = "\n".join(lines(found))
    assert f"PTV in % of the prescription: mean {found['target_mean_difference_percent']:+.2f} %" in shown
    assert "SynthRAD: DVH metric" in shown


def test_a_plan_made_on_a_denser_ct_is_too_hot_on_the_true_one() -> None:
    mr = Volume(100 * BALL[None].float(), GRID, Quantity.MR)
    labels = torch.where(BALL, torch.tensor(int(Tissue.SCALP), dtype=torch.uint8), 0)
    labels[sphere(GRID, np.zeros(3), 36.0)] = Tissue.GREY
    tissues = Volume(labels[None].to(torch.uint8), GRID, Quantity.LABEL)
    request = Request(RX, ctv_margin=0.0, n_beams=3, dose_spacing=5.0)
    made = Made(Sphere(np.zeros(3), 12.0), request)

    def quiet(title: str, share: float) -> None:
        pass

    found = made_and_recomputed(made, ball(DENSER), ball(1.0), Case({"mr": mr}), tissues, quiet)
    assert found["target_mean_gy"] > 1.01 * RX.dose_gy
    assert -4.0 < found["target_mean_difference_percent"] < -1.0
    assert found["synthrad"]["organs"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--plan", "plan", "--dose", "--target", "0,0,0,9"), "got both"),
        (("--dose",), "one without the other"),
        (("--target", "0,0,0,9"), "one without the other"),
        (("--dose", "--target", "0,0,0,9"), "the MRI to draw the organs"),
        (("--structures", "plan/RTSTRUCT.dcm"), "add --plan"),
        (("--plan", "plan/RTPLAN.dcm"), "add --structures"),
        (("--dose", "--target", "0,0,300,9", "--mri", "water.nii.gz"), "target inside the scan"),
    ],
)
def test_what_cannot_be_computed_gets_one_sentence(
    folder: Path, words: tuple[str, ...], sentence: str
) -> None:
    placed = [folder / w if w.startswith(("plan", "water")) else w for w in words]
    done = run(folder / "denser.nii.gz", "--truth", folder / "water.nii.gz", *placed)
    assert done.exit_code == 2
    assert sentence in " ".join(done.stderr.split()), done.stderr


def test_a_ct_in_another_frame_than_the_plan_is_refused(folder: Path, tmp_path: Path) -> None:
    write_ct(ball(1.0), complete(Source()), tmp_path / "CT")
    done = run(tmp_path / "CT", "--truth", tmp_path / "CT", "--plan", folder / "plan")
    assert done.exit_code == 2
    assert "in the plan's frame of reference" in " ".join(done.stderr.split())
