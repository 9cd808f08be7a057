"""How many values lie beyond what chance allows, by the values of images that nobody trained on."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor


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
    """

    share: float
    low: float
    high: float
    threshold: float
    expected: float
    chance: float
    flagged: bool
    detectable: float | None


def tail(
    values: Float[Tensor, " n"], null: Float[Tensor, " m"], level: float = 0.01, alarm: float = 0.01
) -> Tail:
    """Share of values below the ``level`` quantile of the null, and whether chance explains it.

    The quantile is the ⌈level · m⌉-th smallest of the m null values (numpy's ``inverted_cdf``), so
    that less than ``level`` of the null lies strictly below it. A percentile of few values is itself
    uncertain; ``chance`` knows that, the binomial interval does not.

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

    Raises
    ------
    ValueError
        If one of them is empty or holds a value that is not a number.
    """
    if not len(values) or not len(null) or bool(values.isnan().any()) or bool(null.isnan().any()):
        raise ValueError("expected values and a null of numbers, got none or NaN; check images and features")
    n, m = len(values), len(null)
    rank = max(1, math.ceil(level * m))
    threshold = null.sort().values[rank - 1]
    n_below = int((values < threshold).sum())
    low, high = binomial_interval(n_below, n)
    chances = exceedance(n, m, rank)
    rare = (chances < alarm).nonzero().flatten().tolist()
    return Tail(
        share=n_below / n,
        low=low,
        high=high,
        threshold=float(threshold),
        expected=rank / (m + 1),
        chance=float(chances[n_below]),
        flagged=bool(chances[n_below] < alarm),
        detectable=rare[0] / n if rare else None,
    )


def binomial_interval(n_hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a probability from ``n_hits`` in ``n`` trials.

    Clopper & Pearson, Biometrika 26, 404 (1934), by quantiles of the beta distribution.
    """
    beyond = (1 - level) / 2
    low = float(special.betaincinv(n_hits, n - n_hits + 1, beyond)) if n_hits else 0.0
    high = float(special.betaincinv(n_hits + 1, n - n_hits, 1 - beyond)) if n_hits < n else 1.0
    return low, high


def exceedance(n: int, m: int, rank: int) -> Float[Tensor, " k"]:
    """Probability that x or more of n values lie below the ``rank``-th smallest of m, for x = 0 … n.

    For n + m draws of one continuous distribution, whatever it is, that number is beta-binomial
    with parameters n, ``rank`` and m + 1 − ``rank``: the statistic of Epstein's exceedance test,
    Ann. Math. Stat. 25, 762 (1954). Shape ``(n + 1,)``.
    """
    a, b = float(rank), float(m + 1 - rank)
    x = torch.arange(n + 1, dtype=torch.float64)
    log = _log_beta(x + a, n - x + b) - _log_beta(x + 1, n - x + 1) - math.log(n + 1)
    log = log - _log_beta(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64))
    return log.exp().flip(0).cumsum(0).flip(0).clamp(max=1.0)


def _log_beta(a: Float[Tensor, " k"], b: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
