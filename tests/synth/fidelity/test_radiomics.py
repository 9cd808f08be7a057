"""Radiomics against the IBSI's digital phantom, SciPy and constructed failures."""

import math

import pytest
import torch
from scipy.stats import spearmanr, wasserstein_distance

from synth.fidelity.radiomics import (
    FIRST_ORDER,
    SHAPE_3D,
    agreement,
    feature_names,
    features_of_set,
    rank_correlations,
    region_features,
    shape_features,
    wasserstein_of_samples,
)
from synth.fidelity.texture import TEXTURES, cooccurrence, texture_features

# Digital phantom of the IBSI (reference manual arXiv:1612.07003, section 5.1): voxels of 2 mm, four slices of
# four rows; 0 is outside the region.
PHANTOM = torch.tensor(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ]
)
# Its published values (read in the compliance table of pictologics), to three figures; textures of the volume
# with all directions merged.
PUBLISHED = {
    "volume": 592,
    "major_axis": 11.4,
    "minor_axis": 9.31,
    "least_axis": 8.54,
    "elongation": 0.816,
    "flatness": 0.749,
    "mean": 2.15,
    "variance": 3.05,
    "skewness": 1.08,
    "kurtosis": -0.355,
    "percentile_10": 1,
    "median": 1,
    "percentile_90": 4,
    "interquartile_range": 3,
    "entropy": 1.27,
    "uniformity": 0.512,
    "joint_entropy": 2.57,
    "angular_second_moment": 0.291,
    "contrast": 5.12,
    "inverse_difference_moment": 0.631,
    "correlation": 0.183,
    "cluster_shade": 17.4,
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Slices with a disc, the darker and rougher the larger it is."""
    generator = seeded(seed)
    radius = 3 + 6 * torch.rand(n, generator=generator)
    at = torch.stack(torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")) - 11.5
    inside = at.norm(dim=0) < radius[:, None, None]
    rough = torch.randn(n, 1, 24, 24, generator=generator) * 0.02 * radius[:, None, None, None]
    return rough + 1 - 0.05 * radius[:, None, None, None], inside


def features(n: int, seed: int) -> torch.Tensor:
    return features_of_set(*blobs(n, seed), (1.0, 1.0))[0]


def test_every_feature_has_its_published_value_on_the_digital_phantom() -> None:
    names = feature_names(1, 3)
    assert set(names) == {f"{n}_0" for n in (*FIRST_ORDER, *TEXTURES)} | set(SHAPE_3D)
    found = region_features(PHANTOM[None].float(), PHANTOM > 0, (2.0, 2.0, 2.0), n_levels=6)
    for name, value in zip(names, found.tolist(), strict=True):
        published = PUBLISHED[name.removesuffix("_0")]
        digits = 2 - math.floor(math.log10(abs(published)))  # three figures are published
        assert round(value, digits) == pytest.approx(published, abs=1e-9), name


def test_features_of_an_image_turned_by_a_right_angle_are_the_same() -> None:
    image, region = torch.rand(2, 9, 10, 11, generator=seeded(1)), torch.ones(9, 10, 11, dtype=torch.bool)
    there = region_features(image, region, (1.0, 1.0, 1.0))
    back = region_features(image.transpose(1, 3).flip(2), region.transpose(0, 2), (1.0, 1.0, 1.0))
    torch.testing.assert_close(there, back)
    assert len(there) == len(feature_names(2, 3))


def test_texture_ignores_scale_and_offset_of_brightness() -> None:
    image, region = (
        torch.rand(1, 12, 12, generator=seeded(2), dtype=torch.float64),
        torch.ones(12, 12, dtype=torch.bool),
    )
    names = feature_names(1, 2)
    keep = [i for i, n in enumerate(names) if n.removesuffix("_0") in TEXTURES]
    a, b = (region_features(x, region, (1.0, 1.0))[keep] for x in (image, 4 * image + 3))
    torch.testing.assert_close(a, b)


def test_a_bar_has_the_axes_of_its_moments() -> None:
    # Equally spaced points have variance (n^2 - 1) h^2 / 12, here with 47 degrees of freedom.
    region = torch.ones(12, 4, dtype=torch.bool)
    area, major, minor, elongation = shape_features(region, (0.5, 2.0)).tolist()
    assert area == 48
    assert major == pytest.approx(4 * math.sqrt((4**2 - 1) * 4 / 12 * 48 / 47))
    assert minor == pytest.approx(4 * math.sqrt((12**2 - 1) * 0.25 / 12 * 48 / 47))
    assert elongation == pytest.approx(minor / major)


def test_a_checkerboard_meets_its_opposite_along_the_axes_and_itself_on_the_diagonals() -> None:
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 + 1
    entropy, moment, contrast, inverse, correlation, shade = texture_features(cooccurrence(board, 2)).tolist()
    along = 2 * 64 * 63 / (2 * 64 * 63 + 2 * 63 * 63)
    assert contrast == pytest.approx(along)
    assert inverse == pytest.approx(along / 2 + 1 - along)
    assert correlation == pytest.approx(1 - 2 * along, abs=1e-9)
    assert moment == pytest.approx((along**2 + (1 - along) ** 2) / 2, abs=1e-9)
    assert entropy == pytest.approx(
        1 - along * math.log2(along) - (1 - along) * math.log2(1 - along), abs=1e-9
    )
    assert shade == pytest.approx(0.0, abs=1e-9)


def test_a_region_of_one_value_has_defined_features() -> None:
    found = region_features(
        torch.full((1, 6, 6, 6), 0.3), torch.ones(6, 6, 6, dtype=torch.bool), (1.0, 1.0, 1.0)
    )
    assert not found.isnan().any()


def test_small_regions_are_left_out_of_a_set_and_refused_alone() -> None:
    images, regions = blobs(5, 1)
    regions[2] = False
    rows, kept = features_of_set(images, regions, (1.0, 1.0))
    assert kept.tolist() == [0, 1, 3, 4]
    torch.testing.assert_close(rows[2], region_features(images[3], regions[3], (1.0, 1.0)))
    none = features_of_set(images, torch.zeros_like(regions), (1.0, 1.0))[0]
    assert none.shape == (0, len(feature_names(1, 2)))
    with pytest.raises(ValueError, match="8 voxels or more, got 0"):
        region_features(images[2], regions[2], (1.0, 1.0))
    with pytest.raises(ValueError, match="2 positive spacings"):
        region_features(images[0], regions[0], (1.0, 1.0, 1.0))


def test_rank_correlations_are_those_of_scipy_with_ties() -> None:
    x = torch.randint(4, (40, 5), generator=seeded(3)).double()
    torch.testing.assert_close(rank_correlations(x), torch.from_numpy(spearmanr(x.numpy()).statistic))


def test_distances_between_samples_are_those_of_scipy() -> None:
    a, b = torch.randn(30, 3, generator=seeded(4)), 2 * torch.randn(17, 3, generator=seeded(5)) + 1
    expected = [wasserstein_distance(a[:, k].double(), b[:, k].double()) for k in range(3)]
    assert wasserstein_of_samples(a, b).tolist() == pytest.approx(expected)


def test_a_set_of_the_same_kind_agrees_and_one_shuffled_between_cases_does_not() -> None:
    a, b = (features(60, s) for s in (6, 7))
    same = agreement(a, b)
    # Each feature is distributed as before, but none goes with another.
    shuffled = torch.stack(
        [c[torch.randperm(60, generator=seeded(i))] for i, c in enumerate(b.unbind(1))], dim=1
    )
    lost = agreement(a, shuffled)
    assert same.correlation > 0.95
    assert lost.correlation < 0.4
    assert lost.difference > 3 * same.difference
    assert lost.shift == pytest.approx(same.shift)


def test_copies_agree_wholly_and_brighter_ones_are_shifted() -> None:
    a = features(30, 8)
    exact = agreement(a, a.clone())
    assert (exact.difference, exact.shift) == (0.0, 0.0)
    assert exact.correlation == pytest.approx(1.0)
    assert agreement(a, a + a.std(dim=0)).shift == pytest.approx(1.0)


def test_a_collapsed_set_has_no_correlations_to_agree_with() -> None:
    a = features(30, 9)
    collapsed = agreement(a, a[:1].expand(30, -1))
    off = rank_correlations(a).abs().fill_diagonal_(0).sum() / (a.shape[1] * (a.shape[1] - 1))
    assert collapsed.difference == pytest.approx(float(off))
    assert math.isnan(collapsed.correlation)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="three rows of two features"):
        agreement(torch.zeros(2, 5), torch.zeros(9, 5))
