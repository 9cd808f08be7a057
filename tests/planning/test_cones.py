import numpy as np
import pytest
import torch

from imaging.grid import Grid
from planning.beams import Beam
from planning.dose.cones import _polyenergetic, cones, in_grid, spread
from planning.dose.point_kernel import RADII
from planning.dose.spectrum import filtered

SPECTRUM = filtered(6.0, 150.0)
CONES = cones(SPECTRUM)
SPACING = np.array([3.0, 3.0, 3.0])


def _spread(primary, scatter, density, directions=CONES.direction, spacing=SPACING):
    return spread(primary, scatter, density, spacing, directions, CONES)


def _random(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_cones_hold_all_energy_of_both_parts():
    assert CONES.weight[:, :2].sum() == pytest.approx(1, abs=1e-9)
    assert CONES.weight[:, 2:].sum() == pytest.approx(1, abs=1e-9)


def test_cones_are_their_own_mirror_images_and_quarter_turns():
    np.testing.assert_allclose(np.linalg.norm(CONES.direction, axis=1), 1)
    found = {tuple(row) for row in np.round(CONES.direction, 6) + 0.0}
    for turn in (
        np.diag([-1.0, 1, 1]),
        np.diag([1.0, -1, 1]),
        np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    ):
        assert {tuple(row) for row in np.round(CONES.direction @ turn.T, 6) + 0.0} == found


def test_no_cone_takes_energy_back():
    r = np.geomspace(0.01, 1000, 300)[:, None]
    for part in (slice(0, 2), slice(2, 4)):
        rate, weight = CONES.rate[:, part], CONES.weight[:, part]
        left = (weight[:, None] * rate[:, None] * np.exp(-r * rate[:, None])).sum(axis=2)
        assert (left >= -1e-9 * left.max()).all()


def test_energy_within_each_distance_is_that_of_the_point_kernel():
    edges = RADII[1:-1]
    for part, kernel in zip((slice(0, 2), slice(2, 4)), _polyenergetic(SPECTRUM), strict=True):
        within = np.cumsum(kernel.sum(axis=0))[:-1]
        ours = (-np.expm1(-edges[:, None, None] * CONES.rate[:, part]) * CONES.weight[:, part]).sum(
            axis=(1, 2)
        )
        np.testing.assert_allclose(ours, within, atol=0.015)


def test_all_energy_stays_in_a_box_that_is_thick_enough():
    # Some hundred times as dense as water: the box is metres wide.
    density = 200 + 200 * _random((14, 15, 13))
    primary, scatter = torch.zeros(density.shape), torch.zeros(density.shape)
    primary[6, 7, 6], scatter[7, 7, 6] = 1.0, 2.0
    dose = _spread(primary, scatter, density)
    released = float(((primary + scatter) * density).sum())
    assert float((dose * density).sum()) == pytest.approx(released, rel=5e-3)


def test_what_is_released_evenly_stays_where_it_is_released():
    even = torch.ones((21, 21, 21))
    dose = _spread(even, 0.5 * even, 200 * even)
    assert float(dose[10, 10, 10]) == pytest.approx(1.5, rel=5e-3)


def test_dose_follows_density_as_it_follows_size():
    # O'Connor, Phys. Med. Biol. 1, 352 (1957).
    primary, scatter, density = (_random((9, 8, 7), n) for n in range(3))
    once = _spread(primary, scatter, density + 0.5)
    denser = _spread(primary, scatter, 2 * (density + 0.5), spacing=SPACING / 2)
    # The thinnest air that is told from nothing, which surrounds the box, does not follow.
    torch.testing.assert_close(once, denser, rtol=1e-3, atol=1e-4)


def test_mirrored_and_turned_sources_give_mirrored_and_turned_doses():
    primary, scatter, density = (_random((9, 9, 7), n) + 0.3 for n in range(3))
    dose = _spread(primary, scatter, density)
    for turn in (lambda v: v.flip(0), lambda v: v.flip(1), lambda v: v.transpose(0, 1)):
        turned = _spread(*(turn(v).contiguous() for v in (primary, scatter, density)))
        torch.testing.assert_close(turned, turn(dose), rtol=1e-4, atol=1e-5)


def test_a_source_may_be_split():
    primary, scatter, density = (_random((7, 8, 9), n) + 0.3 for n in range(3))
    zero = torch.zeros_like(primary)
    whole = _spread(primary, scatter, density)
    parts = _spread(primary, zero, density) + _spread(zero, scatter, density)
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)


def test_electrons_fly_far_in_air_and_their_energy_is_missing_near_by():
    water = torch.ones((21, 21, 31))
    air = water.clone()
    air[:, :, 12:] = 0.0012
    source = torch.zeros_like(water)
    source[10, 10, 8:12] = 1.0
    zero = torch.zeros_like(source)
    here, there = _spread(source, zero, water), _spread(source, zero, air)
    assert float(there[10, 10, 11]) == pytest.approx(float(here[10, 10, 11]), rel=0.1)
    # Beside the axis, far behind: nothing in water, electrons in air.
    assert float(there[13, 10, 25]) > 10 * float(here[13, 10, 25])


def test_cones_point_where_the_beam_goes():
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    grid = Grid((3, 3, 3), affine)
    for gantry, way in ((0.0, [0, 1, 0]), (90.0, [-1, 0, 0]), (180.0, [0, -1, 0])):
        mean = in_grid(CONES, Beam(gantry, 0.0, 0.0, np.zeros(3)), grid).T @ CONES.weight[:, 0]
        np.testing.assert_allclose(mean / np.linalg.norm(mean), way, atol=1e-6)
