import pytest
import torch

from imaging.brightness import scaled


def test_a_scaled_image_does_not_depend_on_the_unit_of_its_signal() -> None:
    image = torch.rand(30, 30, 30, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(scaled(image * 4000), scaled(image), atol=1e-5)


def test_the_upper_percentile_of_the_head_becomes_one_whatever_the_air_around_it() -> None:
    head = torch.linspace(1, 2, 8000).reshape(20, 20, 20)
    wide = torch.zeros(40, 40, 40)
    wide[10:30, 10:30, 10:30] = head
    assert float(scaled(head).max()) == pytest.approx(2 / 1.995, rel=1e-3)
    assert torch.allclose(scaled(wide)[10:30, 10:30, 10:30], scaled(head), rtol=0.01)


def test_a_spike_is_clipped_and_does_not_move_the_scale() -> None:
    image = torch.ones(20, 20, 20)
    image[3, 3, 3] = 15
    out = scaled(image)
    assert float(out.max()) == 1.5
    assert float(out.median()) == pytest.approx(1)


def test_darkness_stays_dark() -> None:
    assert float(scaled(torch.zeros(5, 5, 5)).max()) == 0
    noise = 0.01 * torch.rand(10, 10, 10, generator=torch.Generator().manual_seed(0))
    assert float(scaled(noise, 0.35).max()) < 0.03
