import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from imaging.warp import lattice
from planning.beams import Beam, ControlPoint
from planning.check.dvh import parts_of
from planning.check.robust import doses, histograms_in
from planning.displacement import displaced, expect_displacement, most_of, steepness, true_places
from planning.machine import load_machine
from planning.plan import Plan, Prescription
from planning.scenarios import Scenario, distortion_scenarios, perturbed

MACHINE = load_machine("generic-6mv")
EDGE = np.full(3, 62.5)
GRID = axial(-EDGE, EDGE, (5.0, 5.0, 5.0))
BALL = Volume(sphere(GRID, np.zeros(3), 45.0)[None].float(), GRID, Quantity.DENSITY)


DRAWN = StructureSet(
    GRID,
    {
        "CTV": Structure(sphere(GRID, np.zeros(3), 17.0), RoiType.CTV, (255, 0, 0)),
        "Organ": Structure(sphere(GRID, np.array([20.0, 0, 0]), 12.0), RoiType.ORGAN, (0, 0, 255)),
    },
)


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
    return next(doses(plan(), (scenario,), BALL, GRID, MACHINE, distortion=distortion))


def at_parts(scenario, distortion=None):
    """Doses of the parts of two structures, hottest last."""
    arguments = (plan(), (scenario,), BALL, parts_of(DRAWN), GRID, MACHINE)
    return {n: d.doses for n, d in next(histograms_in(*arguments, distortion=distortion)).items()}


def test_a_field_of_zeros_changes_nothing_to_the_bit():
    none = rigid(0.0, 0.0, 0.0)
    moved = perturbed(BALL, distortion_scenarios()[1], distortion=none)
    assert torch.equal(moved.data, BALL.data)
    assert torch.equal(told(distortion_scenarios()[1], none).data, told(Scenario("as planned")).data)
    moved, planned = at_parts(distortion_scenarios()[1], none), at_parts(Scenario("as planned"))
    assert all(np.array_equal(moved[name], planned[name]) for name in planned)


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
    by_field = at_parts(Scenario("drawn elsewhere", distortion=1.0), rigid(*shift))
    by_shift = at_parts(Scenario("lies elsewhere", shift=tuple(-d for d in shift)))
    # Whole voxels: nothing is interpolated, so that the tissue moves as the beams do the other way.
    for name, parts in by_shift.items():
        assert parts.max() > 20
        assert np.abs(by_field[name] - parts).max() < 0.005
    # Twice the field is twice the shift.
    twice = at_parts(Scenario("twice", distortion=2.0), rigid(*(d / 2 for d in shift)))
    assert np.abs(twice["Organ"] - by_field["Organ"]).max() < 0.005


def test_points_drawn_on_a_stretch_lie_where_it_is_undone():
    # x appears at 1.1 x: what was drawn at y lies at y / 1.1.
    drawn = np.random.default_rng(1).uniform(-50, 50, (1000, 3))
    found = true_places(drawn, field(lambda at: 0.1 * at))
    assert np.abs(found - drawn / 1.1).max() < 1e-3
    assert true_places(drawn, field(lambda at: 0.1 * at), 0.0) is drawn
    assert np.abs(true_places(drawn, field(lambda at: 0.1 * at), -1.5) - drawn / 0.85).max() < 1e-3


def test_steepness_is_the_slope_of_a_stretch_and_bounds_how_much_of_it_can_be_taken():
    assert steepness(field(lambda at: at * torch.tensor([0.1, 0.0, 0.0]))) == pytest.approx(0.1, rel=1e-4)
    assert most_of(field(lambda at: at * torch.tensor([0.1, 0.0, 0.0]))) == pytest.approx(20 / 6, rel=1e-3)
    assert most_of(field(lambda at: torch.sin(0.1 * at[:, :1]) * 1.0 + 0 * at)) < 11
    assert most_of(rigid(0.0, 4.0, 3.0)) == pytest.approx(4.0)
    assert most_of(rigid(0.0, 0.0, 0.0)) > 1e6
    expect_displacement(rigid(0.0, 4.0, 3.0), most_of(rigid(0.0, 4.0, 3.0)))


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
