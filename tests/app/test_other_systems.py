"""Plans of other systems: read, given a machine, computed on a phantom."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from typer.testing import CliRunner

from app.cli import app
from app.single import Reading, read_with_machine
from imaging.dicom.writer import write_ct
from imaging.grid import Grid, axial
from imaging.nifti import read_nifti, write_nifti
from imaging.phantoms import water_box
from imaging.source import Source
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.dose.forward import calculate
from planning.machine import load_machine
from planning.plan import Plan, Prescription
from planning.rtplan import read_rtplan, write_rtplan

AGILITY = load_machine("agility-6mv")


def run(*arguments: object):
    return CliRunner().invoke(app, ["dose", *map(str, arguments)])


def said(result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("spindose: ")]


def phantom(path: Path, center: np.ndarray) -> Path:
    """80 mm of water around a place, in air."""
    box = water_box(80.0, 5.0)
    affine = box.grid.affine.copy()
    affine[:3, 3] += center
    write_nifti(Volume(box.data, Grid(box.grid.shape, affine), Quantity.HU), path)
    return path


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A 100 mm field of 100 MU, by another system: its machine is called otherwise."""
    leaves = np.zeros((2, 80))
    inside = np.abs(np.arange(-197.5, 200, 5)) < 50
    leaves[0, inside], leaves[1, inside] = -50.0, 50.0
    ends = tuple(ControlPoint(s, 0.0, (-200.0, 200.0), (-50.0, 50.0), leaves) for s in (0.0, 1.0))
    plan = Plan((Beam(0.0, 0.0, 0.0, np.zeros(3), "1", 100.0, ends),), Prescription(1.0, 1), AGILITY.name)
    source = Source(patient_id="1", study_uid="1.2.3", frame="1.2.4")
    write_rtplan(plan, AGILITY, source, tmp_path / "RP.dcm", structure_set_uid="1.2.5")
    dataset = pydicom.dcmread(tmp_path / "RP.dcm")
    dataset.BeamSequence[0].TreatmentMachineName = "LINAC 7"
    dataset.save_as(tmp_path / "RP.dcm")
    return tmp_path / "RP.dcm"


def edges(path: Path, boundaries: np.ndarray) -> None:
    """Another linac's leaves, 40 pairs instead of 80."""
    dataset = pydicom.dcmread(path)
    beam = dataset.BeamSequence[0]
    device = beam.BeamLimitingDeviceSequence[-1]
    device.LeafPositionBoundaries = [str(v) for v in boundaries]
    device.NumberOfLeafJawPairs = len(boundaries) - 1
    place = beam.ControlPointSequence[0].BeamLimitingDevicePositionSequence[-1]
    bank = np.where(np.abs((boundaries[:-1] + boundaries[1:]) / 2) < 50, 50.0, 0.0)
    place.LeafJawPositions = [str(v) for v in [*-bank, *bank]]
    dataset.save_as(path)


def test_a_machine_is_found_by_its_leaves_and_jaws_and_the_answer_says_so(foreign, tmp_path):
    """The 80 leaf pairs are those of three machines; one of them has jaws along y alone."""
    out = tmp_path / "dose.nii.gz"
    result = run(
        foreign, phantom(tmp_path / "ct.nii.gz", np.zeros(3)), "--out", out, "--spacing", 5, "--json"
    )
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["machine"] == "agility-6mv"
    assert facts["caution"].startswith("The plan is for a machine that is not described here")


def test_a_machine_that_is_named_is_taken_if_it_has_the_leaves(foreign, tmp_path):
    _, machine, _ = read_with_machine(foreign, Reading(machine="measured-6mv"))
    assert machine.name == "measured-6mv"
    ct = phantom(tmp_path / "ct.nii.gz", np.zeros(3))
    result = run(foreign, ct, "--out", tmp_path / "dose.nii.gz", "--machine", "millennium-6mv")
    assert result.exit_code == 2
    (sentence,) = said(result)
    assert "expected the 60 leaf pairs of millennium-6mv in beam 1, got 80 others; choose the" in sentence
    assert not (tmp_path / "dose.nii.gz").exists()


