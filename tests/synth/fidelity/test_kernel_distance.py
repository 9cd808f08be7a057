"""Kernel distance against torchmetrics, plain sums and closed forms."""

import itertools

import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from synth.fidelity.kernel import kernel_distance, kernel_interval


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=seeded(seed), dtype=torch.float64)


def test_agrees_with_torchmetrics_on_sets_of_one_size() -> None:
    a, b = normal(30, 12, 1), 1.3 * normal(30, 12, 2) + 0.2
    assert kernel_distance(a, b) == pytest.approx(float(poly_mmd(a, b)), rel=1e-12)


def test_unequal_sets_give_the_sums_of_the_definition() -> None:
    a, b = normal(4, 3, 3), normal(3, 3, 4) + 1

    def kernel(x: torch.Tensor, y: torch.Tensor) -> float:
        return (float(x @ y) / 3 + 1) ** 3

    within_a = sum(kernel(x, y) for x, y in itertools.permutations(a, 2)) / 12
    within_b = sum(kernel(x, y) for x, y in itertools.permutations(b, 2)) / 6
    between = sum(kernel(x, y) for x, y in itertools.product(a, b)) / 12
    assert kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * between, rel=1e-12)


def test_two_numbers_apart_have_the_distance_of_their_first_three_moments() -> None:
    # (xy + 1)^3 = 1 + 3xy + 3x^2y^2 + x^3y^3: squared differences of moments, weighed 3, 3 and 1.
    # N(0, 1): 0, 1, 0. N(1, 1): 1, 2, 4.
    got = kernel_distance(normal(1500, 1, 5), normal(1500, 1, 6) + 1)
    assert got == pytest.approx(3 * 1 + 3 * 1 + 16, rel=0.15)


def test_the_mean_over_many_draws_of_one_distribution_is_nothing() -> None:
    values = torch.tensor([kernel_distance(normal(20, 8, s), normal(30, 8, 500 + s)) for s in range(200)])
    assert abs(float(values.mean())) < 3 * float(values.std()) / 200**0.5


def test_copies_are_nearer_than_a_fresh_draw_can_be() -> None:
    a = normal(40, 8, 7)
    assert kernel_distance(a, a.clone()) < 0


def test_drawing_with_replacement_does_not_shift_the_interval() -> None:
    a, b = normal(60, 6, 10), normal(50, 6, 11) + 0.5
    interval = kernel_interval(a, b, seeded(2), 400)
    assert interval.low < interval.estimate < interval.high
    assert interval.estimate == pytest.approx(kernel_distance(a, b), rel=1e-9)
    assert abs(interval.bias) < 0.1 * (interval.high - interval.low)


def test_the_interval_holds_the_true_distance_as_often_as_it_says() -> None:
    # Coins of +-1 have x^3 = x and x^2 = 1: the squared distance is 4 (m - m')^2 of their means.
    def coins(mean: float, seed: int) -> torch.Tensor:
        return 2 * (torch.rand(80, 1, generator=seeded(seed)) < (1 + mean) / 2).double() - 1

    held = 0
    for s in range(40):
        interval = kernel_interval(coins(0.0, s), coins(0.5, 300 + s), seeded(s), 60, 0.9)
        held += interval.low <= 4 * 0.5**2 <= interval.high
    assert held >= 31  # 36 are expected


def test_drawing_patients_with_replacement_does_not_shift_the_interval() -> None:
    # Eight slices of each patient are nearly alike: pairs of one patient have a far greater kernel.
    a, b = (
        x.repeat_interleave(8, dim=0) + 0.1 * normal(160, 6, 13)
        for x in (normal(20, 6, 14), normal(20, 6, 15))
    )
    groups = torch.arange(20).repeat_interleave(8)
    interval = kernel_interval(a, b, seeded(2), 400, groups=(groups, groups))
    assert interval.estimate == pytest.approx(kernel_distance(a, b), rel=1e-9)
    assert abs(interval.bias) < 0.1 * (interval.high - interval.low)
    by_slice = kernel_interval(a, b, seeded(2), 400)
    assert interval.high - interval.low > 2 * (by_slice.high - by_slice.low)


def test_one_item_is_refused() -> None:
    with pytest.raises(ValueError, match="two items or more"):
        kernel_distance(normal(1, 3, 1), normal(5, 3, 1))
