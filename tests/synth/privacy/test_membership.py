import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from synth.privacy.membership import area, membership, membership_by_distance, membership_by_loss


def gaussian(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def theirs(train: torch.Tensor, held_out: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    truth = np.repeat([1, 0], [len(train), len(held_out)])
    return truth, -torch.cat([train, held_out]).numpy()


@pytest.mark.parametrize("steps", [0, 4])
def test_area_is_scikit_learns_with_ties_too(steps: int) -> None:
    train, held_out = gaussian(150, seed=0) - 0.3, gaussian(230, seed=1)
    if steps:
        train, held_out = (train * steps).round(), (held_out * steps).round()
    assert membership(train, held_out).auc == pytest.approx(
        roc_auc_score(*theirs(train, held_out)), abs=1e-12
    )


@pytest.mark.parametrize("m", [40, 100, 730, 1000])
def test_true_positives_are_those_of_scikit_learns_curve_under_one_per_cent(m: int) -> None:
    train, held_out = gaussian(500, seed=0) - 1, gaussian(m, seed=1)
    false, true, _ = roc_curve(*theirs(train, held_out), drop_intermediate=False)
    assert membership(train, held_out).tpr.share == pytest.approx(true[false < 0.01].max())


@pytest.mark.parametrize("d", [0.0, 0.5, 1.5])
def test_area_of_two_shifted_gaussians_is_phi_of_d_over_root_two(d: float) -> None:
    auc, low, high = area(gaussian(20000, seed=0) + d, gaussian(20000, seed=1))
    expected = stats.norm.cdf(d / math.sqrt(2))
    assert auc == pytest.approx(expected, abs=0.01)
    assert low < expected < high
    assert high - low < 0.012


def test_interval_covers_the_true_area_19_times_in_20() -> None:
    draw = torch.Generator().manual_seed(7)
    truth = stats.norm.cdf(1 / math.sqrt(2))
    n_covered = 0
    for _ in range(400):
        positive, negative = torch.randn(60, generator=draw) + 1, torch.randn(40, generator=draw)
        _, low, high = area(positive, negative)
        n_covered += low < truth < high
    assert stats.binomtest(n_covered, 400, 0.95).pvalue > 1e-3


def test_chance_is_that_of_mann_and_whitney() -> None:
    train, held_out = gaussian(80, seed=0) - 0.3, gaussian(60, seed=1)
    expected = stats.mannwhitneyu(
        -train, -held_out, alternative="greater", method="asymptotic", use_continuity=False
    )
    assert membership(train, held_out).chance == pytest.approx(float(expected.pvalue), rel=1e-6)


def test_members_that_were_copied_are_told_and_others_are_not() -> None:
    train, held_out, fresh = (gaussian(400, 16, seed=seed) for seed in range(3))
    near = membership_by_distance(train + 0.05 * fresh, train, held_out)
    assert near.auc > 0.999
    assert near.tpr.share == 1
    private = membership_by_distance(fresh, train, held_out)
    assert private.low < 0.5 < private.high
    assert not private.flagged


def test_a_few_copied_members_show_in_true_positives_before_they_show_in_the_area() -> None:
    # 6 % of members known outright lift the area to 0.53 only: Carlini et al. (2022) on why it is not enough.
    train, held_out, fresh = (gaussian(400, 16, seed=seed) for seed in range(3))
    fresh[:24] = train[:24]
    found = membership_by_distance(fresh, train, held_out)
    assert found.auc < 0.56
    assert found.chance > 1e-4
    assert found.tpr.share > 0.05
    assert found.tpr.chance < 1e-3
    assert found.flagged


def test_a_loss_that_knows_members_gives_them_away_and_one_that_does_not_does_not() -> None:
    train, held_out = gaussian(120, 1, 6, 6, seed=0), gaussian(100, 1, 6, 6, seed=1)
    memory = train.flatten(1)

    def overfitted(images: torch.Tensor) -> torch.Tensor:
        return torch.cdist(images.flatten(1), memory).amin(1)

    def general(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).square().mean(1)

    assert membership_by_loss(overfitted, train, held_out, chunk=7).auc == 1
    private = membership_by_loss(general, train, held_out)
    assert private.low < 0.5 < private.high


def test_one_image_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least two"):
        membership(torch.ones(1), torch.ones(5))
