"""Radial spectra against closed forms, and what blur, noise and dots do to them."""

import math

import pytest
import torch

from synth.fidelity.spectrum import radial_spectra, spectrum_distance


def noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wave(n: int, cycles: int, n_dims: int) -> torch.Tensor:
    along = torch.cos(2 * math.pi * cycles * torch.arange(n, dtype=torch.float64) / n)
    return along.reshape(-1, *[1] * (n_dims - 1)).expand([n] * n_dims)[None, None]


@pytest.mark.parametrize("shape", [(4, 1, 64, 48), (3, 2, 24, 20, 22), (4, 1, 33, 35)])
def test_white_noise_has_its_variance_at_every_frequency(shape: tuple[int, ...]) -> None:
    spectra = radial_spectra(3 * noise(shape, 1), n_shells=8)
    assert spectra.shape == (*shape[:2], 8)
    mean = 10 * torch.log10((10 ** (spectra / 10)).mean(dim=(0, 1)))
    torch.testing.assert_close(
        mean[2:], torch.full((6,), 10 * math.log10(9.0), dtype=torch.float64), atol=0.6, rtol=0
    )


@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("cycles", [1, 5, 8])
def test_a_wave_has_all_its_power_in_its_shell(cycles: int, n_dims: int) -> None:
    image = wave(16, cycles, n_dims)
    spectra = radial_spectra(image)[0, 0]
    assert int(spectra.argmax()) == cycles - 1
    radius = torch.stack(
        torch.meshgrid(*[16 * torch.fft.fftfreq(16, dtype=torch.float64)] * n_dims, indexing="ij")
    ).norm(dim=0)
    n_in_shell = int(((radius > cycles - 1 + 1e-6) & (radius <= cycles + 1e-6)).sum())
    expected = 10 * math.log10(float(image.square().sum()) / n_in_shell)  # Parseval
    assert float(spectra[cycles - 1]) == pytest.approx(expected)
    assert float(spectra.topk(2).values[1]) < expected - 100


def test_the_mean_of_an_image_does_not_count() -> None:
    a = noise((2, 1, 32, 32), 2)
    torch.testing.assert_close(radial_spectra(a), radial_spectra(a + 100), rtol=1e-6, atol=1e-6)


def test_ten_times_the_contrast_is_twenty_decibels() -> None:
    a = noise((5, 1, 16, 16, 16), 3)
    assert spectrum_distance(radial_spectra(a), radial_spectra(10 * a)) == pytest.approx(20.0)


def test_a_box_blur_takes_away_what_its_transform_says() -> None:
    a = noise((6, 1, 64, 64), 4)
    blurred = (a + a.roll(1, dims=2)) / 2  # |cos(pi f)|^2 along one axis
    along = torch.fft.fftfreq(64, dtype=torch.float64)
    shell = torch.ceil(64 * (along[:, None] ** 2 + along**2).sqrt() - 1e-9).long() - 1
    gain = (torch.cos(math.pi * along) ** 2)[:, None].expand(64, 64)
    lost = radial_spectra(blurred).mean(dim=0)[0] - radial_spectra(a).mean(dim=0)[0]
    for k in (3, 15, 31):
        assert float(lost[k]) == pytest.approx(10 * math.log10(float(gain[shell == k].mean())), abs=0.3)


def test_blur_noise_and_dots_are_each_seen() -> None:
    along = torch.fft.fftfreq(32, dtype=torch.float64)
    fall = 1 / (0.02 + along[:, None] ** 2 + along**2)

    def textured(seed: int) -> torch.Tensor:
        return torch.fft.ifft2(torch.fft.fft2(noise((10, 1, 32, 32), seed)) * fall).real

    real, other = textured(5), textured(6)
    blurred = torch.nn.functional.avg_pool2d(other, 3, stride=1, padding=1)
    dots = other.clone()
    dots[..., ::2, ::2] += 10
    floor = spectrum_distance(radial_spectra(real), radial_spectra(other))
    for worse in (blurred, dots, noise((10, 1, 32, 32), 7)):
        assert spectrum_distance(radial_spectra(real), radial_spectra(worse)) > 2 * floor


def test_a_flat_image_has_no_power_and_a_finite_spectrum() -> None:
    assert radial_spectra(torch.full((1, 1, 16, 16), 0.5)).max() <= -150


def test_more_shells_than_frequencies_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 8 shells"):
        radial_spectra(noise((1, 1, 16, 40), 1), n_shells=9)
