import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from app.cli import app
from app.evaluate_dose import difference
from app.evaluate_plan import complications, figures
from imaging.case import Case
from imaging.dicom.header import complete
from imaging.dicom.rtdose import read_rtdose, write_rtdose
from imaging.dicom.rtstruct import write_rtstruct
from imaging.dicom.writer import write_ct
from imaging.folder import write_case
from imaging.grid import Grid, axial
from imaging.nifti import write_nifti
from imaging.phantoms import sphere
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.check.dvh import Dvh
from planning.goals import parse_goal
from planning.machine import load_machine
from planning.plan import Plan, Prescription
from planning.rtplan import write_rtplan

MACHINE = load_machine("generic-6mv")
RX = Prescription(60.0, 30)
EDGE = np.array([42.0, 42.0, 42.0])
GRID = axial(-EDGE, EDGE, (3.0, 3.0, 3.0))
BALL, TARGET = sphere(GRID, np.zeros(3), 36.0), sphere(GRID, np.zeros(3), 15.0)


def dose_of(gy: float, frame: str = "") -> Volume:
    """A dose that falls by 0.1 Gy/mm from the left to the right."""
    x = GRID.affine[0, 3] + 3.0 * torch.arange(GRID.shape[0])
    return Volume((gy + 0.1 * x)[:, None, None].expand(1, *GRID.shape).clone(), GRID, Quantity.DOSE, frame)


def structures(frame: str = "") -> StructureSet:
    return StructureSet(
        GRID,
        {
            "Body": Structure(BALL, RoiType.EXTERNAL, (0, 255, 0)),
            "PTV": Structure(TARGET, RoiType.PTV, (255, 0, 0), 60.0),
        },
        frame,
    )


