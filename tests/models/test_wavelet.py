import pytest
import torch

from models.wavelet import band_std, haar, to_bands, to_image, unhaar

SHAPES = [(2, 1, 8, 12), (1, 4, 4, 6, 8)]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_step_is_a_rotation_and_undone(shape: tuple[int, ...]) -> None:
    x = noise(*shape)
    bands = haar(x)
    assert bands.shape == (shape[0], shape[1] * 2 ** (len(shape) - 2), *[n // 2 for n in shape[2:]])
    torch.testing.assert_close(unhaar(bands), x)
    torch.testing.assert_close((bands**2).sum(), (x**2).sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_analysis_is_the_adjoint_of_synthesis(shape: tuple[int, ...]) -> None:
    x, y = noise(*shape), noise(*haar(noise(*shape)).shape)
    torch.testing.assert_close((haar(x) * y).sum(), (x * unhaar(y)).sum())


def test_a_cell_of_two_by_two_as_haar_wrote_it() -> None:
    cell = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])
    # mean, detail along the first axis, along the second, along both; each over 2
    assert haar(cell).flatten().tolist() == [5.5, -2.5, -1.5, 0.5]


def test_channels_are_band_major_and_bits_name_the_axes() -> None:
    x = torch.zeros(1, 3, 4, 4, 4)
    x[:, 1, 0::2] = 1.0  # detail along the first axis of contrast 1
    x[:, 2, :, :, 1::2] = 1.0  # and along the third of contrast 2
    used = haar(x).abs().sum(dim=(0, 2, 3, 4)).nonzero().flatten().tolist()
    assert used == [1, 2, 1 * 3 + 1, 4 * 3 + 2]


def test_a_constant_has_no_detail() -> None:
    bands = haar(torch.full((1, 1, 4, 4, 4), 0.7))
    torch.testing.assert_close(bands[:, 0], torch.full((1, 2, 2, 2), 0.7 * 8**0.5))
    assert float(bands[:, 1:].abs().max()) == 0


def test_bands_of_the_training_set_have_unit_deviation() -> None:
    x = noise(6, 2, 16, 16) * torch.tensor([1.0, 3.0]).reshape(2, 1, 1) + 5
    std = band_std((part, torch.ones(3, 2)) for part in x.split(3))
    assert std[0] == pytest.approx(1, rel=0.1)
    assert std[1] == pytest.approx(3, rel=0.1)
    bands = to_bands(x, std)
    torch.testing.assert_close(bands.std(dim=(0, 2, 3), correction=0), torch.ones(8), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(to_image(bands, std), x)


def test_contrasts_that_a_case_lacks_do_not_count() -> None:
    x = noise(2, 2, 8, 8)
    blank = torch.cat([x[:1], torch.zeros(1, 2, 8, 8)])
    there = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert band_std([(blank, there)]) == pytest.approx(band_std([(x[:1], torch.ones(1, 2))]))
    with pytest.raises(ValueError, match="every contrast"):
        band_std([(x, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))])
