"""Surface distances against closed forms and the reference implementation of Nikolov et al."""

import math
import warnings

import numpy as np
import pytest
import surface_distance as reference
import torch

from imaging.grid import Grid
from imaging.phantoms import ellipsoid, sphere
from imaging.surface_agreement import (
    between,
    mean_distance,
    robust_hausdorff,
    surface,
    surface_dice,
    union_box,
)


def made(spacing: tuple[float, float, float], size: float = 60.0) -> Grid:
    shape = [math.ceil(size / s) for s in spacing]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(shape, spacing, strict=True)]
    return Grid((shape[0], shape[1], shape[2]), affine)


def box(grid: Grid, low: tuple[int, int, int], high: tuple[int, int, int]) -> torch.Tensor:
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = True
    return mask


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 1.3, 2.5)])
def test_figures_are_those_of_the_reference_implementation(spacing: tuple[float, float, float]) -> None:
    grid = made(spacing)
    noise = torch.Generator().manual_seed(1)
    a = ellipsoid(grid, np.array([1.0, 2.0, 0.0]), np.array([17.0, 12.0, 15.0]))
    b = ellipsoid(grid, np.array([-2.0, 0.0, 3.0]), np.array([15.0, 14.0, 13.0]))
    b &= torch.rand(b.shape, generator=noise) > 0.05
    found = between(surface(a, grid), surface(b, grid))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it asks scipy for a name of old
        theirs = reference.compute_surface_distances(a.numpy(), b.numpy(), spacing)
    for tolerance in (0.5, 1.0, 2.0, 4.0):
        known = reference.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert surface_dice(found, tolerance) == pytest.approx(known, abs=1e-6)
    assert robust_hausdorff(found) == pytest.approx(reference.compute_robust_hausdorff(theirs, 95), abs=1e-6)
    whole = found.there_areas.sum(), found.back_areas.sum()
    known = float(np.dot(reference.compute_average_surface_distance(theirs), whole)) / sum(whole)
    assert mean_distance(found) == pytest.approx(known, rel=1e-6)


def test_concentric_spheres_lie_the_difference_of_their_radii_apart_to_half_a_voxel() -> None:
    for spacing in (3.0, 1.5):
        grid = made((spacing, spacing, spacing))
        found = between(*(surface(sphere(grid, np.zeros(3), r), grid) for r in (26.0, 17.0)))
        # Pieces lie on corners of voxels: the nearest corner of the other surface is the near one.
        assert 9.0 - 0.6 * spacing < mean_distance(found) <= 9.0
        assert surface_dice(found, 9.0 - 1.5 * spacing) == 0
        assert surface_dice(found, 9.0 + spacing) == 1


def test_area_of_a_box_is_that_of_its_faces_but_for_cut_edges() -> None:
    grid = made((1.0, 2.0, 3.0), 72.0)
    mask = box(grid, (6, 3, 2), (66, 33, 22))
    faces = 2 * (60 * 60 + 60 * 60 + 60 * 60)
    assert surface(mask, grid).areas.sum() == pytest.approx(faces, rel=0.03)


def test_a_wide_box_shifted_along_its_axis_loses_its_two_ends() -> None:
    # The ends lie 3 mm off and the sides stay in place, but for 3 mm beyond each end.
    grid = made((1.0, 1.0, 3.0), 60.0)
    a, b = box(grid, (10, 10, 4), (50, 50, 12)), box(grid, (10, 10, 5), (50, 50, 13))
    found = between(surface(a, grid), surface(b, grid))
    assert robust_hausdorff(found) == pytest.approx(3.0)
    # Near are the shared sides, 1 mm of what each has beyond, and 1 mm around the end inside the other.
    sides, ring = 4 * 40 * 24, 4 * 40
    near = (sides - 3 * ring + 2 * ring) / (sides + 2 * 1600)
    assert surface_dice(found, 1.0) == pytest.approx(near, abs=0.03)
    assert surface_dice(found, 3.0) == 1


def test_voxels_of_single_precision_lie_within_their_own_size() -> None:
    grid = made((float(np.float32(0.7)), 1.0, 1.0), 14.0)
    a, b = box(grid, (4, 3, 3), (9, 9, 9)), box(grid, (5, 3, 3), (10, 9, 9))
    assert grid.spacing[0] < 0.7 < float(np.nextafter(np.float32(0.7), np.float32(1)))
    coarser = made((float(np.nextafter(np.float32(0.7), np.float32(1))), 1.0, 1.0), 14.0)
    for each in (grid, coarser):
        assert surface_dice(between(surface(a, each), surface(b, each)), 0.7) == 1


def test_a_mask_that_touches_the_edge_of_its_grid_is_closed_there() -> None:
    grid = made((2.0, 2.0, 2.0), 20.0)
    whole = torch.ones(grid.shape, dtype=torch.bool)
    assert surface(whole, grid).areas.sum() == pytest.approx(6 * 400, rel=0.1)


def test_distance_to_an_empty_mask_is_refused() -> None:
    grid = made((2.0, 2.0, 2.0), 20.0)
    empty = surface(torch.zeros(grid.shape, dtype=torch.bool), grid)
    with pytest.raises(ValueError, match="got an empty one"):
        between(empty, surface(box(grid, (2, 2, 2), (5, 5, 5)), grid))


def test_union_box_holds_both_and_the_margin_and_ends_at_the_grid() -> None:
    grid = made((1.0, 2.0, 2.0), 20.0)
    masks = [box(grid, (8, 4, 4), (9, 5, 5)), box(grid, (10, 4, 4), (11, 5, 9))]
    assert union_box(masks, grid, 3.0) == (slice(5, 14), slice(2, 7), slice(2, 10))
    with pytest.raises(ValueError, match="only empty ones"):
        union_box([torch.zeros(grid.shape, dtype=torch.bool)], grid, 3.0)
