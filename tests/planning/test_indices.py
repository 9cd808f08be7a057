import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.check.dvh import Dvh, mean
from planning.check.indices import conformity, geud, gradient, homogeneity


def parts(*doses, volume_cc=1.0):
    return Dvh(np.sort(np.array(doses, dtype=np.float32)), volume_cc)


def ramp(low, high, volume_cc=1.0):
    """Every dose between two in the same volume."""
    n = 100_000
    return Dvh((low + (high - low) * (np.arange(n) + 0.5) / n).astype(np.float32), volume_cc)


def test_an_isodose_that_is_the_target_has_conformity_1():
    assert conformity(parts(60, volume_cc=10.0), parts(*[60] * 1 + [0] * 9, volume_cc=100.0), 60.0) == 1


def test_conformity_is_the_product_of_coverage_and_selectivity():
    # 8 of 10 cm³ of the target covered; the isodose has 16 cm³: 0.8 * 8/16.
    target = parts(*[60] * 8 + [50] * 2, volume_cc=10.0)
    body = parts(*[60] * 16 + [10] * 84, volume_cc=100.0)
    assert conformity(target, body, 60.0) == pytest.approx(0.4)


def test_an_isodose_that_nothing_reaches_has_conformity_0():
    assert conformity(parts(50, volume_cc=10.0), parts(50, 0, volume_cc=20.0), 60.0) == 0


def test_homogeneity_of_a_ramp_is_its_central_96_percent_over_the_middle():
    assert homogeneity(ramp(50, 70)) == pytest.approx(0.96 * 20 / 60, rel=1e-4)
    assert homogeneity(parts(60, 60)) == 0


def test_a_target_without_dose_has_no_homogeneity():
    with pytest.raises(ValueError, match="half of the target"):
        homogeneity(parts(0, 0))


def test_gradient_index_of_a_dose_that_falls_from_a_point_is_the_ratio_of_the_balls():
    # Dose 60 Gy (1 - r/R): the isodose of 40 Gy has radius R/3, that of 20 Gy 2R/3.
    n = 200_000
    r = ((np.arange(n) + 0.5) / n) ** (1 / 3)
    body = Dvh(np.sort(60 * (1 - r)).astype(np.float32), 100.0)
    assert gradient(body, 40.0) == pytest.approx(8, rel=1e-3)


def test_gradient_index_needs_an_isodose():
    with pytest.raises(ValueError, match="receives the prescription of 60 Gy"):
        gradient(parts(50), 60.0)


@pytest.mark.parametrize("a", [-10.0, -1.0, 0.5, 1.0, 2.0, 8.0])
def test_geud_of_a_ramp_is_its_integral(a):
    low, high = 20.0, 60.0
    power = a + 1
    integral = np.log(high / low) if power == 0 else (high**power - low**power) / power
    assert geud(ramp(low, high), a) == pytest.approx((integral / (high - low)) ** (1 / a), rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.5, 90, width=32), min_size=1, max_size=30), st.floats(0.2, 20))
def test_geud_rises_with_its_power_from_minimum_over_mean_to_maximum(doses, a):
    dvh = parts(*doses)
    low, high = min(doses), max(doses)
    assert geud(dvh, 1.0) == pytest.approx(mean(dvh), rel=1e-5)
    assert low * (1 - 1e-5) <= geud(dvh, -a) <= geud(dvh, a) * (1 + 1e-9) <= high * (1 + 1e-5)
    assert geud(dvh, a) <= geud(dvh, 2 * a) * (1 + 1e-9)


def test_geud_of_extreme_powers_is_finite():
    dvh = parts(1e-3, 30, 80)
    assert geud(dvh, 500.0) == pytest.approx(80, rel=0.01)
    assert geud(dvh, -500.0) == pytest.approx(1e-3, rel=0.01)


def test_a_target_with_a_part_without_dose_has_a_geud_of_0():
    assert geud(parts(0, 60, 60), -10.0) == 0


@pytest.mark.parametrize("a", [0.0, np.inf, np.nan])
def test_geud_needs_a_volume_effect(a):
    with pytest.raises(ValueError, match="volume effect other than 0"):
        geud(parts(1), a)
