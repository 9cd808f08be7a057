"""Plans through their files and back, with the benchmark's own phantom and plans, coarser."""

import importlib
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from planning.machine import load_machine

MACHINE = load_machine("millennium-6mv")
SPACING = 5.0


@pytest.fixture
def recomputed(monkeypatch):
    """The module of the benchmarks, which are no installed package."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    return importlib.import_module("benchmarks.recomputed")


@pytest.fixture
def fields(recomputed, tmp_path):
    """A set of files of a plan of standing fields."""
    recomputed.write_set(recomputed.standing_fields(MACHINE), MACHINE, tmp_path, SPACING)
    return tmp_path


@pytest.mark.tools
def test_plans_have_their_dose_again_once_they_are_read_and_every_file_is_valid(recomputed, tool):
    tool("dciodvfy")
    assert recomputed.figures(MACHINE.name, spacing=SPACING, step=10.0) == {
        "recomputed_plan_gamma_percent": pytest.approx(100.0, abs=0.1),
        "dciodvfy_errors": 0,
    }


def more_units(plan: Dataset) -> None:
    for reference in plan.FractionGroupSequence[0].ReferencedBeamSequence:
        reference.BeamMeterset = f"{1.03 * float(reference.BeamMeterset):.10g}"


def another_isocentre(plan: Dataset) -> None:
    for beam in plan.BeamSequence:
        x, y, z = beam.ControlPointSequence[0].IsocenterPosition
        beam.ControlPointSequence[0].IsocenterPosition = [x + 3, y, z]


@pytest.mark.parametrize("spoil", [more_units, another_isocentre])
def test_a_plan_that_changed_on_its_way_would_not_pass(recomputed, fields, spoil):
    """The figure can fail: 3 % more monitor units, or 3 mm aside."""
    plan = pydicom.dcmread(fields / "RTPLAN.dcm")
    spoil(plan)
    plan.save_as(fields / "RTPLAN.dcm")
    assert recomputed.gamma_of_set(fields, SPACING) < 95