def open_fields(machine: str = MACHINE.name) -> Plan:
    n = len(MACHINE.mlc.boundaries) - 1
    leaves = np.stack([np.full(n, -16.0), np.full(n, 16.0)])
    ends = tuple(ControlPoint(m, 0.0, (-16.0, 16.0), (-20.0, 20.0), leaves) for m in (0.0, 1.0))
    return Plan((Beam(0.0, 0.0, 0.0, np.zeros(3), "1", 600.0, ends),), RX, machine)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An RTPLAN with its RTDOSE, RTSTRUCT and CT, and masks."""
    here = tmp_path_factory.mktemp("dicom")
    hu = Volume(torch.where(BALL[None], 0.0, -1000.0), GRID, Quantity.HU)
    source = write_ct(hu, complete(Source(patient_id="ID-8842", patient_name="DOE^JANE")), here / "CT")
    drawn = write_rtstruct(structures(source.frame), source, GRID, here / "RTSTRUCT.dcm")
    plan = write_rtplan(open_fields(), MACHINE, source, here / "RTPLAN.dcm", structure_set_uid=drawn)
    write_rtdose(dose_of(60.0, source.frame), source, here / "RTDOSE.dcm", plan_uid=plan)
    (here / "masks").mkdir()
    write_case(Case({}, structures()), here / "masks")
    return here


def run(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def answered(*arguments: object) -> dict:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_dose_beside_itself_differs_nowhere(folder):
    dose = folder / "RTDOSE.dcm"
    found = answered("dose", dose, "--reference", dose, "--structures", folder / "RTSTRUCT.dcm")
    assert found["gamma"]["pass_percent"] == 100.0
    assert found["difference"]["min_gy"] == found["difference"]["max_gy"] == 0.0
    assert {
        key: value for key, value in found["structures"]["PTV"].items() if "difference" in key
    } == dict.fromkeys(
        (f"{name}_difference_gy" for name in ("d98", "d95", "d50", "d2", "d0.03cc", "mean", "max")), 0.0
    )
    assert "esearch use only" in found["note"]


def test_a_dose_that_is_one_gray_higher_is_told_so(tmp_path, folder):
    write_nifti(dose_of(61.0), tmp_path / "higher.nii.gz")
    write_nifti(dose_of(60.0), tmp_path / "truth.nii.gz")
    found = answered(
        "dose", tmp_path / "higher.nii.gz", "--reference", tmp_path / "truth.nii.gz",
        "--structures", folder / "masks", "--gamma", "1/1", "--cutoff", "50",
    )  # fmt: skip
    assert found["difference"]["mean_gy"] == pytest.approx(1.0, abs=1e-4)
    assert found["difference"]["sd_gy"] == pytest.approx(0.0, abs=1e-4)
    assert found["structures"]["PTV"]["d95_difference_gy"] == pytest.approx(1.0, abs=1e-3)
    # 1 Gy over 64 Gy is 1.56 %, and a step of 1 mm along the gradient gives 0.1 Gy back: gamma is above 1.
    assert found["gamma"]["pass_percent"] == 0.0


def test_what_the_dose_does_not_cover_is_no_difference():
    half = Grid((GRID.shape[0] // 2, *GRID.shape[1:]), GRID.affine)
    covered = Volume(dose_of(60.0).data[:, : half.shape[0]], half, Quantity.DOSE)
    found = difference(covered, dose_of(60.0), 10.0)
    assert found["max_gy"] == pytest.approx(0.0, abs=1e-4)
    assert found["voxels"] == np.prod(half.shape)


def test_metrics_of_a_linear_dose_are_those_of_its_gradient(folder):
    found = answered("plan", folder)
    ptv = found["structures"]["PTV"]
    assert ptv["mean_gy"] == pytest.approx(60.0, abs=0.05)
    assert ptv["max_gy"] == pytest.approx(61.5, abs=0.2)
    assert ptv["volume_cc"] == pytest.approx(4 / 3 * np.pi * 1.5**3, rel=0.04)
    assert ptv["geud_gy"] < ptv["mean_gy"]
    assert set(found["inputs"]) == {"RTPLAN", "dose", "structures"}
    assert found["complexity"]["modulation_score"] == pytest.approx(1.0, abs=1e-3)
    assert found["delivery_seconds"] == 60.0  # 600 MU at 600 MU/min
    assert found["complexity"]["area_mm2"] == pytest.approx(32 * 40, rel=1e-3)


def test_uniform_dose_in_the_target_alone_is_conformal_and_homogeneous():
    hot = Dvh(np.full(1000, 60.0, np.float32), 10.0)
    body = Dvh(np.concatenate([np.zeros(9000, np.float32), np.full(1000, 60.0, np.float32)]), 100.0)
    kinds = {"PTV": RoiType.PTV, "Body": RoiType.EXTERNAL}
    found = figures(open_fields(), MACHINE, {"PTV": hot, "Body": body}, kinds, ())
    assert found["targets"] == {
        "PTV": {
            "paddick_conformity": 1.0,
            "paddick_conformity_of_95_percent": 1.0,
            "icru_homogeneity": 0.0,
            "gradient_index": 1.0,
        }
    }


def test_a_target_without_a_body_has_no_index_but_a_reason():
    found = figures(
        open_fields(), MACHINE, {"PTV": Dvh(np.full(9, 60.0, np.float32), 1.0)}, {"PTV": RoiType.PTV}, ()
    )
    assert "external contour" in str(found["targets"])


def test_half_have_the_complication_at_the_tolerance_of_a_whole_organ():
    # 65 Gy in 2 Gy fractions is TD50 of the brainstem in both models.
    stem = {"Brainstem": Dvh(np.full(50, 64.0, np.float32), 20.0)}
    found = complications(stem, {"Brainstem": RoiType.ORGAN}, Prescription(64.0, 32))
    lower = [model["percent"] for model in found["Brainstem"]]
    stem = {"Brainstem": Dvh(np.full(50, 65.0, np.float32), 20.0)}
    half = complications(stem, {"Brainstem": RoiType.ORGAN}, replace(RX, dose_gy=65.0, n_fractions=33))
    assert all(p < 50.0 for p in lower)
    assert [m["percent"] for m in half["Brainstem"]] == pytest.approx([50.0, 50.0], abs=3.0)


def test_either_side_is_the_organ_and_a_skull_is_none():
    dvh = Dvh(np.full(9, 5.0, np.float32), 1.0)
    kinds = dict.fromkeys(("Lens_L", "OpticNerve_R", "Skull", "Eye_L"), RoiType.ORGAN)
    found = complications(
        dict.fromkeys(kinds, dvh), kinds, RX, (parse_goal("Lens_L", "D0.03cc <= 10 Gy", alpha_beta=1.0),)
    )
    assert set(found) == {"Lens_L", "OpticNerve_R"}
    assert found["Lens_L"][0]["alpha_beta_gy"] == 1.0
    assert found["OpticNerve_R"][0]["alpha_beta_gy"] == 3.0


def test_a_plan_of_an_unknown_machine_is_evaluated_with_one_that_is_named(tmp_path):
    other = replace(MACHINE, name="elsewhere")
    write_rtplan(
        open_fields("elsewhere"), other, complete(Source()), tmp_path / "P.dcm", structure_set_uid="1.2"
    )
    # Two machines here have these leaves: none is taken for the plan's.
    assert answered("plan", tmp_path / "P.dcm")["delivery_seconds"] is None
    found = answered("plan", tmp_path / "P.dcm", "--machine", MACHINE.name)
    assert found["machine"] == MACHINE.name
    assert found["delivery_seconds"] == 60.0
    assert "not described here" in " ".join(found["cautions"])


def test_structures_as_drawn_and_as_masks_have_the_same_doses(folder, tmp_path):
    drawn = answered("plan", folder)["structures"]["PTV"]
    masks = answered("plan", folder, "--structures", folder / "masks")["structures"]["PTV"]
    for key in ("d98_gy", "d50_gy", "d2_gy", "mean_gy"):
        assert masks[key] == pytest.approx(drawn[key], abs=0.05)
    (tmp_path / "PTV.nii.gz").write_bytes((folder / "masks" / "structure_001.nii.gz").read_bytes())
    alone = answered("plan", folder, "--structures", tmp_path)
    assert alone["structures"]["PTV"] == masks
    assert "external contour" in alone["targets"]["PTV"]["not_evaluated"]


def test_a_body_for_qatrack_is_valid_and_goes_with_its_report(folder, tmp_path):
    (tmp_path / "list.toml").write_text(
        'unit_test_collection = "https://qatrack.example/api/qa/unittestcollections/3/"\n'
        '[tests]\nptv_mean = "structures/PTV/mean_gy"\nchiasm = "structures/OpticChiasm/max_gy"\n'
    )
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.4")
    out = tmp_path / "body.json"
    asked = ("--qatrack", out, "--qatrack-list", tmp_path / "list.toml", "--attach", tmp_path / "report.pdf")
    found = answered("plan", folder, *asked)
    told = json.loads(out.read_text())
    schema = json.loads((Path(__file__).parent / "qatrack_testlistinstance.schema.json").read_text())
    Draft202012Validator(schema).validate(told)
    assert told["tests"]["ptv_mean"]["value"] == found["structures"]["PTV"]["mean_gy"]
    assert told["tests"]["chiasm"]["skipped"] is True
    assert told["work_started"] <= told["work_completed"]
    assert "DOE" not in out.read_text()


@pytest.mark.data
def test_the_command_passes_the_points_that_pymedphys_passes(data, tmp_path):
    with np.load(data / "planning" / "reference" / "gamma_pair.npz") as pair:
        for name in ("ref", "ev"):
            gy = torch.from_numpy(pair[name] * pair[f"{name}_gy_per_unit"]).float()[None]
            grid = Grid(tuple(gy.shape[1:]), np.diag([*np.full(3, float(pair["spacing"])), 1.0]))
            write_nifti(Volume(gy, grid, Quantity.DOSE), tmp_path / f"{name}.nii.gz")
    reference = tmp_path / "ref.nii.gz"
    found = answered("dose", tmp_path / "ev.nii.gz", "--reference", reference, "--gamma", "2/2")["gamma"]
    # 96.57 % of 97435 points by pymedphys 0.41, as the README beside the pair says.
    assert found["points"] == 97435
    assert found["pass_percent"] == pytest.approx(96.57, abs=0.01)


@pytest.mark.data
def test_a_conformant_set_of_another_system_is_evaluated(data):
    found = answered("plan", data / "dicom_rt" / "conformant")
    assert found["prescription"] == {"dose_gy": 60.0, "n_fractions": 30}
    assert found["goals_judged"] > 0
    assert 0 < found["targets"]["PTV"]["paddick_conformity"] < 1
    assert "not described here" in " ".join(found["cautions"])


def test_a_plan_of_unknown_leaves_has_no_complexity_but_a_reason():
    found = figures(open_fields("elsewhere"), None, {}, {}, ())
    assert found["delivery_seconds"] is None
    assert "elsewhere" in str(found["complexity"])
    assert found["goals"] == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plan", "{}/CT"], "an RTPLAN"),
        (["plan", "{}/nothing"], "there is nothing"),
        (["plan", "{}/RTPLAN.dcm", "--structures", "{}/RTSTRUCT.dcm"], "give --dose"),
        (["plan", "{}/RTDOSE.dcm"], "expected a DICOM RT Plan"),
        (["plan", "{}", "--prescription", "60"], "such as 60/30"),
        (["plan", "{}", "--goals", "{}/RTDOSE.dcm"], "TOML"),
        (["plan", "{}", "--qatrack", "{}/q.json"], "--qatrack-list"),
        (["dose", "{}/RTDOSE.dcm", "--reference", "{}/RTPLAN.dcm"], "RT Dose"),
        (["dose", "{}/RTDOSE.dcm", "--reference", "{}/RTDOSE.dcm", "--gamma", "three"], "percent / mm"),
        (["dose", "{}/RTDOSE.dcm", "--reference", "{}/RTDOSE.dcm", "--gamma", "0/3"], "above 0"),
        (["dose", "{}/none.nii.gz", "--reference", "{}/RTDOSE.dcm"], "no file"),
    ],
)
def test_bad_input_ends_with_status_2_and_one_sentence(folder, arguments, sentence):
    result = run(*[word.format(folder) for word in arguments])
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "DOE" not in result.stderr
    assert "8842" not in result.stderr


@pytest.mark.parametrize("command", ["plan", "dose"])
def test_every_command_shows_an_example(command):
    assert f"spindose evaluate {command}" in run(command, "--help").output


def test_the_dose_of_another_plan_is_refused(folder, tmp_path):
    _, source = read_rtdose(folder / "RTDOSE.dcm")
    write_rtdose(dose_of(60.0), source, tmp_path / "other.dcm", plan_uid="1.2.3")
    result = run("plan", folder, "--dose", tmp_path / "other.dcm")
    assert result.exit_code == 2
    assert "another" in result.stderr


def test_doses_in_two_frames_are_not_compared(folder, tmp_path):
    source = complete(Source(patient_id="ID-8842", patient_name="DOE^JANE"))
    write_rtdose(dose_of(60.0), source, tmp_path / "other.dcm", plan_uid="1.2.3")
    result = run("dose", tmp_path / "other.dcm", "--reference", folder / "RTDOSE.dcm")
    assert result.exit_code == 2
    assert "one frame of reference" in result.stderr
