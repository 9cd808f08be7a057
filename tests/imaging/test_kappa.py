"""Kappas against scikit-learn and statsmodels."""

import math

import pytest
import torch
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as their_fleiss

from imaging.kappa import cohen_kappa, fleiss_kappa


def readers(n: int) -> list[torch.Tensor]:
    noise = torch.Generator().manual_seed(2)
    truth = torch.rand((9, 8, 7), generator=noise) > 0.7
    return [truth ^ (torch.rand(truth.shape, generator=noise) > 0.85) for _ in range(n)]


def test_cohens_kappa_is_that_of_scikit_learn() -> None:
    a, b = readers(2)
    assert cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a.flatten().numpy(), b.flatten().numpy()))


def test_fleiss_kappa_is_that_of_statsmodels() -> None:
    masks = readers(4)
    table, _ = aggregate_raters(torch.stack([m.flatten() for m in masks], dim=1).int().numpy())
    assert fleiss_kappa(masks) == pytest.approx(their_fleiss(table))


def test_kappa_says_nothing_where_all_is_inside() -> None:
    whole = torch.ones((2, 2, 2), dtype=torch.bool)
    assert math.isnan(cohen_kappa(whole, whole))
    assert math.isnan(fleiss_kappa([whole, whole]))
    with pytest.raises(ValueError, match="two readers"):
        fleiss_kappa([whole])
