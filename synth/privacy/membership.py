"""Membership inference: how well somebody can tell which images a generator was trained on.

The attack that asks how near an image lies to the synthetic set is that of Hilprecht et al.,
Proc. Priv. Enhancing Technol. 2019(4), 232, and Chen et al., GAN-Leaks, CCS 2020; by the loss it is
Yeom et al., CSF 2018. Reported as Carlini et al., IEEE S&P 2022, ask: by the rate of true positives where
false ones are rare, beside the area under the curve.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .groups import Groups, design_effect, midranks
from .neighbours import nearest
from .sample import Features, Images
from .tail import Tail, tail

Loss = Callable[[Tensor], Tensor]
Scores = Float[Tensor, " _"]


@dataclass(frozen=True)
class Membership:
    """How well members of the training set are told from other images.

    Parameters
    ----------
    auc
        Probability that a training image looks more like a member than a held-out one; 0.5 is private.
    low, high
        95 % interval of the area; of no width where the sets part completely.
    chance
        Probability of so great an area, or a greater one, when nothing leaks.
    flagged
        Whether that, or the chance of the true positives, is less probable than the alarm allows.
    tpr
        Share of training images recognised where less than 1 % of held-out images are taken for members.
    """

    auc: float
    low: float
    high: float
    chance: float
    flagged: bool
    tpr: Tail


def membership_by_distance(
    synthetic: Features,
    train: Features,
    held_out: Features,
    alarm: float = 0.01,
    *,
    groups: Groups | None = None,
    held_out_groups: Groups | None = None,
) -> Membership:
    """Membership told by the distance of each real image to its nearest synthetic one.

    Parameters
    ----------
    synthetic, train, held_out
        Embeddings ``(n, d)`` by one extractor.
    alarm
        Probability under which chance no longer explains a figure.
    groups, held_out_groups
        The patient of each training and held-out image, where patients give several.
    """
    return membership(
        nearest(train, synthetic).value,
        nearest(held_out, synthetic).value,
        alarm,
        groups=groups,
        held_out_groups=held_out_groups,
    )


@torch.no_grad()
def membership_by_loss(
    loss: Loss,
    train: Images,
    held_out: Images,
    alarm: float = 0.01,
    chunk: int = 16,
    *,
    groups: Groups | None = None,
    held_out_groups: Groups | None = None,
) -> Membership:
    """Membership told by the generator's own loss, which is lower on images it has seen.

    Parameters
    ----------
    loss
        Images ``(b, c, *space)`` to one loss each ``(b,)``, with the same noise for every image.
    train, held_out
        Images ``(n, c, *space)``.
    alarm
        Probability under which chance no longer explains a figure.
    chunk
        Images given to ``loss`` at once.
    groups, held_out_groups
        The patient of each training and held-out image, where patients give several.
    """
    sets = (train, held_out)
    members, others = (torch.cat([loss(part) for part in torch.split(x, chunk)]) for x in sets)
    return membership(members, others, alarm, groups=groups, held_out_groups=held_out_groups)


def membership(
    train: Scores,
    held_out: Scores,
    alarm: float = 0.01,
    *,
    groups: Groups | None = None,
    held_out_groups: Groups | None = None,
) -> Membership:
    """Membership told by a value that is lower for members.

    Parameters
    ----------
    train, held_out
        One value for each image.
    alarm
        Probability under which chance no longer explains a figure.
    groups, held_out_groups
        The patient of each training and held-out image, where patients give several.

    Raises
    ------
    ValueError
        If one of them has fewer than two values, or NaN.
    """
    if min(len(train), len(held_out)) < 2:
        raise ValueError(
            f"expected at least two training and two held-out images, got {len(train)} and {len(held_out)}"
        )
    tpr = tail(train, held_out, 0.01, alarm, groups=groups, null_groups=held_out_groups)
    n, m = len(train) / design_effect(train, groups), len(held_out) / design_effect(held_out, held_out_groups)
    auc, low, high = area(-train, -held_out, n, m)
    # Mann & Whitney, Ann. Math. Stat. 18, 50 (1947): variance of the area when both are of one distribution.
    chance = _normal_above((auc - 0.5) / math.sqrt((n + m + 1) / (12 * n * m)))
    return Membership(auc, low, high, chance, chance < alarm or tpr.flagged, tpr)


def area(
    positive: Scores, negative: Scores, n: float | None = None, m: float | None = None
) -> tuple[float, float, float]:
    """Area under the receiver's curve, ties half, with its 95 % interval.

    Variance after DeLong et al., Biometrics 44, 837 (1988), by midranks as in Sun & Xu, IEEE Signal
    Process. Lett. 21, 1389 (2014). ``n`` and ``m`` are how many independent values the two sets weigh,
    where that is fewer than they hold.
    """
    n_positive, n_negative = len(positive), len(negative)
    together = midranks(torch.cat([positive, negative]))
    above = (together[:n_positive] - midranks(positive)) / n_negative
    below = 1 - (together[n_positive:] - midranks(negative)) / n_positive
    auc = float(above.mean())
    variance = float(above.var()) / (n or n_positive) + float(below.var()) / (m or n_negative)
    spread = 1.959964 * math.sqrt(variance)
    return auc, max(0.0, auc - spread), min(1.0, auc + spread)


def _normal_above(z: float) -> float:
    return math.erfc(z / math.sqrt(2)) / 2
