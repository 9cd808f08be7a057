"""How near synthetic images come to training images in an embedding, beside images that nobody trained on."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .evidence import Evidence, evidence
from .groups import Groups
from .sample import N_RIVALS, Features, Match

_CHUNK = 256


@dataclass(frozen=True)
class Neighbours:
    """Distances of synthetic images to training and held-out images.

    Parameters
    ----------
    train
        Each synthetic image's nearest training image.
    held_out
        Each synthetic image's nearest held-out image.
    null
        Each held-out image's nearest training image.
    evidence
        Share of synthetic images nearer to the training set than the null's 1st percentile.
    ratio
        Median over synthetic images of distance to train over distance to held-out.
    null_ratio
        The same of held-out images, each measured against those of other patients. More training than
        held-out images make every ratio smaller: compare ``ratio`` with this, not with 1. ``None``
        where there is one patient alone.
    """

    train: Match
    held_out: Match
    null: Match
    evidence: Evidence
    ratio: float
    null_ratio: float | None


def nearest(features: Features, references: Features, own: Groups | None = None) -> Match:
    """Euclidean distance of each image to the nearest reference, and which it is.

    Parameters
    ----------
    features
        Embedding ``(n, d)``.
    references
        Embedding ``(m, d)``.
    own
        The patient of each reference, where both are one set: images of one patient are not matched.

    Raises
    ------
    ValueError
        If the embeddings differ in width, or there is nothing to match with.
    """
    if features.shape[1] != references.shape[1] or not len(references):
        raise ValueError(
            f"expected two embeddings of one width, got {tuple(features.shape)} and "
            f"{tuple(references.shape)}; embed both sets with one extractor"
        )
    parts = []
    for start in range(0, len(features), _CHUNK):
        rows = features[start : start + _CHUNK].float()
        # |a|² − 2ab + |b|² would lose the small distances, and those are what we look for.
        away = torch.cdist(rows, references.float(), compute_mode="donot_use_mm_for_euclid_dist")
        if own is not None:
            same = own[start : start + _CHUNK, None] == own
            away[same.to(away.device)] = torch.inf
        near, order = away.topk(min(N_RIVALS, len(references)), largest=False)
        parts.append((near[:, 0], _mean_of_finite(near), order[:, 0]))
    value, rivals, index = (torch.cat(column) for column in zip(*parts, strict=True))
    return Match(value, rivals, index)


def neighbours(
    synthetic: Features,
    train: Features,
    held_out: Features,
    alarm: float = 0.01,
    *,
    groups: Groups | None = None,
    held_out_groups: Groups | None = None,
) -> Neighbours:
    """Distances synthetic → train, synthetic → held-out and held-out → train, and what stands out.

    Parameters
    ----------
    synthetic, train, held_out
        Embeddings ``(n, d)`` by one extractor; train and held-out split by patient.
    alarm
        Probability under which chance no longer explains the share.
    groups
        The patient of each synthetic image, where a real set stands in for the synthetic one.
    held_out_groups
        The patient of each held-out image; every image is a patient of its own where not given.
    """
    to_train, to_held_out = nearest(synthetic, train), nearest(synthetic, held_out)
    null = nearest(held_out, train)
    own = torch.arange(len(held_out)) if held_out_groups is None else held_out_groups
    several = len(torch.unique(own)) > 1
    others = nearest(held_out, held_out, own).value if several else None
    return Neighbours(
        train=to_train,
        held_out=to_held_out,
        null=null,
        evidence=evidence(to_train, null, alarm, groups=groups, null_groups=held_out_groups),
        ratio=_median_ratio(to_train.value, to_held_out.value),
        null_ratio=None if others is None else _median_ratio(null.value, others),
    )


def _mean_of_finite(near: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Mean over neighbours; an image of the same patient is infinitely far and does not count."""
    finite = near.isfinite()
    return torch.where(finite, near, 0.0).sum(1) / finite.sum(1)


def _median_ratio(near: Float[Tensor, " n"], far: Float[Tensor, " n"]) -> float:
    # A distance of zero to both is a tie, not a division.
    tiny = torch.finfo(torch.float32).tiny
    return float(((near + tiny) / (far + tiny)).median())
