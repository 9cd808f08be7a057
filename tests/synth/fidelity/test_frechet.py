"""Frechet distance against closed forms and torchmetrics."""

import math

import pytest
import torch
from torchmetrics.image.fid import _compute_fid

from synth.fidelity.frechet import frechet_distance, frechet_of_moments, principal_axes, project


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=seeded(seed), dtype=torch.float64)


def covariance(d: int, seed: int) -> torch.Tensor:
    x = normal(3 * d, d, seed)
    return x.T @ x / (3 * d)


def test_gaussians_on_one_line_are_apart_by_their_means_and_deviations() -> None:
    mean, other = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([4.0, -2.0, 0.0])
    sigma, tau = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 0.5, 3.0])
    expected = 25 + float((sigma - tau).square().sum())
    got = frechet_of_moments(mean, torch.diag(sigma**2), other, torch.diag(tau**2))
    assert got == pytest.approx(expected, rel=1e-12)


def test_covariances_that_do_not_commute_agree_with_the_eigenvalues_of_their_product() -> None:
    a, b, mean = covariance(6, 1), covariance(6, 2), torch.zeros(6, dtype=torch.float64)
    roots = torch.linalg.eigvals(a @ b).real.clamp(min=0).sqrt().sum()
    expected = float(a.trace() + b.trace() - 2 * roots)
    assert frechet_of_moments(mean, a, mean, b) == pytest.approx(expected, rel=1e-9)


def test_rotating_both_sets_changes_nothing_and_scaling_scales_by_the_square() -> None:
    a, b = normal(80, 5, 3), 2 * normal(60, 5, 4) + 1
    turn = torch.linalg.qr(normal(5, 5, 5)).Q
    there = frechet_distance(a, b)
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(there, rel=1e-9)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * there, rel=1e-9)


def test_large_samples_approach_the_distance_of_their_gaussians() -> None:
    got = frechet_distance(normal(20000, 2, 6), 2 * normal(20000, 2, 7) + 1)
    assert got == pytest.approx(2 + 2, rel=0.03)


def test_agrees_with_torchmetrics() -> None:
    a, b = normal(200, 8, 8), normal(150, 8, 9) @ covariance(8, 10)
    expected = float(_compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T)))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_copies_are_at_no_distance() -> None:
    a = normal(40, 6, 11)
    assert frechet_distance(a, a.clone()) == pytest.approx(0.0, abs=1e-9)


def test_a_collapsed_set_is_as_far_as_all_the_variance_of_the_real_one() -> None:
    a = normal(400, 3, 12)
    collapsed = a.mean(dim=0).expand(50, 3)
    assert frechet_distance(a, collapsed) == pytest.approx(float(torch.cov(a.T).trace()), rel=1e-6)


def test_fewer_items_than_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="512 dimensions of the features, got 50"):
        frechet_distance(normal(50, 512, 13), normal(50, 512, 14))


def test_fifty_items_of_512_dimensions_are_near_on_axes_of_other_items() -> None:
    # MONAI's general matrix root gives 768 for such sets.
    axes = principal_axes(normal(600, 512, 15), 4)
    a, b = project(normal(50, 512, 13), axes), project(normal(50, 512, 14), axes)
    assert frechet_distance(a, b) < 0.6


def test_axes_of_the_compared_set_itself_make_another_set_of_the_same_kind_seem_far() -> None:
    real, other = normal(50, 512, 13), normal(50, 512, 14)
    axes = principal_axes(real, 4)
    inflated = float(torch.cov(project(real, axes).T).diagonal()[0])
    assert inflated == pytest.approx((1 + math.sqrt(512 / 50)) ** 2, rel=0.15)
    assert frechet_distance(project(real, axes), project(other, axes)) > 20


def test_principal_axes_of_a_stretched_cloud_are_its_axes() -> None:
    x = normal(5000, 3, 16) * torch.tensor([1.0, 5.0, 0.1]) + 2
    axes = principal_axes(x, 2)
    assert axes.directions.abs()[1, 0] == pytest.approx(1.0, abs=0.01)
    assert axes.directions.abs()[0, 1] == pytest.approx(1.0, abs=0.01)
    assert project(x, axes).mean(dim=0).abs().max() < 1e-9


def test_more_axes_than_the_items_span_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 to 9 axes"):
        principal_axes(normal(10, 512, 17), 10)
