"""Obedience to labels, with segmenters whose answers are known."""

import math

import pytest
import torch

from synth.fidelity.obedience import obedience


def labelled(n: int, seed: int, n_dims: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that show their class as its number, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n, *[12] * n_dims), generator=generator)
    return labels[:, None] + 0.1 * torch.randn(labels[:, None].shape, generator=generator), labels


def by_brightness(images: torch.Tensor) -> torch.Tensor:
    return images[:, 0].round().clamp(0, 2).long()


@pytest.mark.parametrize("n_dims", [2, 3])
def test_images_that_show_their_labels_obey_whatever_the_chunk(n_dims: int) -> None:
    images, labels = labelled(7, 1, n_dims)
    for chunk in (1, 4, 50):
        assert obedience(by_brightness, images, labels, 3, chunk).nanmean(0).tolist() == [1.0] * 3


def test_images_of_other_labels_do_not_obey() -> None:
    images, _ = labelled(10, 2)
    _, labels = labelled(10, 3)
    # Each class holds a third by chance, and Dice of two random thirds is a third.
    assert obedience(by_brightness, images, labels, 3).nanmean(0).tolist() == pytest.approx(
        [1 / 3] * 3, abs=0.05
    )


def test_half_of_a_class_drawn_is_two_thirds() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[0, :2] = 1
    drawn = labels.clone()
    drawn[0, 1] = 0
    found = obedience(by_brightness, drawn[:, None].float(), labels, 2)
    assert found[0].tolist() == pytest.approx([2 * 8 / (8 + 12), 2 * 4 / (4 + 8)])


def test_a_class_in_neither_is_left_out_and_one_drawn_unasked_is_nothing() -> None:
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    drawn = labels.clone()
    drawn[1, 0, 0] = 1
    found = obedience(by_brightness, drawn[:, None].float(), labels, 3)
    assert math.isnan(float(found[0, 1]))
    assert float(found[1, 1]) == 0
    mean = found.nanmean(0)
    assert float(mean[1]) == 0
    assert math.isnan(float(mean[2]))


def test_scores_instead_of_labels_and_labels_that_are_no_class_are_refused() -> None:
    images, labels = labelled(4, 4)
    with pytest.raises(ValueError, match="take the argmax"):
        obedience(lambda x: x.long(), images, labels, 3)
    with pytest.raises(ValueError, match="classes 0 to 1, got 0 to 2"):
        obedience(by_brightness, images, labels, 2)
