"""Agreement of readers beyond chance, over all voxels that are given: cut masks to a stated region."""

import math
from collections.abc import Sequence

import torch

from .shapes import Mask


def cohen_kappa(a: Mask, b: Mask) -> float:
    """Cohen's kappa of two readers (Educ. Psychol. Meas. 20, 37 (1960)); NaN where chance leaves no room."""
    n = a.numel()
    inside_a, inside_b = int(a.sum()) / n, int(b.sum()) / n
    expected = inside_a * inside_b + (1 - inside_a) * (1 - inside_b)
    return (int((a == b).sum()) / n - expected) / (1 - expected) if expected < 1 else math.nan


def fleiss_kappa(masks: Sequence[Mask]) -> float:
    """Fleiss' kappa of two readers or more (Psychol. Bull. 76, 378 (1971)); NaN as in :func:`cohen_kappa`.

    Raises
    ------
    ValueError
        If there are fewer than two.
    """
    if len(masks) < 2:
        raise ValueError(f"expected two readers or more, got {len(masks)}; agreement takes two")
    n = len(masks)
    votes = torch.stack(list(masks)).sum(dim=0).double()
    alike = (votes * (votes - 1) + (n - votes) * (n - votes - 1)) / (n * (n - 1))
    inside = float(votes.mean()) / n
    expected = inside**2 + (1 - inside) ** 2
    return (float(alike.mean()) - expected) / (1 - expected) if expected < 1 else math.nan
