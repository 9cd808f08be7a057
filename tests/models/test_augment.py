import pytest
import torch
from torch import Tensor

from models.augment import Augmentation, augmented, brightened, shifted

STILL = Augmentation(brightness=0.0, contrast=0.0, translation=0.0, cutout=0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=seeded(9))


@pytest.mark.parametrize("space", [(12, 10), (8, 10, 6)])
def test_a_shift_is_undone_by_its_inverse_where_nothing_left_the_image(space: tuple[int, ...]) -> None:
    x = drawn(3, 2, *space)
    shift = torch.tensor([[2, -1, 1], [0, 3, -2], [-1, 0, 0]])[:, : len(space)]
    back = shifted(shifted(x, shift), -shift)
    inner = (..., *(slice(3, n - 3) for n in space))
    assert torch.equal(back[inner], x[inner])
    assert torch.equal(shifted(x, torch.zeros_like(shift)), x)


def test_a_shift_moves_towards_higher_indices_and_lets_zeros_in() -> None:
    x = torch.arange(1.0, 7).reshape(1, 1, 2, 3)
    assert shifted(x, torch.tensor([[0, 1]])).tolist() == [[[[0, 1, 2], [0, 4, 5]]]]
    assert shifted(x, torch.tensor([[-1, 0]])).tolist() == [[[[4, 5, 6], [0, 0, 0]]]]


def test_brightness_moves_the_mean_and_contrast_the_spread() -> None:
    x = drawn(2, 3, 8, 8)
    out = brightened(x, torch.tensor([0.25, -0.5]), torch.tensor([1.5, 0.5]))
    for n, (amount, stretch) in enumerate(((0.25, 1.5), (-0.5, 0.5))):
        assert float(out[n].mean() - x[n].mean()) == pytest.approx(amount, abs=1e-5)
        assert float(out[n].std() / x[n].std()) == pytest.approx(stretch, abs=1e-5)


@pytest.mark.parametrize("space", [(16, 12), (8, 10, 12)])
def test_image_and_condition_are_moved_alike_and_nothing_else_alters_the_condition(
    space: tuple[int, ...],
) -> None:
    x = drawn(4, 1, *space)
    moving = Augmentation(brightness=0.0, contrast=0.0, cutout=0.0)
    image, condition = augmented(x, x.clone(), moving, seeded())
    assert torch.allclose(image, condition, atol=1e-6)
    assert not torch.allclose(image, x, atol=1e-6)
    _, still = augmented(x, x.clone(), Augmentation(translation=0.0), seeded())
    assert torch.equal(still, x)


def test_the_blanked_box_has_at_most_its_share_and_is_whole_when_it_lies_inside() -> None:
    x = torch.ones(64, 1, 16, 12)
    image, _ = augmented(x, x[:, :0], Augmentation(0.0, 0.0, 0.0, 0.5), seeded())
    blanked = (image == 0).flatten(1).sum(1)
    assert int(blanked.max()) == 8 * 6
    assert int(blanked.min()) >= 4 * 3  # a quarter is left in the worst corner


def test_gradients_pass_and_are_those_of_the_closed_form() -> None:
    # What is bright and stretched stays linear: the gradient of the sum is 1 wherever nothing is cut.
    x = drawn(2, 2, 8, 8).requires_grad_()
    image, _ = augmented(x, x[:, :0], Augmentation(translation=0.0, cutout=0.0), seeded())
    (gradient,) = torch.autograd.grad(image.sum(), x)
    assert torch.allclose(gradient, torch.ones_like(x), atol=1e-5)
    image, _ = augmented(x, x[:, :0], Augmentation(0.0, 0.0, 0.0, 0.5), seeded())
    (gradient,) = torch.autograd.grad(image.sum(), x)
    assert torch.equal(gradient, (image != 0).float())


def test_the_same_seed_draws_the_same_and_zero_alters_nothing() -> None:
    x = drawn(2, 1, 8, 8, 8)
    once, again = (augmented(x, x[:, :0], Augmentation(), seeded(3))[0] for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, augmented(x, x[:, :0], Augmentation(), seeded(4))[0])
    assert torch.allclose(augmented(x, x[:, :0], STILL, seeded())[0], x, atol=1e-6)


def test_shares_beyond_the_image_are_refused() -> None:
    with pytest.raises(ValueError, match="within 0 to 1"):
        Augmentation(cutout=1.5)
