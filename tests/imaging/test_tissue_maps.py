"""Probabilities of tissues, and values read through a displacement."""

import numpy as np
import pytest
import torch

from imaging.grid import Grid, axial
from imaging.tissue_maps import N_TISSUES, tissue_maps
from imaging.volume import Quantity, Volume
from imaging.warp import lattice, sample, warp

GRID = axial(np.array([0.0, 0.0, 0.0]), np.array([30.0, 24.0, 18.0]), (1.5, 1.5, 1.5))


def labels() -> Volume:
    data = torch.zeros((1, *GRID.shape), dtype=torch.uint8)
    data[:, 4:12, 4:12, :] = 1
    data[:, 6:10, 6:10, :6] = 4
    return Volume(data, GRID, Quantity.LABEL)


def test_probabilities_sum_to_one_and_name_the_label_inside_a_tissue() -> None:
    maps = tissue_maps(labels(), 1.5, 0.5)
    assert maps.data.shape[0] == N_TISSUES
    assert torch.allclose(maps.data.sum(dim=0), torch.ones(maps.grid.shape), atol=1e-5)
    at = torch.tensor([[12.0, 12.0, 3.0]])
    assert int(sample(maps.data, maps.grid, at)[:, 0].argmax()) == 4


def test_neck_goes_on_below_and_nothing_stands_beside_or_above() -> None:
    maps = tissue_maps(labels(), 1.5, 0.5)
    far = torch.tensor([[12.0, 12.0, -50.0], [12.0, 12.0, 90.0], [-80.0, 12.0, 5.0], [12.0, 90.0, 5.0]])
    assert sample(maps.data, maps.grid, far).argmax(dim=0).tolist() == [4, 0, 0, 0]


def test_numbers_that_no_tissue_has_are_refused() -> None:
    wrong = Volume(torch.full((1, *GRID.shape), 40, dtype=torch.uint8), GRID, Quantity.LABEL)
    with pytest.raises(ValueError, match=r"expected tissue labels 0\.\.23, got 40\.\.40"):
        tissue_maps(wrong, 1.5, 0.5)


def test_a_linear_field_is_sampled_exactly() -> None:
    slope = torch.tensor([0.5, -1.0, 2.0])
    values = (lattice(GRID) @ slope).reshape(1, *GRID.shape)
    points = torch.tensor([[3.2, 7.7, 9.1], [20.0, 3.0, 4.4]])
    assert torch.allclose(sample(values, GRID, points)[0], points @ slope, atol=1e-4)


def test_warp_reads_the_value_at_the_displaced_position() -> None:
    values = Volume(lattice(GRID)[:, 0].reshape(1, *GRID.shape).contiguous(), GRID, Quantity.PROBABILITY)
    shift = torch.zeros((3, *GRID.shape))
    shift[0] = 4.5
    moved = warp(values, Volume(shift, GRID, Quantity.DISPLACEMENT, "1.2.3"), GRID)
    assert torch.allclose(moved.data[:, :-4], values.data[:, :-4] + 4.5, atol=1e-4)
    assert moved.frame == "1.2.3"


def test_labels_are_not_mixed() -> None:
    field = Volume(torch.zeros((3, *GRID.shape)), GRID, Quantity.DISPLACEMENT)
    with pytest.raises(ValueError, match="expected values that can be mixed"):
        warp(labels(), field, GRID)


def test_lattice_is_the_position_of_every_voxel() -> None:
    grid = Grid((2, 3, 4), np.diag([1.0, 2.0, 3.0, 1.0]))
    points = lattice(grid).reshape(2, 3, 4, 3)
    assert points[1, 2, 3].tolist() == [1.0, 4.0, 9.0]
    assert torch.equal(lattice(grid, 1, 2), points[1].reshape(-1, 3))
