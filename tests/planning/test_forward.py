from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import axial, positions
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.dose.aperture import transmitted
from planning.dose.bixel_dose import FULL_CUTOFF
from planning.dose.bixels import Bixels
from planning.dose.forward import calculate
from planning.dose.influence import apply, influence
from planning.machine import load_machine
from planning.plan import Plan, Prescription

MACHINE = load_machine("generic-6mv")
# Water from y = -100 mm: with the isocentre at 0, the reference conditions of the machine.
# The dose grid continues its lattice, so that the surface stays where it is.
DEEP = 40 / 9  # a voxel's size along y that puts the isocentre into the middle of one
BOX = axial(np.array([-122.5, -100.0, -122.5]), np.array([122.5, 60.0, 122.5]), (5.0, DEEP, 5.0))
WATER = Volume(torch.ones((1, *BOX.shape)), BOX, Quantity.DENSITY)
GRID = axial(np.array([-17.5, -3.5 * DEEP, -17.5]), np.array([17.5, 3.5 * DEEP, 17.5]), (5.0, DEEP, 5.0))
MIDDLE = (0, 3, 3, 3)
ISO = np.zeros(3)
ONCE = Prescription(2.0, 1)
CENTERS = np.arange(-197.5, 200, 5)


def _leaves(half, x0=None, x1=None):
    leaves = np.zeros((2, 80))
    inside = np.abs(CENTERS) < half
    leaves[0, inside] = -half if x0 is None else x0
    leaves[1, inside] = half if x1 is None else x1
    return leaves


def _point(meterset, leaves, jaw=50.0, gantry=0.0):
    return ControlPoint(meterset, gantry, (-jaw, jaw), (-jaw, jaw), leaves)


def _open(mu=100.0, half=50.0, jaw=None):
    leaves, jaw = _leaves(half), half if jaw is None else jaw
    return Beam(0.0, 0.0, 0.0, ISO, "1", mu, (_point(0.0, leaves, jaw), _point(1.0, leaves, jaw)))


def _plan(*beams, prescription=ONCE):
    return Plan(beams, prescription, "generic-6mv")


def test_a_hundred_monitor_units_give_one_gray_at_reference_conditions():
    dose = calculate(_plan(_open()), WATER, GRID, MACHINE)
    assert dose.quantity is Quantity.DOSE
    assert float(dose.data[MIDDLE]) == pytest.approx(1.0, abs=0.002)


def test_dose_is_that_of_all_fractions():
    once = calculate(_plan(_open(half=20.0)), WATER, GRID, MACHINE)
    all_of_them = calculate(
        _plan(_open(half=20.0), prescription=Prescription(60.0, 30)), WATER, GRID, MACHINE
    )
    torch.testing.assert_close(all_of_them.data, 30 * once.data)


def test_an_aperture_of_whole_bixels_equals_the_influence_of_those_bixels():
    machine = replace(MACHINE, mlc=replace(MACHINE.mlc, transmission=0.0))
    dose = calculate(_plan(_open(half=15.0)), WATER, GRID, machine)
    edge = np.arange(-12.5, 15, 5.0)
    bixels = Bixels(np.stack([a.ravel() for a in np.meshgrid(edge, edge, indexing="ij")], axis=1))
    points = positions(GRID, np.argwhere(np.ones(GRID.shape)).astype(np.float64))
    matrix = influence([_open()], [bixels], WATER, points, machine, cutoff=FULL_CUTOFF)
    expected = apply(matrix, torch.full((36,), 100 * machine.fluence_per_mu)).reshape(dose.data.shape)
    assert float((dose.data - expected).abs().max()) <= 1e-3 * float(expected.max())


def test_closed_leaves_let_their_transmission_through():
    shut = np.zeros((2, 80))
    closed = replace(_open(), control_points=(_point(0.0, shut), _point(1.0, shut)))
    ratio = (
        calculate(_plan(closed), WATER, GRID, MACHINE).data[MIDDLE]
        / calculate(_plan(_open()), WATER, GRID, MACHINE).data[MIDDLE]
    )
    assert float(ratio) == pytest.approx(MACHINE.mlc.transmission, rel=1e-4)


def test_segments_add_up_in_proportion_to_their_monitor_units():
    left, right, shut = _leaves(20.0, -20.0, 0.0), _leaves(20.0, 0.0, 20.0), np.zeros((2, 80))
    shares, shapes = (0.0, 0.5, 0.5, 1.0), (left, left, right, right)
    halves = tuple(_point(s, leaves, 20.0) for s, leaves in zip(shares, shapes, strict=True))
    split = replace(_open(), control_points=halves)
    shade = replace(_open(50.0), control_points=(_point(0.0, shut, 20.0), _point(1.0, shut, 20.0)))
    # Where one half is open the other one's leaves transmit: that comes on top of an open field.
    expected = calculate(_plan(_open(50.0, 20.0), shade), WATER, GRID, MACHINE).data
    dose = calculate(_plan(split), WATER, GRID, MACHINE).data
    torch.testing.assert_close(dose, expected, rtol=1e-3, atol=1e-5)


