import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from imaging.warp import lattice
from planning.beams import Beam, ControlPoint
from planning.check.dvh import histograms, mean
from planning.check.robust import doses
from planning.displacement import carried_back, displaced, expect_displacement, most_of, steepness
from planning.machine import load_machine
from planning.plan import Plan, Prescription
from planning.scenarios import Scenario, distortion_scenarios, perturbed

MACHINE = load_machine("generic-6mv")
EDGE = np.full(3, 62.5)
GRID = axial(-EDGE, EDGE, (5.0, 5.0, 5.0))
BALL = Volume(sphere(GRID, np.zeros(3), 45.0)[None].float(), GRID, Quantity.DENSITY)


def field(u, grid=GRID):
    """A displacement that a function of positions gives."""
    at = lattice(grid)
    return Volume(u(at).T.reshape(3, *grid.shape).contiguous(), grid, Quantity.DISPLACEMENT)


def rigid(*shift):
    return field(lambda at: torch.tensor(shift, dtype=torch.float32).expand_as(at))


def plan():
    edges = MACHINE.mlc.boundaries
    leaves = np.full((2, len(edges) - 1), 20.0)
    leaves[0] *= -1
    points = tuple(ControlPoint(m, 0.0, (-20.0, 20.0), (-20.0, 20.0), leaves) for m in (0.0, 1.0))
    return Plan((Beam(0.0, 0.0, 0.0, np.zeros(3), "1", 100.0, points),), Prescription(60.0, 30), MACHINE.name)


def told(scenario, distortion=None):
    return next(doses(plan(), (scenario,), BALL, GRID, MACHINE, distortion=distortion, drawn=GRID))


def test_a_field_of_zeros_changes_nothing_to_the_bit():
    none = rigid(0.0, 0.0, 0.0)
    moved = perturbed(BALL, distortion_scenarios()[1], distortion=none)
    assert torch.equal(moved.data, BALL.data)
    assert torch.equal(told(distortion_scenarios()[1], none).data, told(Scenario("as planned")).data)


def test_voxels_that_are_not_displaced_keep_their_value_to_the_bit():
    noise = Volume(torch.rand(1, *GRID.shape), GRID, Quantity.DENSITY)
    one_side = field(lambda at: torch.where(at[:, :1] > 0, 2.0, 0.0) * torch.tensor([0.0, 1.0, 0.0]))
    out = displaced(noise, one_side).data
    assert torch.equal(out[:, :12], noise.data[:, :12])
    assert not torch.equal(out[:, 14:], noise.data[:, 14:])


def test_tissue_that_appears_too_far_left_truly_lies_further_right():
    point = torch.zeros(1, *GRID.shape)
    point[0, 15, 12, 12] = 1.0
    # Everything is drawn 5 mm, one voxel, too far to the left (+x).
    out = displaced(Volume(point, GRID, Quantity.DENSITY), rigid(5.0, 0.0, 0.0)).data
    assert float(out[0, 14, 12, 12]) == pytest.approx(1.0, abs=1e-5)
    assert float(out.sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("shift", [(5.0, 0.0, 0.0), (0.0, -5.0, 0.0), (0.0, 5.0, -5.0)])
def test_a_rigid_field_is_the_set_up_shift_of_the_opposite_sign(shift):
    by_field = told(Scenario("drawn elsewhere", distortion=1.0), rigid(*shift))
    by_shift = told(Scenario("lies elsewhere", shift=tuple(-d for d in shift)))
    # Whole voxels: nothing is interpolated, so that the tissue moves as the beams do the other way.
    assert float(by_shift.data.max()) > 30
    assert float((by_field.data - by_shift.data).abs().max()) < 0.001
    # Twice the field is twice the shift.
    twice = told(Scenario("twice", distortion=2.0), rigid(*(d / 2 for d in shift)))
    assert torch.allclose(twice.data, by_field.data, atol=1e-3)


def test_carried_back_along_a_ramp_by_a_stretch_is_the_dose_at_the_solved_place():
    ramp = Volume(30 + 0.2 * lattice(GRID)[:, 0].reshape(1, *GRID.shape), GRID, Quantity.DOSE)
    # x appears at 1.1 x: what was drawn at y lies at y / 1.1.
    stretch = field(lambda at: 0.1 * at)
    fine = axial(-EDGE / 2, EDGE / 2, (2.0, 2.0, 3.0))
    out = carried_back(ramp, stretch, 1.0, fine)
    there = lattice(fine)[:, 0].reshape(1, *fine.shape) / 1.1
    assert torch.allclose(out.data, 30 + 0.2 * there, atol=0.005)
    assert out.grid == fine
    drawn = StructureSet(
        GRID, {"Organ": Structure(sphere(GRID, np.array([20.0, 0, 0]), 12.0), RoiType.ORGAN, (0, 0, 255))}
    )
    middle = float(lattice(GRID)[drawn.mask("Organ").reshape(-1), 0].mean())
    seen = mean(histograms(carried_back(ramp, stretch, 1.0, GRID), drawn)["Organ"])
    assert seen == pytest.approx(30 + 0.2 * middle / 1.1, abs=0.01)


def test_steepness_is_the_slope_of_a_stretch_and_bounds_how_much_of_it_can_be_taken():
    assert steepness(field(lambda at: at * torch.tensor([0.1, 0.0, 0.0]))) == pytest.approx(0.1, rel=1e-4)
    assert most_of(field(lambda at: at * torch.tensor([0.1, 0.0, 0.0]))) == pytest.approx(9.5, rel=1e-3)
    assert most_of(rigid(1.0, 2.0, 3.0)) > 1e6


@pytest.mark.parametrize(
    ("wrong", "factor", "sentence"),
    [
        (rigid(25.0, 0.0, 0.0), 1.0, "at most 20 mm"),
        (rigid(15.0, 0.0, 0.0), 2.0, "at most 20 mm"),
        (field(lambda at: 3 * torch.sin(at)), 1.0, "folds tissue over"),
        (rigid(float("nan"), 0.0, 0.0), 1.0, "finite values"),
        (BALL, 1.0, "expected a volume in displacement"),
        (Volume(torch.zeros(1, *GRID.shape), GRID, Quantity.DISPLACEMENT), 1.0, "three components"),
    ],
)
def test_displacements_that_cannot_be_are_refused(wrong, factor, sentence):
    with pytest.raises(ValueError, match=sentence):
        expect_displacement(wrong, factor)


def test_a_field_that_leaves_the_body_out_or_lies_elsewhere_is_refused():
    scenario = distortion_scenarios()[1]
    half = axial(-EDGE, EDGE * np.array([0.0, 1.0, 1.0]), (5.0, 5.0, 5.0))
    with pytest.raises(ValueError, match="expected a displacement for the whole body"):
        perturbed(BALL, scenario, distortion=field(lambda at: 0 * at + 1, half))
    with pytest.raises(ValueError, match="expected a displacement field for the scenario"):
        perturbed(BALL, scenario)
    other = Volume(torch.zeros(3, *GRID.shape), GRID, Quantity.DISPLACEMENT, "1.2")
    with pytest.raises(ValueError, match="one frame of reference"):
        perturbed(Volume(BALL.data, GRID, Quantity.DENSITY, "1.3"), scenario, distortion=other)
