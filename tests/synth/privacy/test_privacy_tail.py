import math

import numpy as np
import pytest
import torch
from scipy import stats

from synth.privacy.tail import binomial_interval, exceedance, tail


@pytest.mark.parametrize(("n_hits", "n"), [(0, 20), (1, 200), (7, 50), (50, 50)])
def test_binomial_interval_is_scipys_exact_one(n_hits: int, n: int) -> None:
    theirs = stats.binomtest(n_hits, n).proportion_ci(method="exact")
    assert binomial_interval(float(n_hits), float(n)) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_no_hit_in_n_trials_excludes_the_rate_that_misses_n_times_in_one_of_forty() -> None:
    assert binomial_interval(0.0, 100.0)[1] == pytest.approx(1 - 0.025 ** (1 / 100))


@pytest.mark.parametrize(("n", "m", "rank"), [(10, 30, 1), (500, 200, 2), (1, 1, 1), (3000, 1000, 10)])
def test_exceedance_is_the_survival_of_the_beta_binomial(n: int, m: int, rank: int) -> None:
    theirs = stats.betabinom(n, rank, m + 1 - rank).sf(np.arange(n + 1) - 1)
    assert exceedance(n, float(rank), float(m + 1 - rank)).numpy() == pytest.approx(
        theirs, rel=1e-6, abs=1e-9
    )


def test_one_value_falls_below_the_least_of_m_once_in_m_plus_one() -> None:
    assert float(exceedance(1, 1.0, 24.0)[1]) == pytest.approx(1 / 25)


@pytest.mark.parametrize("m", [7, 100, 150, 1000])
def test_threshold_is_numpys_percentile_of_the_inverted_distribution(m: int) -> None:
    null = torch.randn(m, generator=torch.Generator().manual_seed(m))
    found = tail(torch.zeros(3), null)
    assert found.threshold == pytest.approx(float(np.percentile(null.numpy(), 1, method="inverted_cdf")))
    assert float((null < found.threshold).float().mean()) < 0.01


def test_independent_draws_are_flagged_as_seldom_as_the_alarm_says() -> None:
    # With 60 held-out images the percentile itself is uncertain: a binomial test against 1 % would flag many.
    draw = torch.Generator().manual_seed(5)
    found = [tail(torch.randn(300, generator=draw), torch.randn(60, generator=draw)) for _ in range(600)]
    shares = torch.tensor([f.share for f in found])
    error = float(shares.std()) / math.sqrt(600)
    assert float(shares.mean()) == pytest.approx(found[0].expected, abs=4 * error)
    assert sum(f.flagged for f in found) <= stats.binom(600, 0.01).ppf(0.9999)
    assert sum(f.low > 0.01 for f in found) > 60


def test_a_share_just_detectable_is_flagged_and_one_less_is_not() -> None:
    null = torch.arange(1.0, 201.0)
    limit = tail(torch.ones(100), null).detectable
    assert limit is not None
    n_needed = round(100 * limit)
    for n_near, flagged in ((n_needed, True), (n_needed - 1, False)):
        values = torch.cat([torch.zeros(n_near), torch.full((100 - n_near,), 50.0)])
        found = tail(values, null)
        assert found.share == pytest.approx(n_near / 100)
        assert found.flagged == flagged


def test_few_images_cannot_flag_anything() -> None:
    assert tail(torch.zeros(1), torch.ones(20)).detectable is None


def test_values_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        tail(torch.tensor([math.nan]), torch.ones(3))
    with pytest.raises(ValueError, match="none"):
        tail(torch.ones(2), torch.ones(0))
