from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.dose.aperture import FluenceMap
from planning.dose.forward import calculate
from planning.dose.superposition import _sectors, superpose
from planning.machine import load_machine
from planning.plan import Plan, Prescription

MACHINE = load_machine("generic-6mv")
# Water of 105 x 200 x 105 mm, its surface 100 mm before the isocentre, which is a voxel's corner in y.
BOX = axial(np.array([-52.5, -100.0, -52.5]), np.array([52.5, 100.0, 52.5]), (5.0, 4.0, 5.0))
DEPTH = np.arange(50) * 4.0 + 2
CENTERS = np.arange(-197.5, 200, 5)
ISO = np.zeros(3)


def _open(half=15.0, gantry=0.0, mu=100.0, name="1"):
    leaves = np.zeros((2, 80))
    inside = np.abs(CENTERS) < half + 2.4
    leaves[0, inside], leaves[1, inside] = -half, half
    ends = tuple(ControlPoint(s, gantry, (-half, half), (-half, half), leaves) for s in (0.0, 1.0))
    return Beam(gantry, 0.0, 0.0, ISO, name, mu, ends)


def _plan(*beams, fractions=1):
    return Plan(beams, Prescription(2.0, fractions), "generic-6mv")


def _slab(density=1.0, first=60.0, last=90.0, grid=BOX):
    data = torch.ones((1, *grid.shape))
    data[:, :, torch.from_numpy((first < DEPTH) & (last > DEPTH))] = density
    return Volume(data, grid, Quantity.DENSITY)


@cache
def _doses(density, last=90.0, half=15.0):
    """Dose of a field through a slab in water by both engines."""
    slab = _slab(density, last=last)
    found = [engine(_plan(_open(half)), slab, BOX, MACHINE).data[0] for engine in (superpose, calculate)]
    return found[0].numpy(), found[1].numpy()


def _ratio(density, last=90.0, half=15.0):
    """Collapsed cone over pencil beam on the axis, over what it is in water alone."""
    cone, pencil = (dose[10, :, 10] for dose in _doses(density, last, half))
    wet_cone, wet_pencil = (dose[10, :, 10] for dose in _doses(1.0, 90.0, half))
    return (cone / pencil) / (wet_cone / wet_pencil)


def _at(values, depth):
    return float(np.interp(depth, DEPTH, values))


def test_a_hundred_monitor_units_give_one_gray_at_reference_conditions():
    wide = axial(np.array([-102.5, -100.0, -102.5]), np.array([102.5, 100.0, 102.5]), (5.0, 4.0, 5.0))
    dose = superpose(_plan(_open(50.0)), _slab(grid=wide), wide, MACHINE)
    assert dose.quantity is Quantity.DOSE
    assert _at(dose.data[0, 20, :, 20].numpy(), 100.0) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("half", [15.0, 25.0])
def test_water_behind_the_build_up_gets_what_the_pencil_beam_gives(half):
    cone, pencil = (dose[10, :, 10] for dose in _doses(1.0, half=half))
    behind = (DEPTH > 25) & (DEPTH < 180)
    np.testing.assert_allclose(cone[behind], pencil[behind], rtol=0.025)


def test_edges_of_a_field_lie_where_the_pencil_beam_puts_them():
    cone, pencil = (dose[:, 25, 10] for dose in _doses(1.0, half=25.0))
    x = np.arange(-10, 11) * 5.0
    widths = [np.interp(-0.5, -d[10:] / d[10], x[10:]) for d in (cone, pencil)]
    assert widths[0] == pytest.approx(widths[1], abs=0.5)


def test_air_builds_dose_down_and_the_water_behind_it_builds_it_up_again():
    ratio = _ratio(0.0012)
    # Electrons leave the narrow column of air sideways; the pencil beam does not know.
    assert _at(ratio, 86) < 0.75
    # Just behind the cavity a pencil beam gives too much, by several percent.
    assert _at(ratio, 94) < 0.93
    assert _at(ratio, 94) < _at(ratio, 98) < _at(ratio, 106)
    assert _at(ratio, 150) == pytest.approx(1, abs=0.02)
    # Before the cavity only what the air does not scatter back is missing.
    assert 0.93 < _at(ratio, 58) < 1.0
    assert _at(ratio, 40) == pytest.approx(1, abs=0.01)


def test_a_wide_field_loses_less_in_air_than_a_narrow_one():
    assert _at(_ratio(0.0012, half=15.0), 86) < _at(_ratio(0.0012, half=25.0), 86) - 0.1


def test_bone_builds_dose_up_and_the_water_behind_it_builds_it_down_again():
    ratio = _ratio(1.6)
    assert _at(ratio, 58) < _at(ratio, 66) < _at(ratio, 86)
    assert _at(ratio, 86) > 1.02
    assert _at(ratio, 86) > _at(ratio, 106) > _at(ratio, 150)
    assert _at(ratio, 150) == pytest.approx(1, abs=0.015)


def test_the_penumbra_is_wider_in_lung():
    widths = []
    for density in (1.0, 0.25):
        cone, pencil = (d[10:, 30, 10] / d[10, 30, 10] for d in _doses(density, 150.0))
        x = np.arange(11) * 5.0
        widths.append([np.interp(-0.2, -d, x) - np.interp(-0.8, -d, x) for d in (cone, pencil)])
    assert widths[1][0] > 1.3 * widths[0][0]
    # The pencil beam's does not change.
    assert widths[1][1] == pytest.approx(widths[0][1], rel=0.05)


