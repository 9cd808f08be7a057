"""The marginal loss against closed forms, and against the loss of voxels whose class is known."""

import math

import pytest
import torch

from models.partly import marginal_loss, members
from models.segmentation import deep_loss

ALL = 0b1111
EVEN = torch.ones(4)


def logits_of(*shares: tuple[float, ...]) -> torch.Tensor:
    """One row of voxels with these probabilities of four classes."""
    return torch.tensor(shares).log().T.reshape(1, 4, len(shares), 1, 1)


def sets_of(*sets: int) -> torch.Tensor:
    return torch.tensor(sets).reshape(1, len(sets), 1, 1)


def test_a_set_has_the_sum_of_its_classes() -> None:
    """Two voxels by hand: -(w1 log 0.3 + w23 log (0.2 + 0.4)) / (w1 + w23) with w23 the mean of both."""
    logits = logits_of((0.1, 0.3, 0.2, 0.4), (0.1, 0.3, 0.2, 0.4))
    weight = torch.tensor([1.0, 3.0, 1.0, 2.0])
    found = marginal_loss([logits], sets_of(0b0010, 0b1100), weight, least=9.0)
    wanted = -(3 * math.log(0.3) + 1.5 * math.log(0.6)) / 4.5
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_the_overlap_of_a_set_by_hand() -> None:
    """A voxel counts for a set that holds its own, and against one that shares no class with it."""
    rows = ((0.1, 0.3, 0.2, 0.4), (0.7, 0.1, 0.1, 0.1), (0.25, 0.25, 0.25, 0.25), (0.1, 0.2, 0.3, 0.4))
    allowed = sets_of(0b1100, 0b0001, 0b1000, 0b0110)
    found = marginal_loss([logits_of(*rows)], allowed, EVEN, least=0.0)
    surprise = -(math.log(0.6) + math.log(0.7) + math.log(0.25) + math.log(0.5)) / 4
    dice = (
        2 * (0.6 + 0.5) / (0.6 + 0.2 + 0.5 + 2),  # {2, 3} holds the third voxel too; the fourth may be one
        2 * 0.7 / (0.1 + 0.7 + 0.25 + 0.1 + 1),  # {0}
        2 * 0.25 / (0.1 + 0.25 + 0.4 + 1),  # {3}: the first voxel may be one
        2 * 0.5 / (0.2 + 0.5 + 0.5 + 1),  # {1, 2}: the first voxel may be one
    )
    assert float(found) == pytest.approx(surprise + 1 - sum(dice) / 4, rel=1e-5)


def test_where_every_class_is_known_it_is_the_usual_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = torch.randint(4, (2, 8, 8, 8), generator=generator)
    levels = [torch.randn(2, 4, n, n, n, generator=generator, requires_grad=True) for n in (8, 4, 2)]
    weight = torch.tensor([0.5, 1.0, 2.0, 3.0])
    usual, ours = deep_loss(levels, wanted, weight, 5.0), marginal_loss(levels, 1 << wanted, weight, 5.0)
    assert float(ours.detach()) == pytest.approx(float(usual.detach()), rel=1e-5)
    pairs = zip(torch.autograd.grad(usual, levels), torch.autograd.grad(ours, levels), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_what_is_unknown_has_no_gradient_and_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    allowed = torch.full((1, 8, 8, 8), ALL)
    allowed[:, :4] = 1 << torch.randint(4, (1, 4, 8, 8), generator=generator)
    logits = torch.randn(1, 4, 8, 8, 8, generator=generator, requires_grad=True)
    marginal_loss([logits], allowed, EVEN, 1.0).backward()
    assert logits.grad is not None
    assert float(logits.grad[:, :, 4:].abs().max()) == 0
    assert float(logits.grad[:, :, :4].abs().max()) > 0
    half = marginal_loss([logits[:, :, :4]], allowed[:, :4], EVEN, 1.0)
    assert float(half.detach()) == pytest.approx(float(marginal_loss([logits], allowed, EVEN, 1.0).detach()))
    nothing = marginal_loss([logits, logits[:, :, ::2, ::2, ::2]], torch.full_like(allowed, ALL), EVEN, 1.0)
    (gradient,) = torch.autograd.grad(nothing, logits)
    assert float(nothing.detach()) == 0
    assert float(gradient.abs().max()) == 0


def test_moving_probability_within_a_set_changes_nothing() -> None:
    one, other = logits_of((0.1, 0.2, 0.3, 0.4)), logits_of((0.1, 0.2, 0.65, 0.05))
    allowed = sets_of(0b1100)
    found = [float(marginal_loss([x], allowed, EVEN, 0.0)) for x in (one, other)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_sets_of_nothing_or_of_another_class_are_refused() -> None:
    assert members(torch.tensor([0b0101]), 4).tolist() == [[True, False, True, False]]
    for bad in (0, 0b10000):
        with pytest.raises(ValueError, match="sets of 4 classes"):
            members(torch.tensor([bad]), 4)
