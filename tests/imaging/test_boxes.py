"""Boxes about masks against masks whose place was chosen."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from imaging.boxes import box_of, box_there, part_of
from imaging.grid import Grid, indices, positions


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


def test_a_box_on_another_grid_holds_every_voxel_whose_middle_is_in_it():
    own = Grid((20, 22, 24), np.diag([1.0, 1.5, 2.0, 1.0]))
    turned = np.eye(4)
    rotation = Rotation.from_euler("xyz", [20, -30, 40], degrees=True).as_matrix()
    turned[:3, :3] = rotation @ np.diag([2.0, 1.0, 1.5])
    turned[:3, 3] = [-4.0, 3.0, 11.0]
    other = Grid((12, 25, 17), turned)
    box = (slice(4, 11), slice(6, 13), slice(5, 12))
    every = np.argwhere(np.ones(other.shape, dtype=bool)).astype(np.float64)
    at = indices(own, positions(other, every))
    low, high = (np.array([getattr(side, end) for side in box]) - 0.5 for end in ("start", "stop"))
    held = every[((at >= low) & (at <= high)).all(axis=1)]
    found = box_there(box, own, other)
    assert found is not None
    assert len(held) > 20
    for axis, side in enumerate(found):
        assert side.start <= held[:, axis].min()
        assert held[:, axis].max() < side.stop


def test_a_box_beyond_another_grid_is_nowhere_on_it():
    own = Grid((20, 20, 20), np.eye(4))
    assert box_there((slice(2, 5), slice(0, 3), slice(15, 20)), own, Grid((20, 20, 10), np.eye(4))) is None
