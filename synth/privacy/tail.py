"""How many values lie beyond what chance allows, by the values of images that nobody trained on."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from .groups import Groups, design_effect


@dataclass(frozen=True)
class Tail:
    """Share of values below the null's 1st percentile.

    Parameters
    ----------
    share
        Of the values, those strictly below ``threshold``.
    low, high
        Exact 95 % interval of the share at this threshold.
    threshold
        The null's percentile.
    expected
        Share that chance puts there when values and null are draws of one distribution.
    chance
        Probability of so great a share, or a greater one, when they are.
    flagged
        Whether that is less probable than the alarm allows.
    detectable
        Smallest share that would have been flagged; ``None`` where the sets are too small for any.
    n_effective, m_effective
        How many independent values and null values these weigh, where patients give several.
    """

    share: float
    low: float
    high: float
    threshold: float
    expected: float
    chance: float
    flagged: bool
    detectable: float | None
    n_effective: float
    m_effective: float


def tail(
    values: Float[Tensor, " n"],
    null: Float[Tensor, " m"],
    level: float = 0.01,
    alarm: float = 0.01,
    *,
    groups: Groups | None = None,
    null_groups: Groups | None = None,
) -> Tail:
    """Share of values below the ``level`` quantile of the null, and whether chance explains it.

    The quantile is the ⌈level · m⌉-th smallest of the m null values (numpy's ``inverted_cdf``), so
    that less than ``level`` of the null lies strictly below it. A percentile of few values is itself
    uncertain; ``chance`` knows that, the interval does not. Where patients give several values, both
    sets weigh what they would if divided by their design effect (for the interval Korn & Graubard,
    Surv. Methodol. 24, 193 (1998)).

    Parameters
    ----------
    values
        One for each image under test; low is suspicious.
    null
        One for each held-out image.
    level
        Quantile of the null.
    alarm
        Probability under which chance no longer explains the share.
    groups, null_groups
        The patient of each value, where patients give several.

    Raises
    ------
    ValueError
        If one of them is empty or holds a value that is not a number.
    """
    if not len(values) or not len(null) or bool(values.isnan().any()) or bool(null.isnan().any()):
        raise ValueError("expected values and a null of numbers, got none or NaN; check images and features")
    n, m = len(values), len(null)
    per_value, per_null = design_effect(values, groups), design_effect(null, null_groups)
    rank = max(1, math.ceil(level * m))
    threshold = null.sort().values[rank - 1]
    n_below = int((values < threshold).sum())
    low, high = binomial_interval(n_below / per_value, n / per_value)
    n_trials = max(1, round(n / per_value))
    # Patients whose images all but coincide have one least image between them, so never less than the first.
    n_under, n_null = max(1.0, rank / per_null), m / per_null
    chances = exceedance(n_trials, n_under, n_null + 1 - n_under)
    chance = float(chances[math.ceil(n_below / n * n_trials - 1e-9)])
    rare = (chances < alarm).nonzero().flatten().tolist()
    return Tail(
        share=n_below / n,
        low=low,
        high=high,
        threshold=float(threshold),
        expected=n_under / (n_null + 1),
        chance=chance,
        flagged=chance < alarm,
        detectable=rare[0] / n_trials if rare else None,
        n_effective=n / per_value,
        m_effective=n_null,
    )


def binomial_interval(n_hits: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a probability from ``n_hits`` in ``n`` trials, which need not be whole.

    Clopper & Pearson, Biometrika 26, 404 (1934), by quantiles of the beta distribution.
    """
    beyond = (1 - level) / 2
    low = float(special.betaincinv(n_hits, n - n_hits + 1, beyond)) if n_hits > 0 else 0.0
    high = float(special.betaincinv(n_hits + 1, n - n_hits, 1 - beyond)) if n_hits < n else 1.0
    return low, high


def exceedance(n: int, a: float, b: float) -> Float[Tensor, " k"]:
    """Probability that x or more of n values lie below a threshold, for x = 0 … n; shape ``(n + 1,)``.

    The probability of lying below is itself drawn from the beta distribution (a, b), as it is with
    a = k, b = m + 1 − k where the threshold is the k-th smallest of m draws of the same continuous
    distribution, whatever it is: the exceedance test of Epstein, Ann. Math. Stat. 25, 762 (1954).
    Neither needs to be whole.
    """
    x = torch.arange(n + 1, dtype=torch.float64)
    log = _log_beta(x + a, n - x + b) - _log_beta(x + 1, n - x + 1) - math.log(n + 1)
    log = log - (math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))
    return log.exp().flip(0).cumsum(0).flip(0).clamp(max=1.0)


def _log_beta(a: Float[Tensor, " k"], b: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
