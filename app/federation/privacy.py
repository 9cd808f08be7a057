"""Differential privacy of what a site gives: its update clipped, noise added, and the budget that is spent.

The unit is a site's whole update of a round, hence every patient in it: neighbours are federations where
the update of one site is replaced by none (zero-out, Kairouz et al., ICML 2021). Where privacy is
``central`` the server adds noise to the mean before anybody else sees it, and sites trust the server; where
it is ``local`` each site adds noise before its update leaves, and trusts nobody. Each release is a Gaussian
mechanism; so many of them compose exactly (Dong, Roth and Su, J. R. Stat. Soc. B 84, 3 (2022), corollaries
2.13 and 3.3). No amplification by sampling of sites is claimed. Noise is of floating-point numbers, whose
low bits may tell more than the theorem says (Mironov, CCS 2012). Counts of patients and errors of held-out
patients are not covered.
"""

import math
import secrets
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr
from torch import Tensor

PRIVACIES = ("none", "central", "local")
_GREATEST = 1e6  # epsilon: beyond it nothing is private

Row = Float32[Tensor, " n"]


def epsilon_of(noise: float, n_releases: int, delta: float) -> float:
    """The least epsilon for which so many Gaussian mechanisms are (epsilon, delta)-private together.

    Parameters
    ----------
    noise
        Standard deviation over sensitivity of each.
    n_releases
        How many there are.
    delta
        The probability that the bound fails, between 0 and 1.

    Returns
    -------
    float
        Epsilon; infinite without noise.

    Raises
    ------
    ValueError
        If delta is no probability, or a number is negative.
    """
    if not 0 < delta < 1 or noise < 0 or n_releases < 0:
        raise ValueError(
            f"expected a delta in (0, 1), noise and releases of 0 or more, got {delta}, {noise}, {n_releases}"
        )
    if n_releases == 0:
        return 0.0
    if noise == 0:
        return math.inf
    mu = math.sqrt(n_releases) / noise

    def excess(epsilon: float) -> float:
        tail = math.exp(min(epsilon + float(log_ndtr(-epsilon / mu - mu / 2)), 0.0))
        return float(ndtr(-epsilon / mu + mu / 2)) - tail - delta

    if excess(0.0) <= 0:
        return 0.0
    if excess(_GREATEST) > 0:
        return math.inf
    return float(brentq(excess, 0.0, _GREATEST, xtol=1e-9))


def noise_for(epsilon: float, n_releases: int, delta: float) -> float:
    """The least noise, over sensitivity, with which so many releases spend no more than epsilon.

    Raises
    ------
    ValueError
        If epsilon is not above 0, or as :func:`epsilon_of`.
    """
    if epsilon <= 0:
        raise ValueError(f"expected an epsilon above 0, got {epsilon}")
    low, high = 1e-4, 1e6
    return float(brentq(lambda z: epsilon_of(z, n_releases, delta) - epsilon, low, high, xtol=1e-9))


def clipped(row: Row, sent: Row, bound: float) -> Row:
    """Weights whose distance from those that were sent is a bound at most, on the line between both."""
    change = row.double() - sent.double()
    # A little less, so that rounding leaves nothing beyond the bound.
    far = float(change.norm()) / (bound * (1 - 1e-6))
    return row if far <= 1 else (sent.double() + change / far).float()


def within(row: Row, sent: Row, bound: float) -> bool:
    """Whether weights are no farther from those that were sent than a bound allows."""
    return float((row.double() - sent.double()).norm()) <= bound * (1 + 1e-4)


def noisy(row: Row, deviation: float) -> Row:
    """Weights with Gaussian noise of a standard deviation, from the machine's own randomness."""
    generator = np.random.Generator(np.random.Philox(secrets.randbits(128)))
    return (row.double() + deviation * torch.from_numpy(generator.standard_normal(len(row)))).float()


def of_mean(rows: Sequence[Row], sent: Row, bound: float, noise: float) -> list[Row]:
    """Clipped weights of sites whose plain mean is noisy: the first carries the noise of the sum.

    Parameters
    ----------
    rows
        Of each site.
    sent
        Weights that they began with.
    bound
        Farthest that one may be from those.
    noise
        Standard deviation of the sum's noise over the bound.
    """
    first, *others = (clipped(row, sent, bound) for row in rows)
    return [noisy(first, noise * bound), *others]
