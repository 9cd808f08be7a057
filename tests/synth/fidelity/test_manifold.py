"""Precision, recall, density and coverage against scikit-learn, closed forms and constructed failures."""

import math

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from synth.fidelity.manifold import Overlap, overlap, radii


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=seeded(seed))


def numbers(found: Overlap) -> tuple[float, float, float, float]:
    return found.precision, found.recall, found.density, found.coverage


def test_radii_are_those_of_scikit_learn_whatever_the_chunk() -> None:
    x = normal(70, 5, 1)
    far, _ = NearestNeighbors(n_neighbors=4).fit(x.numpy()).kneighbors()
    for chunk in (1, 7, 70, 500):
        torch.testing.assert_close(
            radii(x, 4, chunk), torch.from_numpy(far[:, 3]).double(), rtol=1e-5, atol=0
        )


def test_all_four_agree_with_scikit_learn_whatever_the_chunk() -> None:
    a, b, k = normal(60, 4, 2), 0.7 * normal(45, 4, 3) + 0.5, 3
    trees = [NearestNeighbors(n_neighbors=k).fit(x.numpy()) for x in (a, b)]
    reach = [t.kneighbors()[0][:, -1] for t in trees]
    far = torch.cdist(a, b).numpy()
    in_real, in_synthetic = far < reach[0][:, None], far < reach[1][None]
    nearest = NearestNeighbors(n_neighbors=1).fit(b.numpy()).kneighbors(a.numpy())[0][:, 0]
    expected = (
        in_real.any(axis=0).mean(),
        in_synthetic.any(axis=1).mean(),
        in_real.sum() / k / 45,
        (nearest < reach[0]).mean(),
    )
    for chunk in (8, 1024):
        assert numbers(overlap(a, b, k, chunk)) == pytest.approx(expected)


def test_density_and_coverage_of_one_distribution_are_those_of_its_order_statistics() -> None:
    # Naeem et al., ICML 2020, section 4: whatever the distribution, density is expected to be 1, and
    # coverage to be 1 - (N-1)...(N-k) / (M+N-1)...(M+N-k).
    n, m, k = 60, 40, 5
    runs = [overlap(normal(n, 3, s), normal(m, 3, 900 + s), k) for s in range(80)]
    expected = 1 - math.prod((n - i) / (m + n - i) for i in range(1, k + 1))
    assert sum(r.coverage for r in runs) / 80 == pytest.approx(expected, abs=0.015)
    assert sum(r.density for r in runs) / 80 == pytest.approx(1.0, abs=0.04)


def test_copies_are_precise_and_cover_everything() -> None:
    a = normal(50, 8, 4)
    found = overlap(a, a.clone())
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)


def test_a_collapsed_set_is_precise_but_neither_recalls_nor_covers() -> None:
    real = normal(200, 8, 5)
    found = overlap(real, real[real.norm(dim=1).argmin()].expand(60, 8))
    assert found.precision == 1
    assert found.recall == 0
    assert found.coverage < 0.2


def test_half_of_the_modes_are_half_of_the_coverage() -> None:
    shift = torch.tensor([50.0, 0.0])
    real = torch.cat([normal(100, 2, 6), normal(100, 2, 7) + shift])
    found = overlap(real, normal(200, 2, 8))
    assert found.precision > 0.9
    assert found.recall == pytest.approx(0.5, abs=0.05)
    assert found.coverage == pytest.approx(0.5, abs=0.02)


def test_noise_far_from_the_images_scores_nothing() -> None:
    assert numbers(overlap(normal(60, 8, 9), 20 + normal(60, 8, 10))) == (0.0, 0.0, 0.0, 0.0)


def test_one_real_outlier_lifts_precision_more_than_density() -> None:
    # The outlier's ball reaches back to its neighbours and holds all that lies between.
    real = torch.cat([normal(100, 2, 11), torch.tensor([[60.0, 0.0]])])
    between = torch.tensor([30.0, 0.0]) + normal(100, 2, 12)
    found = overlap(real, between)
    assert found.precision == 1
    assert found.density == pytest.approx(1 / 5)


def test_sets_with_no_more_than_k_items_are_refused() -> None:
    with pytest.raises(ValueError, match="more items in each set than the 5 neighbours"):
        overlap(normal(5, 2, 1), normal(50, 2, 1))
