"""Losses of networks that name voxels, against closed forms."""

import math

import pytest
import torch

from models.segmentation import deep_loss, segmentation_loss

EVEN = torch.ones(3)


def halves(n: int = 8) -> torch.Tensor:
    """Class 1 below, class 2 above."""
    wanted = torch.ones(1, n, n, n, dtype=torch.long)
    wanted[..., n // 2 :] = 2
    return wanted


def test_a_network_that_knows_nothing_pays_the_logarithm_of_the_classes_and_its_dice() -> None:
    loss = segmentation_loss(torch.zeros(1, 3, 8, 8, 8), halves(), EVEN, least=1.0)
    # A third of each of two halves: twice 1/3 of a half over 1/3 of the whole and a half.
    dice = 2 * (0.5 / 3) / (1 / 3 + 0.5)
    assert float(loss) == pytest.approx(math.log(3) + 1 - dice, abs=1e-5)


def test_a_network_that_is_right_and_sure_pays_nothing() -> None:
    wanted = halves()
    sure = 40 * torch.nn.functional.one_hot(wanted, 3).movedim(-1, 1).float()
    assert float(segmentation_loss(sure, wanted, EVEN, least=1.0)) == pytest.approx(0, abs=1e-5)


def test_weights_choose_what_counts_and_few_voxels_have_no_overlap() -> None:
    wanted = torch.ones(1, 8, 8, 8, dtype=torch.long)
    wanted[0, 0, 0, 0] = 2  # the network misses it
    said = torch.zeros(1, 3, 8, 8, 8)
    said[:, 1] = 10.0
    missed = 10.0 + math.log(1 + 2 * math.exp(-10))
    found = missed - 10.0
    only_two = segmentation_loss(said, wanted, torch.tensor([0.0, 0.0, 1.0]), least=1.0)
    only_one = segmentation_loss(said, wanted, torch.tensor([0.0, 1.0, 0.0]), least=1.0)
    assert float(only_two) - float(only_one) == pytest.approx(missed - found, abs=1e-4)
    counted = segmentation_loss(said, wanted, EVEN, least=0.0)
    assert float(counted) - float(segmentation_loss(said, wanted, EVEN, least=1.0)) == pytest.approx(
        0.5, abs=5e-3
    )


def test_coarser_levels_learn_shares_and_count_half_of_the_one_before() -> None:
    wanted = torch.ones(1, 8, 8, 8, dtype=torch.long)
    wanted[..., ::2] = 2  # every coarse cell is half of each
    fine = 40 * torch.nn.functional.one_hot(wanted, 3).movedim(-1, 1).float()
    level = torch.zeros(1, 3, 2, 2, 2)
    level[:, 0] = -40.0
    alone = float(deep_loss([fine], wanted, EVEN, least=1.0))
    both = float(deep_loss([fine, level, level[..., :1, :1, :1]], wanted, EVEN, least=1.0))
    assert both - alone == pytest.approx(0.75 * math.log(2), abs=1e-4)
