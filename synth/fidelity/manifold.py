"""Precision, recall, density and coverage: where two sets of features overlap.

Improved precision and recall: Kynkaanniemi et al., NeurIPS 2019. Density and coverage: Naeem et al., ICML
2020. Around every item lies a ball that reaches to its k-th neighbour within its own set; an item of one set
counts where it lies inside (strictly inside, so that copies of one image fill no ball) a ball of the other.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Features = Float[Tensor, "n d"]
Others = Float[Tensor, "m d"]


@dataclass(frozen=True)
class Overlap:
    """What each item adds; the means of the four are the four measures.

    Parameters
    ----------
    precise
        Synthetic items that lie in a real ball, shape ``(m,)``.
    dense
        Number of real balls about a synthetic item, over k, shape ``(m,)``.
    recalled
        Real items that lie in a synthetic ball, shape ``(n,)``.
    covered
        Real items whose ball holds a synthetic item, shape ``(n,)``.
    """

    precise: Bool[Tensor, " m"]
    dense: Float[Tensor, " m"]
    recalled: Bool[Tensor, " n"]
    covered: Bool[Tensor, " n"]

    @property
    def precision(self) -> float:
        """Share of the synthetic items that look real."""
        return float(self.precise.double().mean())

    @property
    def recall(self) -> float:
        """Share of the real items that the synthetic set reaches."""
        return float(self.recalled.double().mean())

    @property
    def density(self) -> float:
        """As precision, but real outliers weigh less; 1 is expected of real items, and it may be more."""
        return float(self.dense.mean())

    @property
    def coverage(self) -> float:
        """As recall, but synthetic outliers do not help; about 1 - 2^-k is expected of real items."""
        return float(self.covered.double().mean())


def radii(features: Features, k: int, chunk: int = 1024) -> Float[Tensor, " n"]:
    """Distance of each item to its k-th nearest other item, float64."""
    x = features.double()
    found = []
    for start in range(0, len(x), chunk):
        far = _distances(x[start : start + chunk], x)
        rows = torch.arange(len(far), device=far.device)
        far[rows, start + rows] = torch.inf  # not by its value: a copy of an item is a neighbour
        found.append(far.kthvalue(k, dim=1).values)
    return torch.cat(found)


def overlap(real: Features, synthetic: Others, k: int = 5, chunk: int = 1024) -> Overlap:
    """Where two sets overlap.

    Parameters
    ----------
    real, synthetic
        Features, shapes ``(n, d)`` and ``(m, d)``.
    k
        Neighbours that a ball reaches to; 5 as in Naeem et al. (3 in Kynkaanniemi et al.).
    chunk
        Rows at a time: distances take ``chunk * max(n, m)`` numbers.

    Raises
    ------
    ValueError
        If a set has no more than k items.
    """
    if not 1 <= k < min(len(real), len(synthetic)):
        raise ValueError(
            f"expected more items in each set than the {k} neighbours, got {len(real)} and {len(synthetic)}"
        )
    a, b = real.double(), synthetic.double()
    reach, other_reach = radii(a, k, chunk), radii(b, k, chunk)
    balls = torch.zeros(len(b), dtype=torch.float64, device=b.device)
    recalled, covered = [], []
    for start in range(0, len(a), chunk):
        far = _distances(a[start : start + chunk], b)
        inside = far < reach[start : start + chunk, None]
        balls += inside.sum(dim=0)
        covered.append(inside.any(dim=1))
        recalled.append((far < other_reach).any(dim=1))
    return Overlap(balls > 0, balls / k, torch.cat(recalled), torch.cat(covered))


def _distances(a: Features, b: Others) -> Float[Tensor, "n m"]:
    # Through a product of matrices, copies would lie 1e-7 apart and not 0.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
