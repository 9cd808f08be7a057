"""What a walk tells of its plan on bulk water and on a true CT."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app import mri_only
from app.patient import Planned
from app.plan import walk_plan
from app.publish import publish
from app.request import Request, Sphere
from app.steps import Walk
from app.truth import truth_of_file
from imaging.case import Case
from imaging.dicom.header import complete
from imaging.dicom.writer import write_ct
from imaging.grid import axial
from imaging.nifti import write_nifti
from imaging.phantoms import sphere
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.density import relative_electron_density
from planning.dose.forward import calculate
from planning.machine import load_machine
from planning.plan import Plan, Prescription

RX = Prescription(60.0, 30)
MACHINE = load_machine("generic-6mv")
EDGE = np.full(3, 42.5)
GRID = axial(-EDGE, EDGE, (5.0, 5.0, 5.0))
SOURCE = complete(Source(), "a phantom")
BALL = sphere(GRID, np.zeros(3), 38.0)


def quiet(title: str, share: float) -> None:
    pass


def ct_of(hu: float, shift: int = 0) -> Volume:
    """The ball in a shell of something else, perhaps elsewhere."""
    inner = sphere(GRID, np.zeros(3), 26.0)
    data = torch.where(BALL, torch.where(inner, 0.0, hu), -1000.0)[None]
    return Volume(torch.roll(data, shift, dims=1), GRID, Quantity.HU, SOURCE.frame)


def planned(hu: float = 0.0) -> Planned:
    drawn = StructureSet(
        GRID,
        {
            "Body": Structure(BALL, RoiType.EXTERNAL, (0, 255, 0)),
            "PTV": Structure(sphere(GRID, np.zeros(3), 15.0), RoiType.PTV, (255, 0, 0), 60.0),
        },
        SOURCE.frame,
    )
    n = len(MACHINE.mlc.boundaries) - 1
    leaves = np.stack([np.full(n, -18.0), np.full(n, 18.0)])
    points = tuple(ControlPoint(m, 0.0, (-18.0, 18.0), (-20.0, 20.0), leaves) for m in (0.0, 1.0))
    plan = Plan((Beam(0.0, 0.0, 0.0, np.zeros(3), "1", 240.0, points),), RX, MACHINE.name)
    scan = Case({"mr": Volume(100 * BALL[None].float(), GRID, Quantity.MR, SOURCE.frame)}, source=SOURCE)
    ct = ct_of(hu)
    dose = calculate(plan, relative_electron_density(ct, BALL), GRID, MACHINE)
    return Planned(scan, ct, drawn, plan, dose)


def walk_at(out: Path, seen: list[str] | None = None) -> Walk:
    walk = Walk(out, quiet if seen is None else lambda title, _share: seen.append(title))
    walk.keys["dose"] = "0" * 64
    return walk


def test_a_plan_on_water_is_told_to_be_the_same_on_bulk_water(tmp_path):
    out = tmp_path / "out"
    publish(walk_at(out), planned(), Request(RX, seed=1), {"MRI": "a" * 64})
    told = json.loads((out / "plan.json").read_text())["mri_only"]
    assert told["true_ct"] is None
    assert told["bulk_water"]["agrees"] is True
    assert set(told["bulk_water"]["structures"]) == {"Body", "PTV"}
    ptv = told["bulk_water"]["structures"]["PTV"]
    for metric in ("mean", "d2", "d98"):
        # Water is 1 in the table of densities, so that nothing differs.
        assert ptv[f"{metric}_difference_gy"] == ptv[f"{metric}_difference_percent"] == 0
    page = (out / "review.html").read_text()
    assert "Mean dose of the PTV, synthetic CT − bulk water" in page
    assert "PTV Dmean, D2%, D98%, synthetic CT − bulk water" in page
    assert "+0.00, +0.00, +0.00 Gy (+0.0, +0.0, +0.0 %)" in page
    assert "true CT" not in page


def test_the_step_is_kept_and_made_again_when_there_is_a_true_dose(tmp_path):
    walk = walk_at(tmp_path / "out")
    here = planned()
    first = mri_only.walked(walk, here)
    seen: list[str] = []
    assert mri_only.walked(walk_at(tmp_path / "out", seen), here) == first
    assert all(not title.startswith("  ") for title in seen)
    walk.keys["true_dose"] = "1" * 64
    other = mri_only.walked(walk, here, Volume(here.dose.data * 0.9, GRID, Quantity.DOSE))
    assert other["true_ct"]["structures"]["PTV"]["mean_difference_percent"] > 5
    assert other["bulk_water"] == first["bulk_water"]


def test_a_synthetic_ct_without_the_bone_does_not_hold_on_the_true_ct(tmp_path):
    write_nifti(ct_of(1800.0), tmp_path / "ct.nii.gz")
    out = tmp_path / "out"
    walk, here = walk_at(out), planned()
    truth = truth_of_file(walk, here, tmp_path / "ct.nii.gz", "b" * 64)
    summary = publish(walk, here, Request(RX, seed=1), {"MRI": "a" * 64}, truth)
    told = json.loads((out / "plan.json").read_text())
    found = told["mri_only"]["true_ct"]
    assert found["agrees"] is False
    assert found["structures"] == told["true_ct"]["structures"]
    # 12 mm of bone of density 1.89 before the target: about 10 mm of water more, at 0.5 % a mm.
    assert 2 < found["structures"]["PTV"]["mean_difference_percent"] < 8
    assert sum("does not hold on the true CT" in caution for caution in told["cautions"]) == 1
    assert any(line.startswith("Synthetic CT against the true CT: PTV mean +") for line in summary.lines())
    assert summary.as_json()["mri_only"]["bulk_water"]["agrees"] is True
    assert "Dose on true CT" in (out / "review.html").read_text()


def test_a_synthetic_ct_far_from_water_is_cautioned_against(tmp_path):
    found = mri_only.check(planned(1800.0), walk_at(tmp_path / "out"))
    limit = found["bulk_water"]["tolerance"]["target_mean_percent"]
    found["bulk_water"]["structures"]["PTV"]["mean_difference_percent"] = -limit - 1
    found["bulk_water"]["agrees"] = False
    (said,) = mri_only.cautions(found)
    assert "PTV mean -6.0 %" in said
    assert next(row.met for row in mri_only.rows(found)) is False
    assert mri_only.cautions({}) == mri_only.rows({}) == ()
    assert mri_only.lines({}) == []


@pytest.mark.parametrize(
    ("shift", "frame", "sentence"),
    [(3, "", "heads of Dice"), (0, SOURCE.frame, "")],
)
def test_a_true_ct_that_lies_elsewhere_is_refused(tmp_path, shift, frame, sentence):
    write_nifti(ct_of(0.0, shift), tmp_path / "ct.nii.gz")
    arguments = (walk_at(tmp_path / "out"), planned(), tmp_path / "ct.nii.gz", "b" * 64, frame)
    if not sentence:
        assert truth_of_file(*arguments).ct.frame == SOURCE.frame
        return
    with pytest.raises(ValueError, match=sentence):
        truth_of_file(*arguments)


def test_a_true_ct_in_another_frame_than_the_mri_is_refused(tmp_path):
    other = complete(Source(), "another scan")
    write_ct(replace(ct_of(0.0), frame=other.frame), other, tmp_path / "CT")
    arguments = (walk_at(tmp_path / "out"), planned(), tmp_path / "CT", "b" * 64)
    with pytest.raises(ValueError, match="expected a true CT in the MRI's frame of reference"):
        truth_of_file(*arguments, SOURCE.frame)
    # An MRI without a header names no frame: its place is the word of whoever registered the CT.
    assert set(truth_of_file(*arguments, "").figures["structures"]) == {"Body", "PTV"}


def test_a_missing_true_ct_is_refused_before_anything_is_computed(tmp_path):
    write_nifti(Volume(BALL[None].float(), GRID, Quantity.MR), tmp_path / "mr.nii.gz")
    target, missing = Sphere(np.zeros(3), 10.0), tmp_path / "ct.nii.gz"
    with pytest.raises(ValueError, match="expected a true CT as a NIfTI file or a DICOM series"):
        walk_plan(tmp_path / "mr.nii.gz", target, tmp_path / "out", Request(RX), quiet, true_ct=missing)
    assert not (tmp_path / "out").exists()


def test_a_true_ct_of_half_the_head_is_refused(tmp_path):
    half = axial(-EDGE, EDGE * np.array([1.0, 1.0, 0.0]), (5.0, 5.0, 5.0))
    data = ct_of(0.0).data[..., : half.shape[2]]
    write_nifti(Volume(data, half, Quantity.HU), tmp_path / "ct.nii.gz")
    with pytest.raises(ValueError, match="true CT of the whole planned head"):
        truth_of_file(walk_at(tmp_path / "out"), planned(), tmp_path / "ct.nii.gz", "b" * 64)


def test_bone_in_the_plan_is_told_against_water(tmp_path):
    bony = planned(1800.0)
    found = mri_only.check(bony, walk_at(tmp_path / "out"))
    assert found["bulk_water"]["structures"]["PTV"]["mean_difference_percent"] < -2
