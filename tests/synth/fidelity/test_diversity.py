"""Similarity of pairs against MONAI, torchmetrics and constructed collapse."""

import math

import pytest
import torch
from monai.metrics.regression import compute_ms_ssim
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.functional.image.ssim import _get_normalized_sim_and_cs

from synth.fidelity.diversity import Scales, diversity, ms_ssim, pair_similarities, random_pairs, scales

FIVE = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Blobs within 0..1."""
    small = torch.rand((*shape[:2], *(max(s // 8, 2) for s in shape[2:])), generator=seeded(seed))
    mode = "bilinear" if len(shape) == 4 else "trilinear"
    return torch.nn.functional.interpolate(small, size=shape[2:], mode=mode)


@pytest.mark.parametrize("shape", [(3, 2, 112, 120), (1, 1, 32, 28, 30)])
def test_agrees_with_monai(shape: tuple[int, ...]) -> None:
    a, b = smooth(shape, 1), smooth(shape, 1) * 0.7 + 0.3 * smooth(shape, 2)
    at = scales(shape[2:])
    expected = compute_ms_ssim(
        a, b, spatial_dims=len(shape) - 2, data_range=1.0, kernel_size=at.kernel, weights=at.weights
    )
    got = ms_ssim(a, b, 1.0)
    assert float(got.min()) > 0.3
    torch.testing.assert_close(got.float(), expected[:, 0], rtol=1e-4, atol=1e-5)


def test_one_scale_agrees_with_torchmetrics_in_double() -> None:
    a, b = smooth((2, 1, 40, 44), 3).double(), smooth((2, 1, 40, 44), 4).double()
    # torchmetrics pads the border and we leave it out: five voxels of its map, the window being eleven wide.
    _, full = structural_similarity_index_measure(
        a, b, data_range=1.0, return_full_image=True, reduction=None
    )
    expected = full[..., 5:-5, 5:-5].flatten(1).mean(dim=1)
    torch.testing.assert_close(ms_ssim(a, b, 1.0, Scales(11, (1.0,))), expected, rtol=1e-9, atol=0)


def test_all_but_the_coarsest_scale_agree_with_torchmetrics_in_double() -> None:
    a, b = smooth((2, 1, 80, 96), 5).double(), smooth((2, 1, 80, 96), 6).double()
    b = 0.6 * a + 0.4 * b
    expected = torch.ones(2, dtype=torch.float64)
    x, y = a, b
    for weight in (0.3, 0.5):
        expected *= _get_normalized_sim_and_cs(x, y, data_range=1.0)[1] ** weight
        x, y = (torch.nn.functional.avg_pool2d(z, 2) for z in (x, y))
    _, full = structural_similarity_index_measure(
        x, y, data_range=1.0, return_full_image=True, reduction=None
    )
    expected *= full[..., 5:-5, 5:-5].flatten(1).mean(dim=1) ** 0.2
    torch.testing.assert_close(ms_ssim(a, b, 1.0, Scales(11, (0.3, 0.5, 0.2))), expected, rtol=1e-9, atol=0)


def test_an_image_is_wholly_like_itself_and_not_like_its_negative() -> None:
    a = smooth((2, 1, 64, 64), 7)
    torch.testing.assert_close(ms_ssim(a, a, 1.0), torch.ones(2, dtype=torch.float64))
    assert float(ms_ssim(a, 1 - a, 1.0).max()) == 0


def test_flat_images_differ_by_their_luminance_alone() -> None:
    c1 = 0.01**2
    expected = ((2 * 0.2 * 0.8 + c1) / (0.2**2 + 0.8**2 + c1)) ** scales((64, 64)).weights[-1]
    a, b = torch.full((1, 1, 64, 64), 0.2), torch.full((1, 1, 64, 64), 0.8)
    assert float(ms_ssim(a, b, 1.0)) == pytest.approx(expected, rel=1e-5)


def test_scale_of_values_does_not_matter_with_their_range() -> None:
    a, b = smooth((1, 1, 64, 64), 8), smooth((1, 1, 64, 64), 9)
    torch.testing.assert_close(ms_ssim(a, b, 1.0), ms_ssim(255 * a, 255 * b, 255.0), rtol=1e-5, atol=0)


def test_window_and_scales_follow_the_size() -> None:
    at = scales((128, 128, 128))
    assert at.kernel == 7
    assert at.weights == pytest.approx(FIVE, rel=2e-4)
    assert scales((240, 200, 176)).kernel == 11
    assert [len(scales((n, 300)).weights) for n in (112, 111, 56, 55, 28, 27, 14)] == [5, 4, 4, 3, 3, 2, 2]
    assert sum(scales((64, 64, 64)).weights) == pytest.approx(1.0)


def test_images_too_small_for_two_scales_are_refused() -> None:
    with pytest.raises(ValueError, match="sides of 14 voxels or more for two scales, got \\(64, 13\\)"):
        scales((64, 13))


def test_a_range_of_nothing_is_refused() -> None:
    a = smooth((1, 1, 16, 16), 1)
    with pytest.raises(ValueError, match="positive data range"):
        ms_ssim(a, a, 0.0)


@pytest.mark.parametrize("n", [2, 3, 8, 9])
def test_pairs_are_different_and_use_images_alike(n: int) -> None:
    whole = n * (n - 1) // 2
    every = {tuple(sorted(p)) for p in random_pairs(n, whole, seeded(1)).tolist()}
    assert len(every) == whole
    assert all(a != b for a, b in every)
    for n_pairs in range(1, whole + 1):
        used = torch.bincount(random_pairs(n, n_pairs, seeded(2)).flatten(), minlength=n)
        assert int(used.sum()) == 2 * n_pairs
        assert int(used.max()) - int(used.min()) <= 2


def test_pairs_follow_the_generator() -> None:
    assert random_pairs(20, 9, seeded(1)).equal(random_pairs(20, 9, seeded(1)))
    assert not random_pairs(20, 9, seeded(1)).equal(random_pairs(20, 9, seeded(2)))
    with pytest.raises(ValueError, match="1 to 3 pairs of 3 images, got 4"):
        random_pairs(3, 4, seeded(1))


def test_a_collapsed_set_is_alike_throughout_and_as_diverse_as_nothing() -> None:
    real = smooth((12, 1, 28, 28), 10)
    found = diversity(real, real[:1].expand(10, -1, -1, -1), 1.0, seeded(1), 20, 50)
    assert found.synthetic.estimate == pytest.approx(1.0)
    assert found.ratio.estimate == pytest.approx(0.0, abs=1e-9)
    assert found.real.high < 0.9
    assert found.n_pairs == 20


def test_a_set_of_the_same_kind_is_as_diverse() -> None:
    found = diversity(smooth((24, 1, 28, 28), 11), smooth((20, 1, 28, 28), 12), 1.0, seeded(1), 60, 200)
    assert found.ratio.low < 1 < found.ratio.high
    assert found.ratio.estimate == pytest.approx(1.0, abs=0.15)


def test_duplicates_raise_the_similarity_by_their_share() -> None:
    # Two copies of each of 8 images: 8 of 120 pairs are equal, the others are as before four times over.
    real = smooth((8, 1, 28, 28), 13)
    plain = float(pair_similarities(real, random_pairs(8, 28, seeded(1)), 1.0).mean())
    found = diversity(real, torch.cat([real, real]), 1.0, seeded(1), 120, 20)
    assert found.synthetic.estimate == pytest.approx((4 * 28 * plain + 8) / 120)
    assert not math.isnan(found.ratio.low)
