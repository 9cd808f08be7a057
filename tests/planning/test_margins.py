"""Margins against spheres, boxes and plastimatch."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from imaging.grid import Grid, positions
from imaging.nifti import read_nifti, write_nifti
from imaging.phantoms import sphere
from imaging.volume import Quantity, Volume
from planning.contour.margins import Margin, expand, expand_sides

GRID = Grid((41, 41, 21), np.diag([1.0, 1.0, 2.5, 1.0]))


def point(i: int, j: int, k: int) -> torch.Tensor:
    mask = torch.zeros(GRID.shape, dtype=torch.bool)
    mask[i, j, k] = True
    return mask


def test_a_voxel_grows_by_its_margin_from_half_a_voxel_along_each_axis() -> None:
    grown = expand(point(20, 20, 10), GRID, 10.0)
    assert grown[30, 20, 10]
    assert not grown[31, 20, 10]
    assert grown[20, 20, 14]
    assert not grown[20, 20, 15]
    # 3 mm are more than half of the second slice of 2.5 mm: 1.25 mm are the voxel's own.
    assert bool(expand(point(20, 20, 10), GRID, 3.75)[20, 20, 12])
    assert not bool(expand(point(20, 20, 10), GRID, 3.7)[20, 20, 12])


@pytest.mark.parametrize("margin", [1.0, 3.0, 4.2, 5.0, 9.0, 13.0])
@pytest.mark.parametrize("affine", [np.diag([1.0, 1.0, 2.5, 1.0]), np.diag([0.7, 1.3, 3.0, 1.0])])
def test_a_box_grows_by_its_margin_to_half_a_voxel_on_every_side(margin: float, affine: np.ndarray) -> None:
    grid = Grid((61, 61, 31), affine)
    box = torch.zeros(grid.shape, dtype=torch.bool)
    box[25:35, 25:35, 13:18] = True
    for grown in (expand(box, grid, margin), ~expand(~box, grid, -margin)):
        places = grown.nonzero()
        for axis, (first, last) in enumerate(((25, 34), (25, 34), (13, 17))):
            step = float(grid.spacing[axis])
            assert abs((first - int(places[:, axis].min())) * step - margin) <= step / 2 + 1e-6
            assert abs((int(places[:, axis].max()) - last) * step - margin) <= step / 2 + 1e-6


def test_a_ball_grows_to_a_ball_to_half_a_voxel() -> None:
    grid = Grid((70, 70, 36), np.diag([1.0, 1.0, 2.0, 1.0]))
    middle = np.array([35.0, 35.0, 36.0])
    grown = expand(sphere(grid, middle, 12.0), grid, 15.0)
    half = float(np.linalg.norm(grid.spacing)) / 2
    assert not bool((sphere(grid, middle, 27.0 - half) & ~grown).any())
    assert not bool((grown & ~sphere(grid, middle, 27.0 + half)).any())
    radius = (int(grown.sum()) * grid.voxel_volume / (4 / 3 * np.pi)) ** (1 / 3)
    assert radius == pytest.approx(27.0, abs=0.2)  # on average it lies where it should


@pytest.mark.parametrize("margin", [3.0, 7.0, 15.0])
def test_plastimatch_grows_to_the_same_within_half_a_voxel(
    margin: float, tool: Callable[[str], str], tmp_path: Path
) -> None:
    grid = Grid((64, 60, 30), np.diag([1.0, 1.2, 2.5, 1.0]))
    mask = sphere(grid, np.array([30.0, 36.0, 36.0]), 11.0) | sphere(grid, np.array([42.0, 30.0, 45.0]), 6.0)
    write_nifti(Volume(mask[None].to(torch.uint8), grid, Quantity.LABEL), tmp_path / "mask.nii.gz")
    given, theirs = tmp_path / "mask.nii.gz", tmp_path / "distance.nii.gz"
    words = ["dmap", "--input", given, "--algorithm", "maurer", "--output", theirs]
    subprocess.run([tool("plastimatch"), *map(str, words)], check=True, capture_output=True)
    # Of voxel centres from centres at its border: half a voxel from the surface that margins count from.
    away = read_nifti(theirs, Quantity.MR).data[0]
    ours = expand(mask, grid, margin)
    half = float(np.linalg.norm(grid.spacing)) / 2
    assert not bool((ours & (away > margin + half + 1e-3)).any())
    assert not bool((~ours & (away <= margin + 1e-3)).any())


def test_each_side_has_its_own_margin_on_any_grid() -> None:
    margin = Margin(left=8.0, right=2.0, anterior=4.0, posterior=6.0, superior=10.0, inferior=0.0)
    turned = np.array([[0, 0, -2.0, 50], [1.0, 0, 0, -40], [0, -1.0, 0, 40], [0, 0, 0, 1]])
    for grid in (Grid((90, 90, 45), np.diag([1.0, 1.0, 2.0, 1.0])), Grid((80, 80, 50), turned)):
        middle = positions(grid, np.array([[40.0, 40.0, 22.0]]))[0]
        mask = sphere(grid, middle, 6.0)
        grown = expand_sides(mask, grid, margin)
        assert not bool((mask & ~grown).any())
        before = positions(grid, mask.nonzero().double().numpy())
        after = positions(grid, grown.nonzero().double().numpy())
        wanted = [(2.0, 8.0), (4.0, 6.0), (0.0, 10.0)]
        for axis, (low, high) in enumerate(wanted):
            step = float(np.abs(grid.affine[axis, :3]).sum())
            assert abs(before[:, axis].min() - after[:, axis].min() - low) <= step / 2 + 1e-6
            assert abs(after[:, axis].max() - before[:, axis].max() - high) <= step / 2 + 1e-6


def test_the_same_margin_on_all_sides_is_a_margin() -> None:
    mask = point(20, 20, 10) | point(24, 18, 11)
    assert torch.equal(expand_sides(mask, GRID, Margin(*[7.0] * 6)), expand(mask, GRID, 7.0))
    assert torch.equal(expand_sides(mask, GRID, Margin()), mask)
    with pytest.raises(ValueError, match="expected margins of 0 to 100 mm"):
        Margin(left=-1.0)


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