def test_dose_is_the_same_left_and_right_and_head_and_foot():
    dose = _doses(0.0012)[0]
    np.testing.assert_allclose(dose, dose[::-1], rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(dose, dose[:, :, ::-1], rtol=2e-3, atol=1e-4)


def test_dose_turns_with_beam_and_patient():
    cube = axial(np.full(3, -42.5), np.full(3, 42.5), (5.0, 5.0, 5.0))
    data = torch.ones((1, *cube.shape))
    data[:, 5:9, 3:6] = 0.2
    front = superpose(_plan(_open()), Volume(data, cube, Quantity.DENSITY), cube, MACHINE).data[0]
    # Gantry 90 enters from +x: depth along +y becomes depth along -x, and x becomes y.
    turned = data.transpose(1, 2).flip(1).contiguous()
    side = superpose(_plan(_open(gantry=90.0)), Volume(turned, cube, Quantity.DENSITY), cube, MACHINE)
    torch.testing.assert_close(side.data[0], front.transpose(0, 1).flip(0), rtol=5e-3, atol=1e-3)


def test_dose_is_that_of_all_fractions_and_of_all_beams():
    small = axial(np.full(3, -42.5), np.full(3, 42.5), (5.0, 5.0, 5.0))
    water = Volume(torch.ones((1, *small.shape)), small, Quantity.DENSITY)
    one, other = _open(gantry=30.0), _open(gantry=200.0, name="2")
    both = superpose(_plan(one, other, fractions=30), water, small, MACHINE).data
    apart = sum(superpose(_plan(beam), water, small, MACHINE).data for beam in (one, other))
    torch.testing.assert_close(both, 30 * apart, rtol=1e-4, atol=1e-5)


def test_neighbouring_directions_of_an_arc_share_their_cones_at_little_cost():
    small = axial(np.full(3, -42.5), np.full(3, 42.5), (5.0, 5.0, 5.0))
    water = Volume(torch.ones((1, *small.shape)), small, Quantity.DENSITY)
    points = tuple(
        replace(_open().control_points[0], meterset=n / 3, gantry=20.0 + 2.5 * n) for n in range(4)
    )
    arc = replace(_open(mu=90.0), control_points=points)
    still = [_open(gantry=21.25 + 2.5 * n, mu=30.0, name=str(n)) for n in range(3)]
    together = superpose(_plan(arc), water, small, MACHINE).data
    apart = superpose(_plan(*still), water, small, MACHINE).data
    assert float((together - apart).abs().max()) < 0.02 * float(apart.max())
    assert float((together - apart).square().mean().sqrt()) < 0.002 * float(apart.max())


def test_an_arc_is_cut_into_sectors():
    nothing = FluenceMap(torch.zeros((1, 1)), (0.0, 0.0), 1.0)
    states = [(_open(gantry=float(g % 360)), nothing) for g in range(340, 385, 3)]
    sectors = _sectors(states)
    assert [len(s) for s in sectors] == [3, 3, 3, 3, 3]


def test_a_small_dose_grid_does_not_hide_the_tissue_around_it():
    small = axial(np.array([-12.5, -20.0, -12.5]), np.array([12.5, 20.0, 12.5]), (5.0, 4.0, 5.0))
    dose = superpose(_plan(_open()), _slab(), small, MACHINE)
    assert dose.grid == small
    np.testing.assert_allclose(dose.data[0].numpy(), _doses(1.0)[0][8:13, 20:30, 8:13], rtol=1e-3)


def test_two_runs_give_identical_bytes():
    a, b = (superpose(_plan(_open(gantry=30.0)), _slab(), BOX, MACHINE).data for _ in range(2))
    assert torch.equal(a, b)


def test_progress_is_told_beam_by_beam():
    told = []
    beams = [_open(name="1"), _open(gantry=180.0, name="2")]
    superpose(_plan(*beams), _slab(), BOX, MACHINE, progress=lambda step, share: told.append((step, share)))
    assert told == [("superposition", 0.5), ("superposition", 1.0)]


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (replace(_plan(_open()), machine="another"), "expected the machine another"),
        (_plan(replace(_open(), control_points=())), "meterset rises from 0 to 1"),
        (_plan(replace(_open(), isocenter=np.array([0.0, 500.0, 0.0]))), "isocentre inside the scan"),
        (_plan(replace(_open(), isocenter=np.full(3, np.nan))), "a finite isocentre in LPS mm"),
        (_plan(_open(gantry=400.0)), "gantry angle of 0-360 degrees .* got 400"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(plan, says):
    with pytest.raises(ValueError, match=says):
        superpose(plan, _slab(), BOX, MACHINE)


def test_a_body_without_density_or_with_nan_is_refused():
    empty = Volume(torch.zeros((1, *BOX.shape)), BOX, Quantity.DENSITY)
    with pytest.raises(ValueError, match="expected a body with density"):
        superpose(_plan(_open()), empty, BOX, MACHINE)
    broken = _slab()
    broken.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        superpose(_plan(_open()), broken, BOX, MACHINE)


def test_a_coarse_grid_is_refused():
    coarse = axial(np.full(3, -42.0), np.full(3, 42.0), (6.0, 6.0, 6.0))
    with pytest.raises(ValueError, match="expected a dose grid of at most 5 mm"):
        superpose(_plan(_open()), _slab(), coarse, MACHINE)


def test_a_beam_that_meets_no_tissue_is_refused():
    data = torch.zeros((1, *BOX.shape))
    data[:, :2] = 1
    with pytest.raises(ValueError, match="expected tissue in the beam at gantry 0"):
        superpose(_plan(_open(5.0)), Volume(data, BOX, Quantity.DENSITY), BOX, MACHINE)
