"""Figures of SynthRAD against scikit-image, which its code calls, and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.nn.functional import interpolate

from imaging.agreement import hu_mae
from imaging.grid import Grid
from imaging.synthrad import ms_ssim, psnr, ssim
from imaging.volume import Quantity, Volume

RANGE = 4024.0
C1 = (0.01 * RANGE) ** 2


def ct(data: torch.Tensor) -> Volume:
    grid = Grid((data.shape[0], data.shape[1], data.shape[2]), np.eye(4))
    return Volume(data[None].float(), grid, Quantity.HU)


def noise(shape: tuple[int, int, int], seed: int) -> torch.Tensor:
    """Numbers beyond both ends of the range."""
    return 1500 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def middle(shape: tuple[int, int, int], margin: int) -> torch.Tensor:
    body = torch.zeros(shape, dtype=torch.bool)
    body[margin:-margin, margin:-margin, margin:-margin] = True
    return body


def test_psnr_and_ssim_are_those_of_scikit_image_on_clipped_images() -> None:
    shape = (20, 24, 17)
    truth, body = noise(shape, 0), middle(shape, 2)
    body[:, :10] = False
    found = truth + 0.2 * noise(shape, 1)
    a, b = (x.clamp(-1024, 3000).double().numpy() for x in (found, truth))
    inside = body.numpy()
    expected = peak_signal_noise_ratio(b[inside], a[inside], data_range=RANGE)
    assert psnr(ct(found), ct(truth), body) == pytest.approx(expected, abs=1e-9)
    a, b = np.where(inside, a + 1024, 0), np.where(inside, b + 1024, 0)
    _, similarity = structural_similarity(b, a, data_range=RANGE, full=True)
    judged = (slice(3, -3),) * 3
    expected = similarity[judged][inside[judged]].mean()
    assert ssim(ct(found), ct(truth), body) == pytest.approx(expected, abs=1e-12)


def test_an_error_of_a_hundred_hu_has_its_psnr_and_mae() -> None:
    truth = torch.zeros(16, 16, 16)
    body = middle((16, 16, 16), 4)
    wrong = torch.where(body, truth + 100, truth + 5000)  # outside the body nothing counts
    assert hu_mae(ct(wrong), ct(truth), body) == 100
    assert psnr(ct(wrong), ct(truth), body) == pytest.approx(20 * math.log10(RANGE / 100), abs=1e-9)
    assert psnr(ct(truth), ct(truth), body) == math.inf


def test_the_error_is_not_clipped_but_the_psnr_is() -> None:
    truth = torch.full((16, 16, 16), 3000.0)
    body = middle((16, 16, 16), 4)
    metal = torch.full((16, 16, 16), 9000.0)
    assert hu_mae(ct(metal), ct(truth), body) == 6000
    assert psnr(ct(metal), ct(truth), body) == math.inf


def test_equal_images_are_alike_at_every_scale() -> None:
    some = ct(noise((100, 98, 97), 2))
    body = middle((100, 98, 97), 10)
    assert ms_ssim(some, some, body) == pytest.approx(1, abs=1e-12)
    assert ssim(some, some, body) == pytest.approx(1, abs=1e-12)


def test_every_scale_is_the_similarity_of_scikit_image_to_its_weight() -> None:
    """Contrast and structure multiply to its one term, so at equal weights only its map is needed."""
    shape = (97, 110, 101)
    body = middle(shape, 5)
    body[:, :30] = False
    truth = noise((4, 4, 4), 5)
    truth = interpolate(truth[None, None], size=shape, mode="trilinear")[0, 0]
    found = 0.7 * truth + 0.3 * noise(shape, 6)
    x, y = (np.where(body, v.clamp(-1024, 3000).double() + 1024, 0) for v in (found, truth))
    inside = body.numpy()
    expected = 1.0
    for weight in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        _, similarity = structural_similarity(x, y, data_range=RANGE, full=True)
        judged = (slice(3, -3),) * 3
        expected *= (similarity.clip(min=0) ** weight)[judged][inside[judged]].mean()
        x, y = (fftconvolve(z, np.full((2, 2, 2), 1 / 8), mode="same")[::2, ::2, ::2] for z in (x, y))
        inside = inside[::2, ::2, ::2]
    assert 0.2 < expected < 0.9
    assert ms_ssim(ct(found), ct(truth), body) == pytest.approx(expected, abs=1e-9)


def test_small_images_are_continued_by_their_edge() -> None:
    shape = (40, 41, 42)
    truth, body = torch.full(shape, 40.0), torch.ones(shape, dtype=torch.bool)
    found = truth + 300
    luminance = (2 * 1064 * 1364 + C1) / (1064**2 + 1364**2 + C1)
    # Weights sum to 1.0001; the air before the first voxel of each scale costs a little contrast.
    assert ms_ssim(ct(found), ct(truth), body) == pytest.approx(luminance**1.0001, rel=1e-2)


def test_a_body_at_the_edge_alone_is_refused() -> None:
    body = torch.zeros(20, 20, 20, dtype=torch.bool)
    body[0] = True
    some = ct(torch.zeros(20, 20, 20))
    with pytest.raises(ValueError, match="reaches inside the outermost"):
        ssim(some, some, body)
    with pytest.raises(ValueError, match="got an empty one"):
        psnr(some, some, body & ~body)