def test_leaves_that_no_machine_has_are_told_in_one_sentence_with_the_remedy(foreign, tmp_path):
    edges(foreign, np.arange(-200.0, 201.0, 10.0))
    ct = phantom(tmp_path / "ct.nii.gz", np.zeros(3))
    result = run(foreign, ct, "--out", tmp_path / "dose.nii.gz")
    assert result.exit_code == 2
    (sentence,) = said(result)
    assert "expected a machine with the plan's 40 leaf pairs" in sentence
    assert "name one with --machine, with --plan-leaves" in sentence
    # The same field by wider leaves, and the leaves and jaws of the machine do not count.
    doses = []
    for how in (["--machine", "generic-6mv", "--plan-leaves"], ["--machine", "agility-6mv", "--plan-leaves"]):
        result = run(foreign, ct, "--out", tmp_path / "dose.nii.gz", "--spacing", 5, *how)
        assert result.exit_code == 0, result.stderr
        assert "The leaves are the plan's" in result.stdout
        doses.append(read_nifti(tmp_path / "dose.nii.gz", Quantity.DOSE).data)
    assert float((doses[0] - doses[1]).abs().max()) < 0.02 * float(doses[0].max())


def test_leaves_of_the_plan_want_the_name_of_a_machine(foreign):
    with pytest.raises(ValueError, match="add --machine"):
        read_with_machine(foreign, Reading(plan_leaves=True))


def test_a_name_that_is_described_wins_over_leaves(foreign):
    dataset = pydicom.dcmread(foreign)
    dataset.BeamSequence[0].TreatmentMachineName = "generic-6mv"
    dataset.save_as(foreign)
    _, machine, cautions = read_with_machine(foreign)
    assert (machine.name, cautions) == ("generic-6mv", [])


def test_several_machines_with_the_leaves_are_all_named(foreign, tmp_path, monkeypatch):
    folder = Path(
        shutil.copytree(files("planning") / "machines" / "agility-6mv", tmp_path / "own" / "twin-6mv")
    )
    described = json.loads((folder / "machine.json").read_text())
    (folder / "machine.json").write_text(json.dumps({**described, "name": "twin-6mv"}))
    monkeypatch.setenv("SPINDOSE_MACHINES", str(folder.parent))
    with pytest.raises(ValueError, match="got agility-6mv, twin-6mv; choose with --machine"):
        read_with_machine(foreign)


@pytest.mark.parametrize(
    ("frame", "words"), [("", "got none; give the CT as NIfTI"), ("1.2.9", "in another")]
)
def test_a_plan_of_another_frame_is_not_computed_on_a_dicom_ct(foreign, tmp_path, frame, words):
    box = water_box(60.0, 10.0)
    source = Source(patient_id="1", study_uid="1.2.3", frame="1.2.4", study_date="20260101")
    write_ct(Volume(box.data, box.grid, box.quantity, source.frame), source, tmp_path / "CT")
    dataset = pydicom.dcmread(foreign)
    dataset.FrameOfReferenceUID = frame
    dataset.save_as(foreign)
    result = run(foreign, tmp_path / "CT", "--out", tmp_path / "dose.nii.gz")
    assert result.exit_code == 2
    (sentence,) = said(result)
    assert words in sentence


OTHERS = {
    "pymedphys_vmat_example.dcm": ("agility-6mv", Reading()),
    "pymedphys_06MV_plan.dcm": ("agility-6mv", Reading()),
    "conformant/RP.dcm": ("millennium-6mv", Reading()),
    "dicompyler_rtplan.dcm": ("millennium-6mv", Reading("millennium-6mv", any_energy=True)),
    "dvha_mlca_rtplan.dcm": (
        "agility-6mv",
        Reading("agility-6mv", plan_leaves=True, prescription=Prescription(52.0, 26), fraction_group=1),
    ),
}


