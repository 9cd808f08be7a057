"""Boxes about masks against masks whose place was chosen."""

import numpy as np
import pytest
import torch

from imaging.boxes import box_of, part_of
from imaging.grid import Grid, positions


def test_a_box_holds_the_mask_and_no_more():
    mask = torch.zeros(7, 8, 9, dtype=torch.bool)
    mask[2, 3, 4] = mask[5, 3, 8] = True
    assert box_of(mask) == (slice(2, 6), slice(3, 4), slice(4, 9))


def test_voxels_beside_it_end_where_the_grid_does():
    mask = torch.zeros(7, 8, 9, dtype=torch.bool)
    mask[1, 4, 8] = True
    assert box_of(mask, (3, 2, 1)) == (slice(0, 5), slice(2, 7), slice(7, 9))


def test_an_empty_mask_has_no_box():
    with pytest.raises(ValueError, match="got an empty one"):
        box_of(torch.zeros(2, 2, 2, dtype=torch.bool))


def test_voxels_of_a_part_stay_where_they_are():
    affine = np.array([[0, 2.0, 0, 5], [1.5, 0, 0, -3], [0, 0, -3.0, 7], [0, 0, 0, 1]])
    whole = Grid((7, 8, 9), affine)
    part = part_of(whole, (slice(2, 6), slice(3, 4), slice(4, 9)))
    assert part.shape == (4, 1, 5)
    inner = np.array([[0.0, 0, 0], [3, 0, 4]])
    assert np.allclose(positions(part, inner), positions(whole, inner + np.array([2, 3, 4])))
