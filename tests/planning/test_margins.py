"""Margins against spheres and boxes."""

import numpy as np
import pytest
import torch

from imaging.grid import Grid
from planning.contour.margins import expand

GRID = Grid((41, 41, 21), np.diag([1.0, 1.0, 2.5, 1.0]))


def point(i: int, j: int, k: int) -> torch.Tensor:
    mask = torch.zeros(GRID.shape, dtype=torch.bool)
    mask[i, j, k] = True
    return mask


def test_a_point_grows_to_the_sphere_of_every_voxel_within_reach() -> None:
    i, j, k = np.indices(GRID.shape)
    away = np.sqrt((i - 20.0) ** 2 + (j - 20.0) ** 2 + ((k - 10) * 2.5) ** 2)
    grown = expand(point(20, 20, 10), GRID, 10.0).numpy()
    assert np.array_equal(grown, away <= 10.0 + 1e-3)


def test_a_margin_reaches_the_same_distance_along_thick_slices() -> None:
    grown = expand(point(20, 20, 10), GRID, 10.0)
    assert grown[30, 20, 10]
    assert not grown[31, 20, 10]
    assert grown[20, 20, 14]
    assert not grown[20, 20, 15]


def test_growing_then_shrinking_a_box_gives_the_box() -> None:
    box = torch.zeros(GRID.shape, dtype=torch.bool)
    box[15:25, 12:28, 8:13] = True
    assert torch.equal(expand(expand(box, GRID, 4.0), GRID, -4.0), box)


def test_a_margin_of_zero_and_an_empty_mask_change_nothing() -> None:
    assert torch.equal(expand(point(3, 4, 5), GRID, 0.0), point(3, 4, 5))
    empty = torch.zeros(GRID.shape, dtype=torch.bool)
    assert not expand(empty, GRID, 5.0).any()


@pytest.mark.parametrize("at", [(0, 0, 0), (40, 40, 20)])
def test_growth_ends_at_the_edge_of_the_grid(at: tuple[int, int, int]) -> None:
    grown = expand(point(*at), GRID, 5.0)
    assert grown.shape == GRID.shape
    assert 0 < int(grown.sum()) < int(expand(point(20, 20, 10), GRID, 5.0).sum())
