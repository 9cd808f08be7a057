"""The whole walk on a coarse synthetic patient: slow, but it is the main job."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from app.cli import app
from app.demo import walk_demo
from app.first_plan import moved, read_first
from app.steps import file_hash
from imaging.folder import read_case
from imaging.grid import Grid, around, positions
from imaging.nifti import write_nifti
from imaging.resample import resample
from imaging.scan import read_scan
from imaging.structures import StructureSet
from imaging.volume import Quantity, Volume
from planning.check.gamma import gamma_pass
from synth.patient import patient

pytestmark = pytest.mark.slow

SPACING = 3.0  # mm, of the patient's scans


def quiet(title: str, share: float) -> None:
    pass


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("walk") / "demo"
    walk_demo(out, 1, quiet, SPACING)
    return out


def plan_facts(out: Path) -> dict:
    return json.loads((out / "plan.json").read_text())


def headers(out: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted((out / "dicom").rglob("*.dcm"))]


def test_the_target_is_covered(demo):
    met = {(g["structure"], g["goal"]): g["met"] for g in plan_facts(demo)["goals"]}
    assert met["PTV", "D95% >= 95 %"] is True


def test_the_plan_holds_on_the_true_ct(demo):
    found = plan_facts(demo)["true_ct"]
    assert abs(found["structures"]["PTV"]["mean_difference_percent"]) < 2.0
    assert found["gamma_2_2_percent"] > 95.0


def test_every_file_says_research_only_and_that_nobody_approved_the_model(demo):
    assert any("nobody has approved" in caution for caution in plan_facts(demo)["cautions"])
    assert "esearch use only" in plan_facts(demo)["note"]
    assert "esearch use only" in (demo / "review.html").read_text()
    for dataset in headers(demo):
        assert "RESEARCH ONLY UNAPPROVED MODEL" in dataset.SeriesDescription
        if "ApprovalStatus" in dataset:
            assert dataset.ApprovalStatus == "UNAPPROVED"


def test_ct_structures_plan_and_dose_share_one_frame_and_refer_to_each_other(demo):
    frame = read_case(demo / "scan").volumes["mr"].frame
    found = {d.Modality: d for d in headers(demo)}
    assert set(found) == {"CT", "RTSTRUCT", "RTPLAN", "RTDOSE"}
    assert {d.get("FrameOfReferenceUID", frame) for d in found.values()} == {frame}
    assert len({(d.PatientID, d.StudyInstanceUID) for d in found.values()}) == 1
    dose, plan = found["RTDOSE"], found["RTPLAN"]
    assert dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID
    structures = found["RTSTRUCT"].SOPInstanceUID
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structures


@pytest.mark.tools
def test_every_dicom_file_passes_dciodvfy(demo, dciodvfy):
    assert [e for p in sorted((demo / "dicom").rglob("*.dcm")) for e in dciodvfy(p)] == []


def test_the_written_rtplan_gives_the_dose_again(demo, tmp_path):
    out = tmp_path / "dose.nii.gz"
    arguments = ["dose", str(demo / "dicom" / "RTPLAN.dcm"), str(demo / "dicom" / "CT"), "--out", str(out)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    again, _ = read_scan(out, Quantity.DOSE)
    ours = read_case(demo / "dose").volumes["dose"]
    assert gamma_pass(ours, again, 1.0, 1.0, n_points=4000).pass_percent > 99.0


def test_walking_again_computes_nothing(demo):
    seen: list[str] = []
    before = file_hash(demo / ".steps")
    walk_demo(demo, 1, lambda title, share: seen.append(title) if 0 < share < 1 else None, SPACING)
    assert seen == []
    assert file_hash(demo / ".steps") == before


def test_killed_and_walked_again_one_seed_gives_the_same_files(demo, tmp_path):
    class Killed(BaseException):
        pass

    def kill(at: str):
        def progress(title: str, share: float) -> None:
            if title == at:
                raise Killed

        return progress

    out = tmp_path / "again"
    for step in ("Contours", "Dose of the segments", "DICOM"):
        with pytest.raises(Killed):
            walk_demo(out, 1, kill(step), SPACING)
    walk_demo(out, 1, quiet, SPACING)
    ours, theirs = (
        {p.relative_to(d): p for d_ in [d] for p in d_.rglob("*") if p.is_file()} for d in (out, demo)
    )
    assert ours.keys() == theirs.keys()
    for name, path in ours.items():
        if path.suffix == ".dcm":
            assert timeless(path) == timeless(theirs[name]), name
        # Seals and the report hash the DICOM files, which hold times.
        elif name.parts[0] != ".steps" and not name.name.startswith("report."):
            assert path.read_bytes() == theirs[name].read_bytes(), name


def timeless(path: Path) -> pydicom.Dataset:
    """A DICOM file without the moments at which it was made."""
    dataset = pydicom.dcmread(path)
    for element in list(dataset):
        if element.VR in {"DA", "TM", "DT"}:
            del dataset[element.tag]
    return dataset


def test_a_users_scan_and_sphere_become_a_covered_plan(demo, tmp_path):
    mr = read_case(demo / "scan").volumes["mr"]
    write_nifti(mr, tmp_path / "t1.nii.gz")
    structures = read_case(demo / "contours").structures
    inside = structures.mask("GTV").nonzero().double().mean(dim=0).numpy()
    x, y, z = structures.grid.affine[:3, :3] @ inside + structures.grid.affine[:3, 3]
    out = tmp_path / "plan"
    result = CliRunner().invoke(
        app,
        [
            "plan",
            "--allow-unapproved",
            str(tmp_path / "t1.nii.gz"),
            "--target",
            f"{x:.1f},{y:.1f},{z:.1f},15",
            "--out",
            str(out),
            "--json",
        ],
    )
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    met = {(g["structure"], g["goal"]): g["met"] for g in said["goals"]}
    assert met["PTV", "D95% >= 95 %"] is True
    drawn = read_case(out / "contours").structures
    assert torch.isfinite(read_case(out / "dose").volumes["dose"].data).all()
    assert plan_facts(out)["predicted"]["structures"]["PTV"]["predicted_mean_gy"] == pytest.approx(
        60.0, rel=0.1
    )
    assert float(drawn.mask("PTV").sum()) * drawn.grid.voxel_volume / 1000 == pytest.approx(
        4 / 3 * np.pi * 3.3**3, rel=0.4
    )


def test_a_target_outside_the_head_is_refused(demo, tmp_path):
    write_nifti(read_case(demo / "scan").volumes["mr"], tmp_path / "t1.nii.gz")
    result = CliRunner().invoke(
        app,
        [
            "plan",
            "--allow-unapproved",
            str(tmp_path / "t1.nii.gz"),
            "--target",
            "500,0,0,15",
            "--out",
            str(tmp_path / "plan"),
        ],
    )
    assert result.exit_code == 2
    assert "spindose: expected" in result.stderr


def motion() -> np.ndarray:
    """A known one: how a patient lies on another day."""
    found = np.eye(4)
    found[:3, :3] = Rotation.from_euler("xyz", [5, -3, 7], degrees=True).as_matrix()
    found[:3, 3] = [9.0, -12.0, 6.0]
    return found


@pytest.fixture(scope="module")
def another_day(demo) -> Volume:
    """The demo's scan of another day: moved, brighter, on a grid of its own."""
    mr = read_case(demo / "scan").volumes["mr"]
    placed = replace(mr, grid=Grid(mr.grid.shape, motion() @ mr.grid.affine), frame="1.2.3")
    scan = resample(placed, around(placed.grid, (SPACING,) * 3))
    return replace(scan, data=1.4 * scan.data)


