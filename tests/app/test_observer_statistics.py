"""Statistics of readers against published worked examples and statsmodels."""

import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from app.observers.ranks import holm, mann_whitney, median_interval, quartiles, signed_rank, time_saving
from app.observers.volumes import bland_altman, icc_agreement, icc_consistency

# Shrout and Fleiss (1979), table 2: four judges of six targets.
JUDGED = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=np.float64
)
# Bland and Altman, Lancet 327, 307 (1986), table 1: peak flow (l/min) by a large and a mini meter.
LARGE = np.array(
    [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427], dtype=np.float64
)
MINI = np.array(
    [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451], dtype=np.float64
)


def test_icc_of_shrout_and_fleiss() -> None:
    two, three = icc_agreement(JUDGED), icc_consistency(JUDGED)
    # The intervals are those that the R package psych prints of this table.
    assert (two.value, two.low, two.high) == pytest.approx((0.290, 0.019, 0.761), abs=6e-4)
    assert (three.value, three.low, three.high) == pytest.approx((0.715, 0.342, 0.946), abs=6e-4)


def test_icc_of_subjects_that_are_all_alike_is_nothing_that_anybody_could_be_sure_of() -> None:
    alike = np.tile([1.0, 2.0, 4.0], (5, 1))
    agreement, consistency = icc_agreement(alike), icc_consistency(alike)
    assert agreement.value == 0
    assert np.isnan([agreement.low, agreement.high, consistency.value]).all()


def test_icc_of_raters_who_agree_is_one_and_who_differ_by_a_constant_consistent() -> None:
    volumes = np.array([[1.1, 1.1], [2.3, 2.3], [3.7, 3.7]])
    assert icc_agreement(volumes).value == icc_consistency(volumes).value == 1
    shifted = volumes + np.array([0.0, 1.0])
    assert icc_consistency(shifted).value == 1
    assert icc_agreement(shifted).value < 1
    with pytest.raises(ValueError, match="values that differ"):
        icc_agreement(np.ones((3, 2)))


def test_limits_of_bland_and_altmans_meters() -> None:
    found = bland_altman(LARGE, MINI)
    assert (found.n, found.bias.value, found.deviation) == (
        17,
        pytest.approx(-2.1, abs=0.05),
        pytest.approx(38.8, abs=0.05),
    )
    assert (found.bias.low, found.bias.high) == pytest.approx((-22.0, 17.8), abs=0.1)
    # They print limits of two deviations, and intervals by 3/n for the variance: 1/n + 1.96²/2/(n - 1) here.
    assert found.lower.value == pytest.approx(-2.1 - 1.96 * 38.8, abs=0.1)
    of_limit = found.upper.high - found.upper.value
    assert of_limit == pytest.approx(110.1 - 75.5, abs=0.4)
    assert found.upper.value - found.upper.low == pytest.approx(of_limit)


def test_mann_whitney_of_hollander_and_wolfe() -> None:
    # Nonparametric Statistical Methods (1973), p. 69: one-sided exact p 0.1272.
    at_term = np.array([0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46])
    early = np.array([1.15, 0.88, 0.90, 0.74, 1.21])
    assert mann_whitney(at_term, early) == pytest.approx(2 * 0.1272, abs=2e-4)
    assert math.isnan(mann_whitney(at_term, np.array([])))


def test_signed_rank_of_hollander_and_wolfe() -> None:
    # The same, p. 29: V = 40, one-sided exact p 0.01953.
    first = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    second = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    assert signed_rank(first - second) == pytest.approx(2 * 0.01953, abs=2e-5)
    assert signed_rank(np.zeros(5)) == 1


def test_holm_is_that_of_statsmodels_and_leaves_out_what_was_not_tested() -> None:
    p = [0.01, 0.04, 0.03, 0.005, 0.6]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    with_gap = holm([p[0], math.nan, *p[1:]])
    assert math.isnan(with_gap[1])
    assert with_gap[:1] + with_gap[2:] == pytest.approx(holm(p))


def test_interval_of_a_median_is_near_that_of_order_statistics() -> None:
    # Of 101 values the 41st and 61st hold the median at 95 % (binomial).
    values = np.arange(101.0)
    found = median_interval(values, seed=1)
    assert found.value == 50
    assert (found.low, found.high) == pytest.approx((40, 60), abs=2)
    assert found == median_interval(values, seed=1)


def test_halved_times_save_half() -> None:
    manual = np.array([10.0, 20.0, 30.0, 40.0, 16.0, 12.0])
    found = time_saving(manual, manual / 2, list("abcdee"))
    assert (found.n, found.patients) == (6, 5)
    assert found.percent == (50, 50, 50)
    assert found.total_percent == 50
    # All five patients save time: 2 of 2⁵ signs are as extreme.
    assert found.p == pytest.approx(2 / 32)
    assert found.manual == quartiles(manual)
