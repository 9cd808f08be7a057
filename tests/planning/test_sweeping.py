"""Leaf ends that move evenly open bixels as many small steps would."""

import numpy as np
import pytest
import torch

from planning.optimise.sweeping import open_between, open_together

EDGES = torch.arange(-10.0, 10.0, 2.5, dtype=torch.float64)
WIDTH = 2.5


def _still(value):
    end = torch.full((1, 1), value, dtype=torch.float64)
    return end, end


def _moving(start, stop):
    return tuple(torch.full((1, 1), value, dtype=torch.float64) for value in (start, stop))


def _random(seed, *shape):
    """Openings that are never crossed, at the start and at the end of spans."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.rand(2, 2, *shape, generator=generator, dtype=torch.float64) * 30 - 15
    left, right = ends.sort(dim=1).values.unbind(1)
    return tuple(left), tuple(right)


def _stepped(left, right, n=4000):
    """The mean over many moments of the share of each bixel that is open behind all pairs of a row."""
    total = 0
    for time in (np.arange(n) + 0.5) / n:
        low, high = torch.lerp(*left, time), torch.lerp(*right, time)
        if low.ndim == 3:
            low, high = low.amax(dim=1), high.amin(dim=1)
        low, high = (end[..., None].clamp(EDGES, EDGES + WIDTH) for end in (low, high))
        total = total + (high - low).clamp(min=0) / (n * WIDTH)
    return total


def test_standing_ends_open_the_share_that_lies_between_them():
    found = open_between(EDGES, WIDTH, _still(-6.25), _still(1.0))[0, 0]
    np.testing.assert_allclose(found, [0.0, 0.5, 1.0, 1.0, 0.4, 0.0, 0.0, 0.0], atol=1e-12)


def test_an_end_that_crosses_bixels_opens_each_for_the_time_that_it_is_past_them():
    # From -10 to 10 mm in a span: the first of eight bixels is open for 15/16 of it on average.
    found = open_between(EDGES, WIDTH, _still(-20.0), _moving(-10.0, 10.0))[0, 0]
    np.testing.assert_allclose(found, np.arange(15, 0, -2) / 16, atol=1e-12)
    back = open_between(EDGES, WIDTH, _still(-20.0), _moving(10.0, -10.0))[0, 0]
    np.testing.assert_allclose(back, found, atol=1e-12)


def test_a_slit_gives_every_bixel_on_its_way_as_much():
    # 1 mm wide, over 20 mm: each point is open for a twentieth of the time, whatever bixels steps would miss.
    found = open_between(EDGES, WIDTH, _moving(-15.5, 14.5), _moving(-14.5, 15.5))[0, 0]
    np.testing.assert_allclose(found, 1 / 30, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_one_layer_opens_as_many_small_steps_do(seed):
    left, right = _random(seed, 5, 7)
    np.testing.assert_allclose(open_between(EDGES, WIDTH, left, right), _stepped(left, right), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_two_layers_open_as_many_small_steps_do_though_their_ends_overtake_each_other(seed):
    left, right = _random(seed, 5, 2, 7)
    np.testing.assert_allclose(open_together(EDGES, WIDTH, left, right), _stepped(left, right), atol=1e-6)


def test_a_layer_that_is_wide_open_changes_nothing():
    left, right = _random(7, 4, 6)
    far = torch.full_like(left[0], 50.0)
    both = [
        tuple(torch.stack([end, wide], dim=1) for end in ends) for ends, wide in ((left, -far), (right, far))
    ]
    torch.testing.assert_close(
        open_together(EDGES, WIDTH, *both), open_between(EDGES, WIDTH, left, right), atol=1e-12, rtol=0
    )


def test_single_precision_is_enough():
    left, right = _random(8, 5, 2, 7)
    few = [tuple(end.float() for end in ends) for ends in (left, right)]
    found = open_together(EDGES.float(), WIDTH, *few)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, open_together(EDGES, WIDTH, left, right), atol=2e-6)


@pytest.mark.parametrize(("opened", "shape"), [(open_between, (3, 4)), (open_together, (3, 2, 4))])
def test_openings_change_with_leaves_as_their_gradient_says(opened, shape):
    left, right = _random(9, *shape)
    given = tuple(end.clone().requires_grad_() for end in (*left, *right))

    def whole(*ends):
        return opened(EDGES, WIDTH, ends[:2], ends[2:]).square().sum()

    assert torch.autograd.gradcheck(whole, given, eps=1e-6, atol=1e-5)


def test_leaves_that_stand_still_have_their_gradient_too():
    end = torch.full((1, 1), 1.0, dtype=torch.float64, requires_grad=True)
    open_between(EDGES, WIDTH, _still(-20.0), (end, end)).sum().backward()
    assert float(end.grad) == pytest.approx(1 / WIDTH)
