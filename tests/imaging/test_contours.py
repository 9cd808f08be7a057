"""Masks and polygons of one slice."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings

from imaging.contours import Polygon, Slice, signed_area, to_mask, to_polygons

SLICES = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12))


def lattice(n: int) -> tuple[np.ndarray, np.ndarray]:
    i, j = np.mgrid[:n, :n].astype(float)
    return i, j


def disc(n: int, at: tuple[float, float], radius: float) -> Slice:
    i, j = lattice(n)
    return np.hypot(i - at[0], j - at[1]) < radius


def circle(at: tuple[float, float], radius: float, n_points: int = 360) -> Polygon:
    angle = np.linspace(0, 2 * np.pi, n_points, endpoint=False)
    return np.column_stack([at[0] + radius * np.cos(angle), at[1] + radius * np.sin(angle)])


def windings(polygons: list[Polygon], shape: tuple[int, int]) -> np.ndarray:
    """How often all polygons run around each voxel centre, by the sum of turned angles."""
    i, j = np.mgrid[: shape[0], : shape[1]]
    turns = np.zeros(shape)
    for polygon in polygons:
        z = (polygon[:, 0, None, None] - i) + 1j * (polygon[:, 1, None, None] - j)
        turns += np.angle(np.roll(z, -1, axis=0) / z).sum(axis=0) / (2 * np.pi)
    return np.rint(turns).astype(int)


@given(SLICES)
@settings(deadline=None, max_examples=300)
def test_any_mask_comes_back_exactly(mask: Slice) -> None:
    assert np.array_equal(to_mask(to_polygons(mask), mask.shape), mask)


@given(SLICES)
@settings(deadline=None, max_examples=100)
def test_keyholes_mean_the_same_to_readers_that_count_windings(mask: Slice) -> None:
    assert np.array_equal(windings(to_polygons(mask), mask.shape) != 0, mask)


@given(SLICES)
@settings(deadline=None, max_examples=100)
def test_no_voxel_center_lies_near_a_border(mask: Slice) -> None:
    i, j = np.nonzero(np.ones_like(mask))
    for polygon in to_polygons(mask):
        a, b = polygon, np.roll(polygon, -1, axis=0)
        centers = np.column_stack([i, j])[:, None]
        along = np.clip(((centers - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1), 0, 1)
        distance = np.linalg.norm(centers - a - along[..., None] * (b - a), axis=-1)
        # Borders keep √2/4 away from centres, bridges of keyholes a quarter.
        assert distance.min() > 0.25 - 1e-9


@pytest.mark.parametrize("where", [np.s_[2, 3], np.s_[1:6, 3], np.s_[2, 1:6]], ids=["voxel", "line", "row"])
def test_structures_one_voxel_thick_keep_every_voxel(where: tuple[slice | int, slice | int]) -> None:
    mask = np.zeros((7, 7), dtype=bool)
    mask[where] = True
    polygons = to_polygons(mask)
    assert len(polygons) == 1
    assert np.array_equal(to_mask(polygons, mask.shape), mask)


def test_contour_of_a_disc_lies_within_half_a_voxel_of_its_circle() -> None:
    for radius in (1.3, 5.0, 17.7, 40.2):
        at = (45.3, 44.8)
        (polygon,) = to_polygons(disc(90, at, radius))
        distance = np.hypot(polygon[:, 0] - at[0], polygon[:, 1] - at[1]) - radius
        assert np.abs(distance).max() <= 0.5 + 1e-9


def test_each_closed_curve_costs_half_a_voxel_of_area() -> None:
    outside, hole = disc(60, (30, 30), 22.2), disc(60, (28, 31), 9.1)
    (polygon,) = to_polygons(outside)
    assert abs(signed_area(polygon)) == pytest.approx(outside.sum() - 0.5)
    (ring,) = to_polygons(outside & ~hole)
    assert abs(signed_area(ring)) == pytest.approx((outside & ~hole).sum())


def test_voxels_of_a_circle_are_those_whose_centers_it_holds() -> None:
    at, radius = (20.37, 19.81), 13.3
    mask = to_mask([circle(at, radius, 7200)], (41, 43))
    i, j = np.mgrid[:41, :43]
    assert np.array_equal(mask, np.hypot(i - at[0], j - at[1]) < radius)


def test_area_of_a_circle_comes_back_within_one_percent() -> None:
    mask = to_mask([circle((50.2, 49.9), 40.0)], (100, 100))
    (polygon,) = to_polygons(mask)
    assert mask.sum() == pytest.approx(np.pi * 40**2, rel=0.01)
    assert abs(signed_area(polygon)) == pytest.approx(np.pi * 40**2, rel=0.01)


def test_inner_contour_and_keyhole_make_the_same_hole() -> None:
    outer, inner = circle((20, 20), 15.2), circle((21, 19), 6.1)
    start = inner[0]
    edge = outer[0]
    keyhole = np.concatenate([outer, [edge, start], inner[::-1], [start, edge]])
    separate = to_mask([outer, inner], (41, 41))
    assert np.array_equal(to_mask([keyhole], (41, 41)), separate)
    assert not separate[21, 19]
    assert separate[20, 32]


def test_an_island_in_a_hole_is_inside() -> None:
    mask = disc(41, (20, 20), 18) & ~disc(41, (20, 20), 12) | disc(41, (20, 20), 5)
    polygons = to_polygons(mask)
    assert len(polygons) == 2
    assert np.array_equal(to_mask(polygons, mask.shape), mask)


def test_a_contour_given_twice_counts_once() -> None:
    polygon = circle((10, 10), 6)
    assert np.array_equal(to_mask([polygon, polygon.copy()], (21, 21)), to_mask([polygon], (21, 21)))


def test_parts_outside_the_slice_are_cut_off() -> None:
    mask = to_mask([circle((0.0, 20.0), 8.3)], (21, 21))
    whole = to_mask([circle((20.0, 20.0), 8.3)], (41, 41))
    assert np.array_equal(mask, whole[20:, :21])


def test_an_empty_slice_has_no_contours() -> None:
    assert to_polygons(np.zeros((4, 5), dtype=bool)) == []
    assert not to_mask([], (4, 5)).any()
