import numpy as np
import pytest
import torch
from scipy import stats

from synth.privacy.groups import design_effect
from synth.privacy.membership import membership
from synth.privacy.neighbours import neighbours
from synth.privacy.tail import binomial_interval, tail


def in_groups(
    n_groups: int, size: int, rho: float, draw: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Standard Gaussian values with correlation ``rho`` within each group."""
    shared = torch.randn(n_groups, 1, generator=draw).expand(-1, size)
    own = torch.randn(n_groups, size, generator=draw)
    groups = torch.arange(n_groups).repeat_interleave(size)
    return (rho**0.5 * shared + (1 - rho) ** 0.5 * own).flatten(), groups


def test_design_effect_is_that_of_scipys_analysis_of_variance() -> None:
    values, groups = in_groups(30, 5, 0.4, torch.Generator().manual_seed(0))
    ranks = stats.rankdata(values.numpy()).reshape(30, 5)
    f = stats.f_oneway(*ranks).statistic
    rho = (f - 1) / (f + 5 - 1)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    assert design_effect(values[order], groups[order]) == pytest.approx(1 + 4 * rho)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8])
def test_design_effect_is_kishs(rho: float) -> None:
    # Ranks of Gaussians with correlation rho are correlated by 6/pi asin(rho/2).
    values, groups = in_groups(3000, 4, rho, torch.Generator().manual_seed(3))
    assert design_effect(values, groups) == pytest.approx(1 + 3 * 6 / np.pi * np.arcsin(rho / 2), abs=0.1)


def test_values_without_groups_and_groups_of_one_count_in_full() -> None:
    values = torch.randn(20, generator=torch.Generator().manual_seed(0))
    assert design_effect(values, None) == 1
    assert design_effect(values, torch.arange(20)) == 1


def test_a_single_patient_counts_once() -> None:
    values = torch.randn(20, generator=torch.Generator().manual_seed(0))
    assert design_effect(values, torch.zeros(20, dtype=torch.long)) == 20


def test_images_given_three_times_say_as_much_as_once() -> None:
    draw = torch.Generator().manual_seed(0)
    train, held_out = torch.randn(60, generator=draw) - 0.2, torch.randn(40, generator=draw)
    once = membership(train, held_out)
    thrice = membership(
        train.repeat_interleave(3),
        held_out.repeat_interleave(3),
        groups=torch.arange(60).repeat_interleave(3),
        held_out_groups=torch.arange(40).repeat_interleave(3),
    )
    assert thrice.auc == pytest.approx(once.auc)
    assert thrice.low == pytest.approx(once.low, abs=2e-3)
    assert thrice.chance == pytest.approx(once.chance, rel=0.02)
    known = tail(
        torch.cat([torch.zeros(15), torch.ones(45)]),
        torch.full((50,), 0.5),
        groups=torch.arange(20).repeat_interleave(3),
    )
    assert (known.low, known.high) == pytest.approx(binomial_interval(5.0, 20.0))


@pytest.mark.parametrize(("n_patients", "rho"), [(5, 0.99), (20, 0.7), (25, 0.3)])
def test_images_of_few_patients_do_not_raise_more_alarms_than_they_may(n_patients: int, rho: float) -> None:
    draw = torch.Generator().manual_seed(11)
    n_naive, n_grouped = 0, 0
    for _ in range(300):
        null, groups = in_groups(n_patients, 100 // n_patients, rho, draw)
        values = torch.randn(200, generator=draw)
        n_naive += tail(values, null, alarm=0.05).flagged
        n_grouped += tail(values, null, alarm=0.05, null_groups=groups).flagged
    assert n_grouped <= stats.binom(300, 0.05).ppf(0.999)
    assert n_naive > 1.5 * n_grouped


def test_ratio_of_the_null_leaves_out_images_of_the_same_patient() -> None:
    # Each held-out patient gives two images that are nearly one.
    draw = torch.Generator().manual_seed(2)
    patients = torch.randn(200, 2, generator=draw)
    held_out = patients.repeat_interleave(2, 0) + 1e-4 * torch.randn(400, 2, generator=draw)
    synthetic, train = torch.randn(400, 2, generator=draw), torch.randn(200, 2, generator=draw)
    blind = neighbours(synthetic, train, held_out)
    seeing = neighbours(synthetic, train, held_out, held_out_groups=torch.arange(200).repeat_interleave(2))
    assert blind.null_ratio is not None
    assert seeing.null_ratio is not None
    assert blind.null_ratio > 100
    assert seeing.null_ratio == pytest.approx(1, rel=0.15)