def test_a_sliding_window_gives_each_bixel_the_time_it_is_open():
    machine = replace(MACHINE, mlc=replace(MACHINE.mlc, transmission=0.0))
    start, end = _leaves(20.0, -20.0, -20.0), _leaves(20.0, 20.0, 20.0)
    # Bank B runs ahead in the first half, bank A follows in the second.
    points = (_point(0.0, start, 20.0), _point(0.5, _leaves(20.0), 20.0), _point(1.0, end, 20.0))
    sliding = Beam(0.0, 0.0, 0.0, ISO, "1", 100.0, points)
    dose = calculate(_plan(sliding), WATER, GRID, machine).data
    # Every bixel is open for half of the time.
    expected = calculate(_plan(_open(50.0, 20.0)), WATER, GRID, machine).data
    torch.testing.assert_close(dose, expected, rtol=1e-3, atol=1e-5)


def test_an_arc_of_a_full_turn_is_the_mean_of_its_directions():
    leaves = _leaves(10.0)
    points = tuple(_point(n / 4, leaves, 10.0, n * 90.0 % 360) for n in range(5))
    arc = calculate(_plan(Beam(0.0, 0.0, 0.0, ISO, "1", 100.0, points)), WATER, GRID, MACHINE).data
    still = []
    for angle in (45.0, 135.0, 225.0, 315.0):
        ends = tuple(_point(s, leaves, 10.0, angle) for s in (0.0, 1.0))
        still.append(Beam(angle, 0.0, 0.0, ISO, "1", 25.0, ends))
    torch.testing.assert_close(arc, calculate(_plan(*still), WATER, GRID, MACHINE).data)


@pytest.mark.parametrize(
    ("at", "expected"),
    [((0.0, 0.0), 1.0), ((10.0, 0.0), 0.5), ((-10.0, 0.0), 0.5), ((10.0, 9.0), 0.35), ((20.0, 0.0), 0.0)],
)
def test_a_cut_bixel_gets_the_share_of_its_area(at, expected):
    mlc = replace(MACHINE.mlc, transmission=0.0)
    share = transmitted(
        _leaves(20.0, -10.0, 10.0),
        (-20.0, 20.0),
        (-20.0, 10.0),
        Bixels(np.array([at])),
        replace(MACHINE, mlc=mlc),
    )
    assert share[0] == pytest.approx(expected)


def test_a_small_dose_grid_does_not_hide_the_tissue_before_it():
    ends = np.array([-57.5, 2 * DEEP - 100, -57.5]), np.array([57.5, 60 - 2 * DEEP, 57.5])
    whole = axial(*ends, (5.0, DEEP, 5.0))
    small = calculate(_plan(_open(half=15.0)), WATER, GRID, MACHINE).data[MIDDLE]
    index = np.rint(np.linalg.inv(whole.affine) @ [0, 0, 0, 1])[:3].astype(int)
    large = calculate(_plan(_open(half=15.0)), WATER, whole, MACHINE).data[(0, *index)]
    assert float(small) == pytest.approx(float(large), rel=1e-3)


def test_two_runs_give_identical_bytes():
    plan = _plan(_open(half=15.0), replace(_open(half=10.0), gantry=30.0))
    a, b = (calculate(plan, WATER, GRID, MACHINE).data for _ in range(2))
    assert torch.equal(a, b)


def _with(**changes):
    points = tuple(replace(p, **changes) for p in _open().control_points)
    return _plan(replace(_open(), control_points=points))


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (Plan((_open(),), ONCE, "another"), "expected the machine another"),
        (_plan(replace(_open(), control_points=())), "meterset rises from 0 to 1"),
        (_with(meterset=1.0), "meterset rises from 0 to 1"),
        (_with(leaves=np.zeros((2, 60))), "expected 80 leaf pairs"),
        (_with(leaves=_leaves(50.0, 10.0, -10.0)), "leaves that overlap"),
        (_with(jaws_x=(-300.0, 300.0)), "jaws that open within 200 mm"),
        (_with(gantry=400.0), "gantry angle of 0-360 degrees .* got 400"),
        (_with(gantry=float("nan")), "gantry angle of 0-360 degrees .* got nan"),
        (_plan(replace(_open(), gantry=400.0)), "gantry angle of 0-360 degrees .* got 400"),
        (_plan(replace(_open(), collimator=-90.0)), "collimator angle of 0-360 degrees .* got -90"),
        (_plan(replace(_open(), couch=180.0)), "couch angle from 265 to 95 degrees .* got 180"),
        (_plan(replace(_open(), isocenter=np.array([0.0, np.nan, 0.0]))), "a finite isocentre in LPS mm"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(plan, says):
    with pytest.raises(ValueError, match=says):
        calculate(plan, WATER, GRID, MACHINE)


def test_a_density_with_nan_is_refused():
    data = WATER.data.clone()
    data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        calculate(_plan(_open()), Volume(data, BOX, Quantity.DENSITY), GRID, MACHINE)


def test_a_dose_grid_coarser_than_the_leaves_is_refused():
    coarse = axial(np.full(3, -24.0), np.full(3, 24.0), (6.0, 6.0, 6.0))
    with pytest.raises(ValueError, match="at most 5 mm, got voxels of 6 mm"):
        calculate(_plan(_open()), WATER, coarse, MACHINE)


def test_progress_is_told_beam_by_beam():
    told = []
    beams = [replace(_open(half=10.0), name=str(n)) for n in range(3)]
    calculate(_plan(*beams), WATER, GRID, MACHINE, progress=lambda step, share: told.append((step, share)))
    assert told == [("dose", 1 / 3), ("dose", 2 / 3), ("dose", 1.0)]
