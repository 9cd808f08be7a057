"""Comparisons that take no distribution for granted: ranks, resampled medians, and many tests at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import stats

from .volumes import Estimate

Sample = Float64[np.ndarray, " _"]


def quartiles(values: Sample) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile; NaN where there is no value."""
    if not len(values):
        return math.nan, math.nan, math.nan
    low, middle, high = np.percentile(values, [25.0, 50.0, 75.0]).tolist()
    return low, middle, high


def mann_whitney(values: Sample, others: Sample) -> float:
    """Two-sided p of two independent samples, exact where small and without ties; NaN if one is empty."""
    if not len(values) or not len(others):
        return math.nan
    return float(stats.mannwhitneyu(values, others, alternative="two-sided").pvalue)


def signed_rank(differences: Sample) -> float:
    """Two-sided p of Wilcoxon's test of paired differences; 1 where none differs, NaN where there is none."""
    if not len(differences):
        return math.nan
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, alternative="two-sided").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P corrected for the number of tests (Holm, Scand. J. Stat. 6, 65 (1979)); NaN is no test."""
    tests = sorted((p, n) for n, p in enumerate(p_values) if not math.isnan(p))
    corrected = [math.nan] * len(p_values)
    highest = 0.0
    for rank, (p, n) in enumerate(tests):
        highest = max(highest, min(1.0, (len(tests) - rank) * p))
        corrected[n] = highest
    return corrected


def median_interval(values: Sample, seed: int, n_resamples: int = 2000, level: float = 0.95) -> Estimate:
    """Median and its percentile interval by drawing values again (Efron, Ann. Statist. 7, 1 (1979)).

    Parameters
    ----------
    values
        One for each patient.
    seed
        Of the draws.
    n_resamples, level
        How many, and the share of them between the bounds.
    """
    if not len(values):
        return Estimate(math.nan, math.nan, math.nan)
    drawn = np.random.default_rng(seed).integers(0, len(values), (n_resamples, len(values)))
    medians = np.median(values[drawn], axis=1)
    low, high = np.percentile(medians, [50 * (1 - level), 50 * (1 + level)]).tolist()
    return Estimate(float(np.median(values)), low, high)


@dataclass(frozen=True)
class Saving:
    """What correcting takes against contouring by hand.

    Parameters
    ----------
    n, patients
        Pairs of times, and of how many patients.
    manual, corrected
        Lower quartile, median, upper quartile (min).
    percent
        The same of what each pair saves (% of its time by hand).
    total_percent
        Saved of all time by hand (%).
    p
        Wilcoxon's signed rank over patients, each by the mean of its times.
    """

    n: int
    patients: int
    manual: tuple[float, float, float]
    corrected: tuple[float, float, float]
    percent: tuple[float, float, float]
    total_percent: float
    p: float


def time_saving(manual: Sample, corrected: Sample, patients: Sequence[str]) -> Saving:
    """Times (min) of contours by hand and of corrected ones, paired, with whose they are.

    Raises
    ------
    ValueError
        If there is no pair, or the lists differ in length.
    """
    if not len(manual) or not len(manual) == len(corrected) == len(patients):
        raise ValueError("expected a time by hand, a time to correct and a patient in each row")
    whose = np.array(patients)
    saved = [float((manual - corrected)[whose == p].mean()) for p in sorted(set(patients))]
    return Saving(
        len(manual),
        len(saved),
        quartiles(manual),
        quartiles(corrected),
        quartiles(100 * (manual - corrected) / manual),
        float(100 * (1 - corrected.sum() / manual.sum())),
        signed_rank(np.array(saved)),
    )
