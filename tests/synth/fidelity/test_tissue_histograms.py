"""Histograms of tissues against SciPy and closed forms."""

import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from synth.fidelity.histograms import jensen_shannon, mean_over_classes, tissue_histograms, wasserstein


def images(seed: int, n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Two channels in which class 1 is brighter by 0.3 and 0.1."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (n, 20, 20), generator=generator)
    noise = 0.05 * torch.randn(n, 2, 20, 20, generator=generator)
    return noise + 0.4 + labels[:, None] * torch.tensor([0.3, 0.1])[:, None, None], labels


def test_every_voxel_counts_once_in_its_class() -> None:
    x, labels = images(1)
    counts = tissue_histograms(x, labels, 3, 0.0, 1.0, 32)
    assert counts.shape == (6, 3, 2, 32)
    for k in (0, 1, 2):
        assert counts[:, k, 0].sum(dim=-1).tolist() == (labels == k).sum(dim=(1, 2)).tolist()
        for c in (0, 1):
            expected = torch.histc(x[:, c][labels == k], 32, 0.0, 1.0)
            assert counts.sum(dim=0)[k, c].tolist() == expected.tolist()


def test_values_beyond_the_edges_count_in_the_outer_bins() -> None:
    counts = tissue_histograms(
        torch.tensor([[[[-9.0, 9.0]]]]), torch.zeros(1, 1, 2, dtype=torch.long), 1, 0.0, 1.0, 4
    )
    assert counts.flatten().tolist() == [1.0, 0.0, 0.0, 1.0]


def test_distances_are_those_of_scipy() -> None:
    a, b = tissue_histograms(*images(1), 2, 0.0, 1.0, 40), tissue_histograms(*images(2, 4), 2, 0.0, 1.0, 40)
    b = b.roll(3, dims=-1)
    centres = (torch.arange(40) + 0.5) / 40
    for k in (0, 1):
        for c in (0, 1):
            p, q = (x.sum(dim=0)[k, c].numpy() for x in (a, b))
            moved = wasserstein_distance(centres, centres, p, q)
            assert float(wasserstein(a, b, 1 / 40)[k, c]) == pytest.approx(moved, rel=1e-6)
            assert float(jensen_shannon(a, b)[k, c]) == pytest.approx(jensenshannon(p, q, 2), rel=1e-9)


def test_a_brighter_tissue_is_as_far_as_it_is_brighter_and_the_other_is_where_it_was() -> None:
    x, labels = images(3)
    brighter = x + 0.1 * (labels == 1)[:, None]
    a, b = (tissue_histograms(i, labels, 2, 0.0, 1.2, 1200) for i in (x, brighter))
    found = wasserstein(a, b, 0.001)
    torch.testing.assert_close(found[1], torch.full((2,), 0.1, dtype=torch.float64), atol=1e-3, rtol=0)
    assert float(found[0].abs().max()) == 0


def test_tissues_of_no_common_brightness_are_as_far_as_can_be() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    a, b = (tissue_histograms(torch.full((1, 1, 4, 4), v), labels, 1, 0.0, 1.0, 10) for v in (0.05, 0.95))
    assert float(jensen_shannon(a, b)) == pytest.approx(1.0)
    assert float(jensen_shannon(a, a)) == 0
    assert float(wasserstein(a, b, 0.1)) == pytest.approx(0.9)


def test_labels_that_do_not_fit_the_images_are_seen() -> None:
    x, labels = images(4)
    other, theirs = images(5)
    a = tissue_histograms(x, labels, 2, 0.0, 1.0)
    right = mean_over_classes(wasserstein(a, tissue_histograms(other, theirs, 2, 0.0, 1.0), 1 / 128))
    wrong = mean_over_classes(wasserstein(a, tissue_histograms(other, 1 - theirs, 2, 0.0, 1.0), 1 / 128))
    assert right < 0.01
    assert wrong == pytest.approx(0.2, abs=0.02)  # the mean of 0.3 and 0.1


def test_a_class_that_one_set_has_not_is_not_a_number_and_not_in_the_mean() -> None:
    x, labels = images(6)
    a = tissue_histograms(x, labels, 2, 0.0, 1.0)
    b = tissue_histograms(x, torch.zeros_like(labels), 2, 0.0, 1.0)
    for found in (wasserstein(a, b, 1 / 128), jensen_shannon(a, b)):
        assert found[1].isnan().all()
        assert mean_over_classes(found) == pytest.approx(float(found[0].mean()))
    assert math.isnan(mean_over_classes(wasserstein(a[:, 1:], b[:, 1:], 1 / 128)))


def test_labels_that_are_no_class_are_refused() -> None:
    x, labels = images(7)
    with pytest.raises(ValueError, match="labels 0 to 1, got 0 to 2"):
        tissue_histograms(x, labels * 2, 2, 0.0, 1.0)
    with pytest.raises(ValueError, match="a low and a higher edge"):
        tissue_histograms(x, labels, 2, 1.0, 0.0)
