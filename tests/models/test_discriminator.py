import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from models.discriminator import (
    DiscriminatorConfig,
    Discriminators,
    hinge_of_discriminator,
    hinge_of_generator,
    r1,
    views,
)

SLICES = DiscriminatorConfig(2, contrasts=1, classes=3, features=4)
ONES = (1.0,) * 4
VOLUMES = DiscriminatorConfig(3, contrasts=2, classes=0, features=4, layers=2)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def test_patches_are_as_many_as_those_of_the_70_voxel_patch_discriminator() -> None:
    # Isola et al., CVPR 2017: 30 by 30 patches of 70 pixels on an image of 256.
    whole, fine = Discriminators(SLICES)(*views(drawn(1, 1, 256, 256), ONES), drawn(1, 3, 256, 256))
    assert whole.shape == fine.shape == (1, 1, 30, 30)


def test_what_is_one_value_in_every_cell_is_nothing_to_the_judge_of_detail() -> None:
    net = Discriminators(SLICES)
    image, condition = drawn(1, 1, 64, 64), drawn(1, 3, 64, 64).abs()
    smooth = interpolate(drawn(1, 1, 32, 32), scale_factor=2, mode="nearest")
    whole, fine = net(*views(image, ONES), condition)
    whole_too, fine_too = net(*views(image + smooth, ONES), condition)
    assert torch.allclose(fine, fine_too, atol=1e-4)
    assert not torch.allclose(whole, whole_too, atol=1e-4)


def test_detail_is_seen_in_units_of_its_deviation_in_the_training_set() -> None:
    image = drawn(2, 3, 64, 64)
    whole, fine = views(image, [1.0] * 3 + [2.0] * 9)
    assert torch.equal(whole, image)
    assert fine.shape == (2, 9, 32, 32)
    # The step is a rotation: bands of white noise of deviation 1 have deviation 1.
    assert float(fine.std()) == pytest.approx(1 / 2, rel=0.02)


def test_both_see_the_condition() -> None:
    net = Discriminators(SLICES)
    image = drawn(1, 1, 64, 64)
    plane = torch.zeros(1, 3, 64, 64)
    told = plane.clone()
    told[:, 1, 20:40, 20:40] = 1
    for without, with_ in zip(net(*views(image, ONES), plane), net(*views(image, ONES), told), strict=True):
        assert not torch.allclose(without, with_, atol=1e-5)


def test_volumes_without_condition_are_judged_too() -> None:
    image = drawn(2, 2, 32, 32, 32)
    whole, fine = Discriminators(VOLUMES)(*views(image, ONES * 4), image[:, :0])
    assert whole.shape[:2] == fine.shape[:2] == (2, 1)


def test_hinge_losses_on_known_logits() -> None:
    real, fake = (torch.tensor([2.0, 0.5]),), (torch.tensor([-3.0, 0.5]),)
    # max(0, 1 - 2) = 0, max(0, 1 - 0.5) = 0.5; max(0, 1 - 3) = 0, max(0, 1 + 0.5) = 1.5
    assert float(hinge_of_discriminator(real, fake)) == pytest.approx(0.25 + 0.75)
    assert float(hinge_of_generator(fake)) == pytest.approx(1.25)
    blind = (torch.zeros(4), torch.zeros(9))
    assert float(hinge_of_discriminator(blind, blind)) == pytest.approx(4.0)


def test_r1_of_a_linear_discriminator_is_its_squared_weight_norm() -> None:
    weight, image = drawn(3, 8, 6), drawn(5, 3, 8, 6).requires_grad_()
    norm = float(weight.square().sum())
    said = (image * weight).sum(dim=(1, 2, 3)).reshape(5, 1, 1, 1)
    assert float(r1([said], [image]).detach()) == pytest.approx(norm, rel=1e-5)
    assert float(r1([said, 2 * said], [image, image]).detach()) == pytest.approx(5 * norm, rel=1e-5)


@pytest.mark.parametrize("side", [8, 32])
def test_r1_does_not_depend_on_how_many_patches_fit_into_the_image(side: int) -> None:
    kernel, image = drawn(1, 2, 4, 4), drawn(3, 2, side, side).requires_grad_()
    said = conv2d(image, kernel, stride=4)
    assert float(r1([said], [image]).detach()) == pytest.approx(float(kernel.square().sum()), rel=1e-5)


def test_the_penalty_of_a_real_discriminator_reaches_its_weights() -> None:
    net = Discriminators(VOLUMES)
    image = drawn(1, 2, 32, 32, 32)
    seen = [v.requires_grad_() for v in views(image, ONES * 4)]
    r1(net(*seen, image[:, :0].detach()), seen).backward()  # type: ignore[no-untyped-call]
    for part in (net.image, net.bands):
        first = next(part.parameters()).grad
        assert first is not None
        assert float(first.abs().sum()) > 0


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 or 3 axes"):
        DiscriminatorConfig(4)
    with pytest.raises(ValueError, match="two layers"):
        DiscriminatorConfig(layers=1)
