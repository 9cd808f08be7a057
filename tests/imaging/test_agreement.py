"""Agreement measures against closed forms."""

import numpy as np
import pytest
import torch

from imaging.agreement import dice, hausdorff, hu_bias, hu_mae, mean_surface_distance, surface_distances
from imaging.grid import Grid
from imaging.volume import Quantity, Volume

GRID = Grid((20, 20, 10), np.diag([1.0, 1.0, 2.5, 1.0]))


def box(low: tuple[int, int, int], high: tuple[int, int, int]) -> torch.Tensor:
    mask = torch.zeros(GRID.shape, dtype=torch.bool)
    mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = True
    return mask


def test_dice_of_boxes_that_share_half_is_a_half() -> None:
    assert dice(box((0, 0, 0), (4, 4, 4)), box((2, 0, 0), (6, 4, 4))) == 0.5


def test_dice_of_a_mask_with_itself_is_one_and_of_disjoint_masks_zero() -> None:
    a = box((0, 0, 0), (4, 4, 4))
    assert dice(a, a) == 1
    assert dice(a, box((10, 10, 5), (12, 12, 7))) == 0


def test_planes_two_slices_apart_are_five_millimetres_apart() -> None:
    a, b = box((2, 2, 2), (18, 18, 3)), box((2, 2, 4), (18, 18, 5))
    assert surface_distances(a, b, GRID) == pytest.approx(5.0)
    assert mean_surface_distance(a, b, GRID) == pytest.approx(5.0)
    assert hausdorff(a, b, GRID) == pytest.approx(5.0)


def test_surface_distance_to_an_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="got an empty one"):
        surface_distances(box((0, 0, 0), (4, 4, 4)), box((0, 0, 0), (0, 0, 0)), GRID)


def test_shift_of_thirty_hu_is_the_error_and_the_bias() -> None:
    truth = Volume(torch.zeros((1, *GRID.shape)), GRID, Quantity.HU)
    ct = Volume(torch.full((1, *GRID.shape), -30.0), GRID, Quantity.HU)
    body = box((2, 2, 2), (9, 9, 9))
    assert hu_mae(ct, truth, body) == pytest.approx(30.0)
    assert hu_bias(ct, truth, body) == pytest.approx(-30.0)
