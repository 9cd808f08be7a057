from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.volume import Quantity, Volume
from planning.beams import Beam
from planning.dose import water
from planning.dose.aperture import FluenceMap
from planning.dose.spectrum import filtered, single
from planning.dose.terma import Source, released
from planning.machine import load_machine

MACHINE = load_machine("generic-6mv")
# The isocentre, at 0, is the centre of voxel [10, 10, 10], 52.5 mm deep for gantry 0.
GRID = axial(np.array([-52.5, -52.5, -52.5]), np.array([52.5, 52.5, 52.5]), (5.0, 5.0, 5.0))
WATER = Volume(torch.ones((1, *GRID.shape)), GRID, Quantity.DENSITY)
BEAM = Beam(0.0, 0.0, 0.0, np.zeros(3))
LINE = Source(single(2.0))


def _open(half, value=1.0):
    n = 2 * half
    return FluenceMap(torch.full((n, n), value), (0.5 - half, 0.5 - half), 1.0)


def _released(photons=LINE, density=WATER, machine=MACHINE, beam=BEAM, fluence=None):
    return released(beam, fluence or _open(80), density, machine, photons).sum(dim=0)


def test_energy_falls_with_attenuation_and_the_square_of_the_distance():
    mu = float(water.attenuation(np.array([2.0]))[0])
    axis = _released()[10, :, 10].double().numpy()
    depth = np.arange(21) * 5 + 2.5
    expected = 2.0 * mu * np.exp(-mu * depth) * (1000 / (947.5 + depth)) ** 2
    np.testing.assert_allclose(axis, expected, rtol=1e-4)


def test_a_beam_hardens_on_its_way():
    kerma, scerma = released(BEAM, _open(80), WATER, MACHINE, Source(filtered(6.0, 100.0)))
    share = (kerma / scerma)[10, :, 10]
    assert bool((share.diff() > 0).all())


def test_released_energy_turns_with_the_beam():
    front = _released()
    side = _released(beam=replace(BEAM, gantry=90.0))
    # Gantry 90 enters from +x: what was depth along +y is depth along -x.
    torch.testing.assert_close(side[:, 10, 10].flip(0), front[10, :, 10], rtol=1e-4, atol=0)


def test_no_energy_is_released_outside_the_field_or_the_body():
    data = WATER.data.clone()
    data[:, :4] = 0
    found = _released(density=Volume(data, GRID, Quantity.DENSITY), fluence=_open(15))
    assert float(found[:4].abs().max()) == 0
    assert float(found[10, 10, 18]) == 0
    assert float(found[10, 10, 10]) > 0


def test_air_takes_as_much_energy_for_its_mass_as_the_water_before_it():
    data = WATER.data.clone()
    data[:, :, 10:] = 0.0012
    axis = _released(density=Volume(data, GRID, Quantity.DENSITY))[10, :, 10]
    behind = float(axis[15] / axis[10]) * ((1000 + 25) / 1000) ** 2
    assert behind == pytest.approx(1, abs=2e-3)


def test_an_edge_lies_where_half_of_the_open_fluence_is():
    edge = _released(fluence=FluenceMap(torch.ones((95, 160)), (-47.0, -79.5), 1.0))
    full = _released()
    share = (edge / full)[:, 10, 10]
    at = np.interp(0.5, share.numpy()[::-1][:6], (GRID.affine[0, 3] + 5 * np.arange(21))[::-1][:6])
    assert at == pytest.approx(47.5, abs=0.3)


def test_scatter_from_the_head_reaches_beyond_the_edge_and_is_missed_on_the_axis():
    scattered = Source(LINE.spectrum, 0.1)
    sharp, soft = (_released(photons=s, fluence=_open(15)) for s in (LINE, scattered))
    assert float(soft[10, 10, 18]) > 0
    # A Gaussian of 25 mm through an opening of 30 mm, either way.
    through = 0.4515**2
    expected = 1 - 0.1 + 0.1 * through
    assert float(soft[10, 10, 10] / sharp[10, 10, 10]) == pytest.approx(expected, abs=2e-3)


def test_horns_and_softening_of_the_machine_are_seen():
    radius = np.array([0.0, 60.0])
    horned = replace(
        MACHINE,
        beam=replace(
            MACHINE.beam,
            off_axis_radius=radius,
            off_axis_fluence=np.array([1.0, 1.06]),
            off_axis_depth=np.array([1.0, 1.0]),
        ),
    )
    ratio = (_released(machine=horned) / _released())[:, 10, 10]
    assert float(ratio[10]) == pytest.approx(1, abs=1e-4)
    assert float(ratio[18]) == pytest.approx(1.04, abs=1e-3)
