"""Patients of OpenKBP's layout planned with our beams: what is reachable is reached."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from app.openkbp_linear import Linear, linear_openkbp
from app.openkbp_plans import Mimicking, delivered_by, planned_openkbp, prepared
from imaging.grid import Grid
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.dose.influence import apply
from planning.machine import load_machine
from planning.predict.criteria import judged_by_criteria
from planning.predict.patient import Patient
from planning.predict.site import read_site

SHAPE, STEP = (36, 36, 20), 4.0
MACHINE = load_machine("generic-6mv")
SITE = replace(read_site("openkbp"), gantry=(0.0, 72.0, 144.0, 216.0, 288.0))
FEW = Mimicking(n_target=400, n_organ=100, n_tissue=150, max_iterations=60)


def _ball(center: tuple[float, float, float], radius: float) -> torch.Tensor:
    axes = [torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in SHAPE]
    away = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) * STEP - torch.tensor(center)
    return away.norm(dim=-1) < radius


@pytest.fixture(scope="module")
def patient() -> Patient:
    """A cylinder of water with a round target in its middle and a cord behind it."""
    affine = np.diag([STEP, STEP, STEP, 1.0])
    affine[:3, 3] = -STEP * (np.array(SHAPE) - 1) / 2
    grid = Grid(SHAPE, affine)
    i, j = (torch.arange(n) - (n - 1) / 2 for n in SHAPE[:2])
    water = ((i[:, None] ** 2 + j[None] ** 2).sqrt() * STEP < 65)[:, :, None].expand(SHAPE)
    ct = torch.where(water, 0.0, -1000.0)
    parts = {
        "PTV70": Structure(_ball((0, 0, 0), 18.0), RoiType.PTV, (255, 0, 0), 70.0),
        "SpinalCord": Structure(_ball((0, 38, 0), 9.0), RoiType.ORGAN, (0, 128, 255)),
    }
    return Patient(
        Volume(ct[None].float(), grid, Quantity.HU),
        StructureSet(grid, parts),
        Volume(water[None].to(torch.uint8), grid, Quantity.LABEL),
    )


@pytest.fixture(scope="module")
def open_fields(patient):
    """The dose of even fluence, with 70 Gy in the target on average: one that the beams can give."""
    ready = prepared(patient, MACHINE, SITE, FEW)
    even = torch.ones(ready.matrix.n_bixels)
    dose = delivered_by(ready, even, MACHINE, 35)
    factor = 70.0 / float(dose.data[0][patient.structures.mask("PTV70")].mean())
    return ready, even * factor, replace(dose, data=dose.data * factor)


def test_dose_on_the_grid_is_the_influence_times_the_weights(patient, open_fields):
    ready, weights, dose = open_fields
    at_points = apply(ready.matrix, weights) * 35
    on_grid = dose.data.reshape(-1)[ready.drawn.rows]
    assert float((at_points - on_grid).abs().max()) < 0.02 * 70


def test_a_dose_that_the_beams_can_give_is_mimicked(patient, open_fields):
    _, _, dose = open_fields
    found = planned_openkbp(patient, dose, MACHINE, SITE, FEW)
    assert found.off_gy < 0.7
    target = patient.structures.mask("PTV70")
    assert float((found.dose.data[0] - dose.data[0])[target].abs().mean()) < 0.7
    judged = judged_by_criteria(dose, patient.structures, SITE)
    assert [j.criterion.structure for j in found.judged] == ["SpinalCord", "PTV70"]
    assert [j.met for j in found.judged] == [j.met for j in judged]


def test_a_target_that_the_reference_leaves_cold_is_covered(patient, open_fields):
    # The reference gives 55 Gy there; the prescription's anchor, made strong, wins.
    _, _, dose = open_fields
    cold = dose.data.clone()
    target = patient.structures.mask("PTV70")
    cold[0, target] = 55.0
    found = planned_openkbp(
        patient, replace(dose, data=cold), MACHINE, SITE, replace(FEW, target=1.0, anchor=1000.0)
    )
    assert found.judged[-1].met
    left = planned_openkbp(patient, replace(dose, data=cold), MACHINE, SITE, replace(FEW, anchor=0.0))
    assert float(left.dose.data[0, target].mean()) == pytest.approx(55.0, abs=1.0)
    assert not left.judged[-1].met


def test_a_linear_model_keeps_what_the_beams_can_give(patient, open_fields):
    # Even weights do what is predicted, and even weights of squares are even weights of bixels.
    ready, _, dose = open_fields
    few = Linear(
        points=replace(FEW, n_target=150, n_organ=40, n_tissue=40), side=10.0, lumped=20.0, least=0.0
    )
    found = linear_openkbp(patient, dose, MACHINE, SITE, few)
    inside = patient.structures.mask("SpinalCord")
    assert float(found.dose.data[0, inside].mean()) < float(dose.data[0, inside].mean()) + 0.5
    target = patient.structures.mask("PTV70")
    assert float(found.dose.data[0, target].mean()) == pytest.approx(70.0, abs=2.0)
    assert len(found.weights) == ready.matrix.n_bixels


def test_no_dose_where_none_may_be(patient, open_fields):
    _, _, dose = open_fields
    assert float(dose.data[patient.possible.data == 0].max()) == 0.0


def test_leaves_of_another_width_are_refused(patient):
    with pytest.raises(ValueError, match="leaves as wide"):
        prepared(patient, load_machine("stacked-6mv"), SITE, FEW)


def test_a_site_without_angles_is_refused(patient):
    with pytest.raises(ValueError, match="gantry angles"):
        prepared(patient, MACHINE, replace(SITE, gantry=()), FEW)


def test_what_is_no_dose_is_refused(patient, open_fields):
    _, _, dose = open_fields
    with pytest.raises(ValueError, match="0 Gy or more"):
        planned_openkbp(patient, replace(dose, data=-dose.data), MACHINE, SITE, FEW)
    other = Volume(torch.zeros(1, 2, 2, 2), Grid((2, 2, 2), np.eye(4)), Quantity.DOSE)
    with pytest.raises(ValueError, match="patient's grid"):
        planned_openkbp(patient, other, MACHINE, SITE, FEW)


@pytest.mark.parametrize("change", [{"n_fractions": 0}, {"organ": -1.0}, {"n_target": 3}])
def test_priorities_and_points_that_cannot_be_are_refused(change):
    with pytest.raises(ValueError, match="to mimic with"):
        Mimicking(**change)