def middle(structures: StructureSet, name: str) -> np.ndarray:
    inside = structures.mask(name).nonzero().double().mean(dim=0).numpy()
    return positions(structures.grid, inside[None])[0]


def test_a_first_plan_is_moved_to_where_another_days_scan_shows_the_head(demo, another_day):
    first = read_first(demo)
    found = moved(first, another_day, quiet)
    structures = found.case.structures
    assert structures is not None
    for name in ("GTV", "Brain", "Brainstem"):
        wanted = motion() @ np.append(middle(first.structures, name), 1.0)
        assert np.linalg.norm(middle(structures, name) - wanted[:3]) < 1.0, name
    assert structures.frame == found.case.volumes["ct"].frame == "1.2.3"
    told = float(found.cautions[0].split(" degrees")[0].split()[-1])
    turned = np.degrees(Rotation.from_matrix(motion()[:3, :3]).magnitude())
    assert told == pytest.approx(turned, abs=0.3)
    assert not any("changed" in caution for caution in found.cautions)


def test_another_days_tumour_is_planned_from_the_first_plan(demo, another_day, tmp_path):
    write_nifti(another_day, tmp_path / "day2.nii.gz")
    gtv = motion() @ np.append(middle(read_case(demo / "contours").structures, "GTV"), 1.0)
    target = ",".join(f"{v:.1f}" for v in gtv[:3]) + ",12"
    out = tmp_path / "plan"
    given = ["adapt", str(demo), str(tmp_path / "day2.nii.gz"), "--out", str(out), "--json"]
    result = CliRunner().invoke(app, [*given, "--target", target, "--seed", "3"])
    assert result.exit_code == 0, result.stderr
    met = {(g["structure"], g["goal"]): g["met"] for g in json.loads(result.stdout)["goals"]}
    assert met["PTV", "D95% >= 95 %"] is True
    facts, before = plan_facts(out), plan_facts(demo)
    drawn = read_case(out / "contours").structures
    assert drawn is not None
    assert np.linalg.norm(middle(drawn, "GTV") - gtv[:3]) < 1.0
    # A changed tumour is all that differs from what was asked then.
    assert facts["request"] == before["request"]
    assert facts["inputs"]["first plan"] == json.loads((demo / "report.json").read_text())["seal"]
    assert any("Adapted from an earlier plan" in caution for caution in facts["cautions"])
    for dataset in headers(out):
        assert "RESEARCH ONLY UNAPPROVED MODEL" in dataset.SeriesDescription


def test_another_patients_scan_is_refused(demo, tmp_path):
    write_nifti(patient(2, SPACING).volumes["t1"], tmp_path / "other.nii.gz")
    given = ["adapt", str(demo), str(tmp_path / "other.nii.gz"), "--out", str(tmp_path / "plan")]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2
    assert "expected a second MRI of the same head" in result.stderr


def test_an_altered_first_plan_is_refused(demo, tmp_path):
    shutil.copytree(demo, tmp_path / "first")
    plan = tmp_path / "first" / "plan.json"
    plan.write_text(plan.read_text().replace('"n_beams": 9', '"n_beams": 3'))
    with pytest.raises(ValueError, match=r"plan\.json changed"):
        read_first(tmp_path / "first")
