import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, avg_pool3d

from synth.privacy.correlation import Search, copies, strongest


def smooth(n: int, channels: int, *space: int, seed: int = 0) -> torch.Tensor:
    """Independent images of blobs."""
    noise = torch.randn(n, channels, *space, generator=torch.Generator().manual_seed(seed))
    return avg_pool2d(noise, 5, 1, 2) if len(space) == 2 else avg_pool3d(noise, 5, 1, 2)


def shifted_one_after_the_other(
    image: torch.Tensor, reference: torch.Tensor, far: list[int], mirror: int
) -> float:
    """Greatest mean over channels of numpy's Pearson correlation, every shift and mirror image tried."""
    best = -1.0
    for turned in (image, image.flip(1 + mirror)):
        for steps in itertools.product(*(range(-reach, reach + 1) for reach in far)):
            moved = turned.roll(steps, tuple(range(1, image.ndim)))
            pairs = zip(moved.numpy(), reference.numpy(), strict=True)
            best = max(best, float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs])))
    return best


@pytest.mark.parametrize(
    ("space", "far", "mirror"), [((14, 11), [2, 2], 1), ((11, 8, 8), [2, 1, 1], 0), ((8, 12), [1, 2], 0)]
)
def test_correlation_theorem_agrees_with_every_shift_tried(
    space: tuple[int, ...], far: list[int], mirror: int
) -> None:
    images, references = smooth(2, 2, *space), smooth(3, 2, *space, seed=1)
    search = Search(reach=0.12, mirror=0) if mirror == 0 and len(space) == 2 else Search(reach=0.12)
    found = strongest(images, references, search)
    for i, image in enumerate(images):
        each = [shifted_one_after_the_other(image, reference, far, mirror) for reference in references]
        assert float(found.value[i]) == pytest.approx(max(each), abs=1e-5)
        assert int(found.index[i]) == each.index(max(each))


def test_an_image_brightened_shifted_and_mirrored_is_itself() -> None:
    references = smooth(40, 1, 32, 32)
    images = 3 * references[[7, 31]].roll((-3, 2), (2, 3)).flip(3) + 5
    found = strongest(images, references)
    assert found.index.tolist() == [7, 31]
    assert found.value.numpy() == pytest.approx(1, abs=1e-5)


def test_volumes_are_mirrored_from_left_to_right_and_not_upside_down() -> None:
    references = smooth(5, 1, 12, 12, 12)
    mirrored = strongest(references[2:3].flip(2), references)
    inverted = strongest(references[2:3].flip(4), references)
    assert float(mirrored.value[0]) == pytest.approx(1, abs=1e-5)
    assert float(inverted.value[0]) < 0.9


def test_a_shift_out_of_reach_is_not_undone() -> None:
    reference = smooth(1, 1, 32, 32)
    assert float(strongest(reference.roll(4, 2), reference, Search(reach=0.125)).value[0]) > 0.999
    assert float(strongest(reference.roll(5, 2), reference, Search(reach=0.125)).value[0]) < 0.95


def test_coarse_search_finds_what_the_whole_search_finds() -> None:
    references = smooth(60, 1, 48, 48)
    noise = torch.randn(6, 1, 48, 48, generator=torch.Generator().manual_seed(3))
    images = references[::10].roll((3, -4), (2, 3)) + 0.1 * noise
    whole, quick = (
        strongest(images, references, Search(coarse=48)),
        strongest(images, references, Search(coarse=16)),
    )
    assert torch.equal(whole.index, quick.index)
    assert torch.allclose(whole.value, quick.value, atol=1e-6)


def test_order_of_images_and_of_references_does_not_matter() -> None:
    images, references = smooth(9, 1, 16, 16), smooth(300, 1, 16, 16, seed=1)
    shuffle = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    found, other = strongest(images, references), strongest(images.flip(0), references[shuffle])
    assert torch.allclose(found.value, other.value.flip(0), atol=1e-6)
    assert torch.equal(found.index, shuffle[other.index.flip(0)])


def test_an_even_channel_says_nothing() -> None:
    images = smooth(3, 2, 16, 16)
    images[:, 1] = 0.7
    found = strongest(images, images)
    assert found.value.numpy() == pytest.approx(0.5, abs=1e-5)


def test_share_of_copies_above_the_null_is_the_share_that_was_copied() -> None:
    train, held_out = smooth(80, 1, 16, 16), smooth(100, 1, 16, 16, seed=1)
    fresh = smooth(60, 1, 16, 16, seed=2)
    fresh[:15] = train[:15] * 2
    found = copies(fresh, train, held_out).evidence.absolute
    assert found.share == pytest.approx(0.25, abs=0.05)
    assert found.flagged
    assert math.isclose(1 - found.threshold, float(strongest(held_out, train).value.max()), abs_tol=1e-6)


def test_images_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one grid"):
        strongest(smooth(1, 1, 16, 16), smooth(1, 1, 16, 18))
