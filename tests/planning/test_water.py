import numpy as np
import pytest

from planning.dose import water

# XCOM (NIST Standard Reference Database 8), water: MeV; incoherent, photoelectric, total without
# coherent scattering (cm²/g).
XCOM = np.array(
    [
        (0.05, 0.1803, 2.725e-2, 0.2076),
        (0.06, 0.1770, 1.493e-2, 0.1920),
        (0.1, 0.1626, 2.763e-3, 0.1654),
        (0.2, 0.1353, 2.887e-4, 0.1356),
        (0.4, 0.1058, 3.493e-5, 0.1058),
        (0.6, 8.939e-2, 1.173e-5, 8.940e-2),
        (1.0, 7.066e-2, 3.681e-6, 7.066e-2),
    ]
)


def test_compton_scattering_is_that_of_thomson_for_slow_photons():
    thomson = 8 * np.pi / 3 * water.ELECTRON_RADIUS**2 * water.ELECTRON_DENSITY
    # 1 - 2α to first order.
    energy = np.array([1e-5])
    expected = thomson * (1 - 2 * energy / water.ELECTRON_MASS)
    np.testing.assert_allclose(water.compton(energy), expected, rtol=1e-4)


def test_compton_scattering_is_that_of_xcom_where_electrons_are_as_good_as_free():
    fast = XCOM[:, 0] >= 0.2
    np.testing.assert_allclose(water.compton(XCOM[fast, 0]) * 10, XCOM[fast, 1], rtol=5e-3)


def test_photoelectric_effect_left_over_from_absorption_is_that_of_xcom():
    slow = XCOM[:, 0] <= 0.2
    np.testing.assert_allclose(water.photoelectric(XCOM[slow, 0]) * 10, XCOM[slow, 2], rtol=0.03)


def test_attenuation_without_coherent_scattering_is_that_of_xcom():
    # Below 0.1 MeV electrons are bound, which Klein and Nishina do not know.
    np.testing.assert_allclose(water.attenuation(XCOM[2:, 0]) * 10, XCOM[2:, 3], rtol=0.013)
    np.testing.assert_allclose(water.attenuation(XCOM[3:, 0]) * 10, XCOM[3:, 3], rtol=5e-3)


def test_the_effects_add_up_to_the_total_of_fast_photons():
    energy = np.array([0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0])
    np.testing.assert_allclose(water.attenuation(energy), water.total_attenuation(energy), rtol=2e-3)


def test_pairs_need_two_electron_masses_and_come_more_often_with_energy():
    energy = np.array([0.5, 1.0, 1.02])
    assert (water.pair(energy) == 0).all()
    assert (np.diff(water.pair(np.linspace(1.1, 10, 50))) > 0).all()


def test_recoil_electrons_carry_what_absorption_and_bremsstrahlung_take():
    # Between the photoelectric effect and pairs absorption is the recoils' energy less 0.1-0.3 %
    # that they radiate.
    energy = np.array([0.3, 0.5, 0.8, 1.0])
    np.testing.assert_allclose(water.compton_transfer(energy), water.absorption(energy), rtol=3e-3)


def test_no_more_is_absorbed_than_is_attenuated():
    energy = np.geomspace(0.01, 20, 200)
    assert (water.absorption(energy) < water.total_attenuation(energy)).all()
    assert (water.compton_transfer(energy) < water.compton(energy)).all()


def test_range_is_the_sum_of_energy_over_stopping_power():
    energy = np.geomspace(0.1, 10, 2000)
    yields = water.radiation_yield(energy)
    # d(yield · E)/dE is the share that is radiated at E.
    radiated = np.gradient(yields * energy, energy)
    path = np.trapezoid((1 - radiated) / water.collision_stopping_power(energy), energy)
    expected = np.diff(water.csda_range(energy[[0, -1]]))[0]
    assert path == pytest.approx(expected, rel=2e-3)


def test_energy_of_range_inverts_range():
    energy = np.geomspace(0.011, 19, 50)
    np.testing.assert_allclose(water.energy_of_range(water.csda_range(energy)), energy, rtol=1e-9)


def test_an_energy_beyond_the_table_is_refused():
    with pytest.raises(ValueError, match=r"expected energies of 0\.01-20 MeV, got 30"):
        water.absorption(np.array([30.0]))
