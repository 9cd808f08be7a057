import numpy as np
import pytest

from planning.dose import water
from planning.dose.spectrum import filtered, kerma_and_scerma, single


def _mean(spectrum):
    return float(spectrum.energy @ spectrum.fluence)


def test_lines_of_a_spectrum_add_up_to_one_photon_and_keep_its_mean_energy():
    found = filtered(6.0, 0.0)
    # Unfiltered: number 1/E - 1/6 between 0.1 and 6 MeV.
    number = np.log(60) - 5.9 / 6
    energy = 5.9 - (36 - 0.01) / 12
    assert found.fluence.sum() == pytest.approx(1)
    assert _mean(found) == pytest.approx(energy / number, rel=1e-3)
    assert (found.fluence[found.energy > 6] == 0).all()


def test_an_absorber_hardens_the_beam():
    means = [_mean(filtered(6.0, mm)) for mm in (0.0, 50.0, 200.0, 400.0)]
    assert (np.diff(means) > 0).all()


def test_released_energy_of_one_line_falls_as_its_attenuation():
    depth = np.array([0.0, 100.0, 200.0])
    e = np.array([2.0])
    terma = kerma_and_scerma(single(2.0), depth).sum(axis=0)
    np.testing.assert_allclose(terma, 2.0 * water.attenuation(e) * np.exp(-water.attenuation(e) * depth))


def test_collision_kerma_is_energy_times_absorption():
    kerma, _ = kerma_and_scerma(single(1.0), np.zeros(1))
    assert kerma[0] == pytest.approx(water.absorption(np.array([1.0]))[0], rel=0.01)


def test_kerma_grows_against_scerma_with_depth_as_the_beam_hardens():
    kerma, scerma = kerma_and_scerma(filtered(6.0, 150.0), np.linspace(0, 300, 10))
    assert (np.diff(kerma / scerma) > 0).all()


@pytest.mark.parametrize(("energy", "mm"), [(20.0, 1.0), (0.1, 1.0), (6.0, -1.0)])
def test_a_spectrum_that_cannot_be_is_refused(energy, mm):
    with pytest.raises(ValueError, match=r"expected a maximum energy of 0\.2-8 MeV"):
        filtered(energy, mm)


def test_a_line_without_a_kernel_is_refused():
    with pytest.raises(ValueError, match="expected one of the energies"):
        single(1.1)
