"""How measured volumes agree: Bland and Altman's limits, and correlation within classes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import stats

Values = Float64[np.ndarray, " n"]
Ratings = Float64[np.ndarray, "subjects raters"]


@dataclass(frozen=True)
class Estimate:
    """A figure and its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Limits:
    """Bias of one way to measure against another, and the limits that hold 95 % of their differences."""

    n: int
    deviation: float
    bias: Estimate
    lower: Estimate
    upper: Estimate


def bland_altman(values: Values, others: Values, level: float = 0.95) -> Limits:
    """Limits of agreement and their intervals (Bland and Altman, Stat. Methods Med. Res. 8, 135 (1999)).

    Parameters
    ----------
    values, others
        Two measurements of the same subjects; differences are ``values - others``.
    level
        Of the confidence intervals.

    Raises
    ------
    ValueError
        If there are fewer than three subjects.
    """
    n = len(values)
    if n < 3:
        raise ValueError(f"expected three subjects or more for limits of agreement, got {n}")
    differences = values - others
    bias, sd = float(differences.mean()), float(differences.std(ddof=1))
    normal, t = float(stats.norm.ppf(0.975)), float(stats.t.ppf((1 + level) / 2, n - 1))
    of_bias = t * sd / np.sqrt(n)
    of_limit = t * sd * np.sqrt(1 / n + normal**2 / (2 * (n - 1)))
    lower, upper = bias - normal * sd, bias + normal * sd
    return Limits(
        n,
        sd,
        Estimate(bias, float(bias - of_bias), float(bias + of_bias)),
        Estimate(lower, float(lower - of_limit), float(lower + of_limit)),
        Estimate(upper, float(upper - of_limit), float(upper + of_limit)),
    )


@dataclass(frozen=True)
class _Squares:
    """Mean squares of a table of subjects and raters."""

    n: int
    k: int
    subjects: float
    raters: float
    rest: float


def icc_agreement(ratings: Ratings, level: float = 0.95) -> Estimate:
    """ICC(2,1): raters drawn from many, who must agree on the value itself; interval after McGraw and Wong.

    Shrout and Fleiss, Psychol. Bull. 86, 420 (1979); McGraw and Wong, Psychol. Methods 1, 30 (1996).

    Parameters
    ----------
    ratings
        Every rater's value of every subject, shape ``(subjects, raters)``.
    level
        Of the confidence interval; NaN where raters differ and subjects do not.

    Raises
    ------
    ValueError
        If there are fewer than two subjects or raters, or all values are the same.
    """
    s = _squares(ratings)
    value = (s.subjects - s.rest) / (s.subjects + (s.k - 1) * s.rest + s.k * (s.raters - s.rest) / s.n)
    if s.rest == 0 and s.raters == 0:
        return Estimate(1.0, 1.0, 1.0)
    if s.rest == 0 and s.subjects == 0:  # every subject is alike: nothing tells how far the value is sure
        return Estimate(float(value), np.nan, np.nan)
    a = s.k * value / (s.n * (1 - value))
    b = 1 + s.k * value * (s.n - 1) / (s.n * (1 - value))
    freedom = (a * s.raters + b * s.rest) ** 2 / (
        (a * s.raters) ** 2 / (s.k - 1) + (b * s.rest) ** 2 / ((s.n - 1) * (s.k - 1))
    )
    tail = (1 + level) / 2
    f_low, f_high = stats.f.ppf(tail, s.n - 1, freedom), stats.f.ppf(tail, freedom, s.n - 1)
    spread = s.k * s.raters + (s.k * s.n - s.k - s.n) * s.rest
    low = s.n * (s.subjects - f_low * s.rest) / (f_low * spread + s.n * s.subjects)
    high = s.n * (f_high * s.subjects - s.rest) / (spread + s.n * f_high * s.subjects)
    return Estimate(value, float(low), float(high))


def icc_consistency(ratings: Ratings, level: float = 0.95) -> Estimate:
    """ICC(3,1): these raters alone, who may each be off by a constant; see :func:`icc_agreement`."""
    s = _squares(ratings)
    if s.rest == 0:
        alike = np.nan if s.subjects == 0 else 1.0
        return Estimate(alike, alike, alike)
    ratio, freedom = s.subjects / s.rest, (s.n - 1) * (s.k - 1)
    tail = (1 + level) / 2
    low, high = (
        ratio / stats.f.ppf(tail, s.n - 1, freedom),
        ratio * stats.f.ppf(tail, freedom, s.n - 1),
    )
    value, least, most = (float((f - 1) / (f + s.k - 1)) for f in (ratio, low, high))
    return Estimate(value, least, most)


def _squares(ratings: Ratings) -> _Squares:
    n, k = ratings.shape
    if n < 2 or k < 2:
        raise ValueError(f"expected two subjects and two raters or more, got {n} and {k}")
    if float(np.ptp(ratings)) == 0:
        raise ValueError(
            "expected values that differ, got the same for all; a correlation says nothing of them"
        )
    mean = ratings.mean()
    of_subjects, of_raters = ratings.mean(axis=1), ratings.mean(axis=0)
    rest = ratings - of_subjects[:, None] - of_raters[None, :] + mean
    # What is left by rounding is nothing: it would stand for a disagreement that nobody measured.
    left = float((rest**2).sum())
    left = 0.0 if left < 1e-20 * float((ratings**2).sum()) else left
    between = float(n * ((of_raters - mean) ** 2).sum() / (k - 1))
    between = 0.0 if between < 1e-20 * float((ratings**2).sum()) else between
    return _Squares(
        n,
        k,
        float(k * ((of_subjects - mean) ** 2).sum() / (n - 1)),
        between,
        left / ((n - 1) * (k - 1)),
    )
