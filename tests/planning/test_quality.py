import numpy as np
import pytest
import torch

from planning.dose.calibration import reference_dose
from planning.dose.cones import cones
from planning.dose.quality import (
    _STORED,
    _at_isocenter,
    _pencil_depth_dose,
    depths,
    on_axis,
    quality,
)
from planning.dose.spectrum import kernels, single
from planning.dose.terma import Source
from planning.machine import load_machine

MACHINE = load_machine("generic-6mv")


def test_stored_depth_doses_are_those_of_the_kernels():
    with np.load(_STORED, allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["energy"], kernels().energy)
        np.testing.assert_array_equal(stored["depth"], depths())
        line = single(2.0)
        found = on_axis(Source(line), cones(line), MACHINE, 100.0)
        np.testing.assert_allclose(found, stored["dose"][kernels().energy == 2.0][0], rtol=2e-3)


def test_depth_dose_is_the_machines_own_behind_the_build_up():
    found = quality(MACHINE)
    depth = depths()
    ours = on_axis(found.photons, found.cones, MACHINE, 100.0)
    own = _pencil_depth_dose(MACHINE, depth)
    ours /= np.interp(100.0, depth, ours)
    near = (depth >= 30) & (depth <= 230)
    np.testing.assert_allclose(ours[near], own[near], rtol=0.02)
    middle = (depth >= 50) & (depth <= 200)
    np.testing.assert_allclose(ours[middle], own[middle], rtol=0.01)


def test_output_of_a_field_that_was_not_fitted_is_the_machines_own():
    found = quality(MACHINE)
    for field in (40.0, 50.0, 80.0):
        ours = found.gray * _at_isocenter(found.photons, found.cones, MACHINE, field)
        assert ours == pytest.approx(reference_dose(MACHINE, field), rel=0.012)


def test_both_engines_give_the_same_dose_at_reference_conditions():
    found = quality(MACHINE)
    ours = found.gray * _at_isocenter(found.photons, found.cones, MACHINE, 100.0)
    assert ours == pytest.approx(reference_dose(MACHINE), rel=1e-6)


def test_photons_are_no_faster_than_the_accelerating_potential():
    spectrum = quality(MACHINE).photons.spectrum
    assert spectrum.fluence[spectrum.energy > MACHINE.energy_mv].sum() == 0
    # Mean energies of 6 MV beams are published between 1.5 and 2 MeV.
    assert 1.4 < spectrum.energy @ spectrum.fluence < 2.0


def test_the_linacs_head_scatters_a_few_percent():
    assert 0.02 < quality(MACHINE).photons.head_share < 0.10


def test_two_fits_are_identical():
    quality.cache_clear()
    one = quality(MACHINE)
    quality.cache_clear()
    other = quality(MACHINE)
    assert one.gray == other.gray
    assert torch.equal(torch.from_numpy(one.cones.rate), torch.from_numpy(other.cones.rate))
