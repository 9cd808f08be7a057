import pytest
import torch
from torch import Tensor

from synth.collapse import Diversity, Limits, collapse


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


REAL = noise(24, 2, 32, 32)


def test_independent_normal_images_lie_root_two_sigma_apart() -> None:
    # Means of 4 by 4 normal values deviate by 1/4, differences of two by √2/4.
    found = collapse(noise(4, 4, 2, 32, 32, seed=1), REAL)
    for distance in (found.within, found.across, found.real):
        assert distance == pytest.approx(2**0.5 / 4, rel=0.05)
    assert found.verdict is Diversity.DIVERSE
    assert "No mode collapse" in found.sentence


def test_volumes_are_judged_by_the_same_law() -> None:
    found = collapse(noise(2, 3, 2, 24, 24, 24, seed=1), noise(6, 2, 24, 24, 24))
    assert found.real == pytest.approx(2**0.5 / 8, rel=0.05)
    assert found.across == pytest.approx(2**0.5 / 8, rel=0.05)


def test_copies_of_one_image_are_collapse_and_so_is_noise_laid_over_it() -> None:
    copies = REAL[:1].expand(4, 3, 2, 32, 32)
    found = collapse(copies, REAL)
    assert (found.within, found.across) == (0, 0)
    assert found.verdict is Diversity.COLLAPSED
    smooth = torch.nn.functional.interpolate(noise(20, 1, 8, 8), scale_factor=4, mode="nearest")
    over = smooth[:1] + 0.5 * noise(3, 3, 1, 32, 32, seed=1)
    assert collapse(over, smooth).verdict is Diversity.COLLAPSED


def test_one_image_for_each_condition_is_noise_ignored() -> None:
    drawn = REAL[:6, None].expand(6, 3, 2, 32, 32)
    found = collapse(drawn, REAL)
    assert found.within == 0
    assert found.across == pytest.approx(found.real, rel=0.1)
    assert found.verdict is Diversity.NOISE_IGNORED


def test_without_conditions_the_noise_alone_has_to_tell_images_apart() -> None:
    full = noise(1, 8, 2, 32, 32, seed=1)
    assert collapse(full, REAL).verdict is Diversity.DIVERSE
    weak = 0.3 * full
    found = collapse(weak, REAL)
    assert found.within == found.across == pytest.approx(0.3 * collapse(full, REAL).within, rel=1e-4)
    assert found.verdict is Diversity.COLLAPSED
    assert collapse(weak, REAL, Limits(apart=0.2)).verdict is Diversity.DIVERSE


def test_too_few_or_bad_images_are_refused() -> None:
    with pytest.raises(ValueError, match="two images"):
        collapse(noise(4, 1, 2, 32, 32), REAL)
    with pytest.raises(ValueError, match="diverged"):
        collapse(noise(2, 2, 2, 32, 32) / 0, REAL)
    with pytest.raises(ValueError, match="copies"):
        collapse(noise(2, 2, 2, 32, 32), REAL[:1].expand(3, 2, 32, 32))
