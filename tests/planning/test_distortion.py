import numpy as np
import pytest
import torch

from imaging.grid import axial, positions
from imaging.phantoms import ellipsoid
from imaging.volume import Quantity, Volume
from planning.displacement import expect_displacement
from planning.distortion import (
    TISSUE_LESS_AIR_PPM,
    Scanner,
    distortion,
    field_ppm,
    parse_scanner,
    shimmed,
)

EDGE = np.full(3, 48.0)
GRID = axial(-EDGE, EDGE, (2.0, 2.0, 2.0))
AT = positions(GRID, np.indices(GRID.shape).reshape(3, -1).T.astype(np.float64))
RADIUS = np.linalg.norm(AT, axis=1)


def test_a_sphere_disturbs_the_field_around_it_as_a_dipole_and_not_inside():
    a, chi = 16.0, 9.0
    inside = a >= RADIUS
    found = field_ppm(chi * inside.reshape(GRID.shape).astype(np.float64), GRID).ravel()
    far = (1.3 * a < RADIUS) & (np.abs(AT).max(axis=1) < 44)
    cos = AT[:, 2] / np.maximum(RADIUS, 1e-9)
    # Schenck (1996): chi / 3 (a/r)³ (3 cos² θ − 1) outside; inside none once Lorentz's sphere is out.
    dipole = chi / 3 * (a / np.maximum(RADIUS, 1)) ** 3 * (3 * cos**2 - 1)
    assert np.abs(found - dipole)[far].max() < 0.05 * chi / 3
    assert np.corrcoef(found[far], dipole[far])[0, 1] > 0.999
    assert np.abs(found[0.6 * a > RADIUS]).max() < 0.05 * chi / 3


def test_a_long_cylinder_along_the_field_is_lifted_by_a_third_of_its_susceptibility():
    # It goes on beyond the scan, where a cut would have ends.
    radius = np.hypot(AT[:, 0], AT[:, 1])
    found = field_ppm(9.0 * (radius <= 14).reshape(GRID.shape).astype(np.float64), GRID).ravel()
    middle = np.abs(AT[:, 2]) < 20
    inside, outside = found[(radius < 8) & middle], found[(radius > 22) & (radius < 40) & middle]
    assert inside.mean() - outside.mean() == pytest.approx(3.0, abs=0.15)
    assert inside.std() < 0.1


def test_shims_take_away_what_is_linear_and_nothing_else():
    linear = (1.5 + AT @ np.array([0.02, -0.01, 0.03])).reshape(GRID.shape)
    square = (AT[:, 0] * AT[:, 1] / 500).reshape(GRID.shape)
    inside = (RADIUS < 40).reshape(GRID.shape)
    assert np.abs(shimmed(linear, inside)).max() < 1e-9
    assert np.abs(shimmed(linear + square, inside) - square).max() < 1e-9


def head(cavity=True):
    """An ellipsoid of water with a cavity of air towards the front."""
    data = ellipsoid(GRID, np.zeros(3), np.array([36.0, 44.0, 40.0])).float()
    if cavity:
        data[ellipsoid(GRID, np.array([0.0, -26.0, -8.0]), np.full(3, 10.0))] = 0.001
    return Volume(data[None], GRID, Quantity.DENSITY)


def test_gradients_displace_outward_with_the_cube_of_the_distance():
    found = distortion(head(False), Scanner(tesla=1e-6, gradient_mm=2.0), np.zeros(3))
    at = positions(found.grid, np.indices(found.grid.shape).reshape(3, -1).T.astype(np.float64))
    u = found.data.reshape(3, -1).numpy()
    expected = 2.0 * (np.linalg.norm(at, axis=1) / 100) ** 3
    assert np.allclose(np.linalg.norm(u, axis=0), expected, atol=1e-4)
    assert (np.einsum("in,ni->n", u, at) >= -1e-6).all()


def test_air_displaces_along_the_readout_in_proportion_to_field_and_bandwidth():
    one = distortion(head(), Scanner(3.0, 220.0, "y", 0.0))
    assert float(one.data[[0, 2]].abs().max()) == 0
    other = distortion(head(), Scanner(1.5, 440.0, "z", 0.0))
    assert torch.allclose(other.data[2], one.data[1] / 4, atol=1e-6)
    inside = ellipsoid(one.grid, np.zeros(3), np.array([34.0, 42.0, 38.0]))
    # A few ppm of 42.577 Hz/T at 3 T over 220 Hz/mm: up to millimetres beside air, tenths of one elsewhere.
    seen = one.data[1][inside].abs()
    assert 0.5 < float(seen.max()) < abs(TISSUE_LESS_AIR_PPM) * 42.577 * 3 / 220
    assert float(seen.median()) < 0.4
    flat = distortion(head(False), Scanner(3.0, 220.0, "y", 0.0)).data[1][inside].abs()
    assert float(flat.max()) < float(seen.max())
    expect_displacement(one)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"tesla": 0.0}, "expected up to 12 T"),
        ({"hz_per_mm": 1.0}, "10-5000"),
        ({"readout": "AP"}, "readout"),
    ],
)
def test_scanners_that_cannot_be_are_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        Scanner(**wrong)


def test_a_scanner_is_written_as_four_words():
    assert parse_scanner("1.5, 440,z,0") == Scanner(1.5, 440.0, "z", 0.0)
    for text in ("3,220,y", "3,fast,y,0.5", ""):
        with pytest.raises(ValueError, match="expected a scanner as tesla"):
            parse_scanner(text)


def test_air_alone_is_no_head():
    with pytest.raises(ValueError, match="expected a head with tissue"):
        distortion(Volume(torch.zeros(1, *GRID.shape), GRID, Quantity.DENSITY), Scanner())