@pytest.mark.data
@pytest.mark.parametrize("name", OTHERS)
def test_plans_of_other_systems_are_computed_on_a_phantom(data, tmp_path, name):
    """A hundred monitor units give about a gray, less what leaves and depth take."""
    expected, reading = OTHERS[name]
    plan, machine, _ = read_with_machine(data / "dicom_rt" / name, reading)
    assert machine.name == expected
    group, prescription = reading.fraction_group, plan.prescription
    bare = read_rtplan(data / "dicom_rt" / name, prescription=prescription, fraction_group=group)
    for own, untouched in zip(plan.beams, bare.beams, strict=True):
        assert (own.mu, own.name) == (untouched.mu, untouched.name)
        np.testing.assert_array_equal(
            [point.leaves for point in own.control_points],
            [point.leaves for point in untouched.control_points],
        )
    ct = phantom(tmp_path / "ct.nii.gz", plan.beams[0].isocenter)
    how: list[object] = ["--spacing", 5]
    how += ["--machine", reading.machine] if reading.machine else []
    how += ["--plan-leaves"] if reading.plan_leaves else []
    how += ["--any-energy"] if reading.any_energy else []
    how += ["--prescription", "52/26", "--fraction-group", 1] if reading.prescription else []
    result = run(data / "dicom_rt" / name, ct, "--out", tmp_path / "dose.nii.gz", *how, "--json")
    assert result.exit_code == 0, result.stderr
    mu = sum(beam.mu for beam in plan.beams) * plan.prescription.n_fractions
    assert 0.2 * mu < 100 * json.loads(result.stdout)["max_gy"] < 1.7 * mu


def test_a_prescription_in_other_fractions_than_the_plan_s_is_refused(foreign):
    """The dose of a fraction times another number would be another dose."""
    assert read_with_machine(foreign, Reading(prescription=Prescription(2.0, 1)))
    with pytest.raises(ValueError, match="in the 1 fractions of the plan, got 5"):
        read_with_machine(foreign, Reading(prescription=Prescription(2.0, 5)))


@pytest.mark.data
def test_a_plan_of_two_energies_is_refused_unless_that_is_meant(data):
    with pytest.raises(ValueError, match=r"expected 6 MV .* of millennium-6mv in beam 1, got 10 MV"):
        read_with_machine(data / "dicom_rt" / "dicompyler_rtplan.dcm", Reading("millennium-6mv"))


@pytest.mark.data
def test_open_fields_have_the_output_factors_that_another_system_states(data):
    """Ten square fields of 1000 MU, 101 mm deep at SSD 899 mm, with Monaco's dose of each: from 50 mm up the
    doses over that of the 100 mm field agree within 2 %, though the beams are two machines'."""
    path = data / "dicom_rt" / "pymedphys_06MV_plan.dcm"
    dataset = pydicom.dcmread(path, force=True)
    stated = {
        int(r.ReferencedBeamNumber): float(r.BeamDose)
        for r in dataset.FractionGroupSequence[0].ReferencedBeamSequence
    }
    plan, machine, _ = read_with_machine(path)
    isocenter = plan.beams[0].isocenter
    water = axial(
        isocenter + np.array([-150, -101, -150]), isocenter + np.array([150, 99, 150]), (5.0, 5.0, 5.0)
    )
    density = Volume(torch.ones((1, *water.shape)), water, Quantity.DENSITY)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = isocenter - 2
    ours = {}
    for number, beam in enumerate(plan.beams, start=1):
        one = Plan((beam,), plan.prescription, machine.name)
        ours[number] = float(calculate(one, density, Grid((3, 3, 3), affine), machine).data[0, 1, 1, 1])
    sides = {n: beam.control_points[0].jaws_y[1] * 2 for n, beam in enumerate(plan.beams, start=1)}
    middle = next(n for n, side in sides.items() if side == 100)
    ratios = {
        side: ours[n] / ours[middle] / (stated[n] / stated[middle]) for n, side in sides.items() if side >= 50
    }
    assert sorted(ratios) == [50, 70, 100, 150, 200, 300, 400]
    assert list(ratios.values()) == pytest.approx([1.0] * 7, abs=0.02)
