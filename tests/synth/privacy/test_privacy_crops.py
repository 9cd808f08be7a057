import pytest
import torch

from synth.privacy.crops import boxes_of, crops


def test_box_of_a_mask_is_what_was_filled() -> None:
    masks = torch.zeros(2, 8, 9, 10, dtype=torch.bool)
    masks[0, 1:4, 2:9, 5:6] = True
    masks[1, 0, 0, 9] = True
    assert boxes_of(masks).tolist() == [[[1, 4], [2, 9], [5, 6]], [[0, 1], [0, 1], [9, 10]]]


def test_an_empty_mask_is_refused_by_its_number() -> None:
    masks = torch.ones(3, 4, 4, dtype=torch.bool)
    masks[1] = False
    with pytest.raises(ValueError, match=r"\[1\]"):
        boxes_of(masks)


@pytest.mark.parametrize("n_axes", [2, 3])
def test_a_cube_of_a_crops_own_size_is_sliced_out(n_axes: int) -> None:
    images = torch.randn(2, 2, *[20] * n_axes, generator=torch.Generator().manual_seed(0))
    starts = torch.tensor([[1, 9, 4], [12, 0, 3]])[:, :n_axes]
    cut = crops(images, torch.stack([starts, starts + 8], -1), side=8, margin=0.0)
    for image, part, start in zip(images, cut, starts.tolist(), strict=True):
        expected = image
        for axis, first in enumerate(start, start=1):
            expected = expected.narrow(axis, first, 8)
        assert torch.allclose(part, expected, atol=1e-5)


def test_a_tumour_keeps_its_shape_and_its_margin() -> None:
    # A disc in a box twice as long as wide: cut as a square of the longer side plus a quarter at both ends.
    image = torch.zeros(1, 1, 64, 64)
    image[0, 0, 20:40, 27:37] = 1
    cut = crops(image, torch.tensor([[[20, 40], [27, 37]]]), side=30, margin=0.25)
    assert torch.allclose(cut[0, 0], image[0, 0, 15:45, 17:47], atol=1e-5)


def test_boxes_without_room_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        crops(torch.zeros(1, 1, 8, 8), torch.tensor([[[3, 3], [1, 2]]]))
    with pytest.raises(ValueError, match="one for each"):
        crops(torch.zeros(2, 1, 8, 8), torch.tensor([[[1, 3], [1, 2]]]))
