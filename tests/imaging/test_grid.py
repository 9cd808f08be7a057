"""Grids: closed forms and every refusal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from imaging.grid import Grid, around, axial, close, corners, indices, positions

ANGLE = st.floats(-180, 180)
LENGTH = st.floats(0.3, 8)
PLACE = st.floats(-300, 300)


@st.composite
def grids(draw) -> Grid:
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", draw(st.tuples(ANGLE, ANGLE, ANGLE)), degrees=True)
    affine[:3, :3] = turn.as_matrix() * draw(st.tuples(LENGTH, LENGTH, LENGTH))
    affine[:3, 3] = draw(st.tuples(PLACE, PLACE, PLACE))
    return Grid(draw(st.tuples(*[st.integers(1, 40)] * 3)), affine)


@given(grids())
def test_indices_and_positions_are_each_others_inverse(grid):
    points = np.array([[0.0, 0.0, 0.0], [1.5, -2.0, 3.25], [39.0, 17.0, 8.0]])
    assert np.allclose(indices(grid, positions(grid, points)), points, atol=1e-8)


@given(grids())
def test_volume_of_a_voxel_is_the_determinant(grid):
    assert grid.voxel_volume == pytest.approx(abs(np.linalg.det(grid.affine[:3, :3])), rel=1e-9)


@given(grids())
def test_corners_span_the_outer_faces(grid):
    found = indices(grid, corners(grid))
    assert np.allclose(found.min(axis=0), -0.5, atol=1e-8)
    assert np.allclose(found.max(axis=0), np.array(grid.shape) - 0.5, atol=1e-8)
    assert np.allclose(corners(grid).mean(axis=0), grid.center, atol=1e-8)


@given(grids(), st.tuples(LENGTH, LENGTH, LENGTH))
def test_an_upright_grid_around_another_covers_it_and_wastes_less_than_a_voxel(grid, spacing):
    upright = around(grid, spacing)
    inner, outer = corners(grid), corners(upright)
    slack = (outer.max(axis=0) - outer.min(axis=0)) - (inner.max(axis=0) - inner.min(axis=0))
    assert (outer.min(axis=0) <= inner.min(axis=0) + 1e-4).all()
    assert (outer.max(axis=0) >= inner.max(axis=0) - 1e-4).all()
    assert (slack < np.array(spacing) + 1e-6).all()


def test_axial_voxel_centres_lie_half_a_voxel_inside_the_box():
    grid = axial(np.array([-10.0, 0.0, 5.0]), np.array([10.0, 30.0, 11.0]), (2.0, 3.0, 1.5))
    assert grid.shape == (10, 10, 4)
    assert grid.affine[:3, 3].tolist() == [-9.0, 1.5, 5.75]
    assert np.array_equal(grid.affine[:3, :3], np.diag([2.0, 3.0, 1.5]))


def test_spacing_is_the_length_of_the_columns():
    affine = np.array([[0.0, -2.0, 0, 1], [3, 0, 0, 2], [0, 0, 4, 3], [0, 0, 0, 1]])
    assert Grid((2, 2, 2), affine).spacing.tolist() == [3.0, 2.0, 4.0]


def test_close_grids_differ_by_less_than_the_tolerance_at_every_corner():
    moved = np.eye(4)
    moved[0, 3] = 5e-4
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("z", 0.01, degrees=True).as_matrix()
    grid = Grid((100, 100, 10), np.eye(4))
    assert close(grid, Grid(grid.shape, moved))
    assert not close(grid, Grid(grid.shape, turned))
    assert not close(grid, Grid((100, 100, 11), np.eye(4)))


def test_equal_grids_hash_alike_even_with_negative_zero():
    negative = np.eye(4)
    negative[0, 1] = -0.0
    assert Grid((1, 2, 3), negative) == Grid((1, 2, 3), np.eye(4))
    assert hash(Grid((1, 2, 3), negative)) == hash(Grid((1, 2, 3), np.eye(4)))


def test_a_grid_cannot_be_changed_from_outside():
    affine = np.eye(4)
    grid = Grid((1, 2, 3), affine)
    affine[0, 3] = 7
    assert grid.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 3] = 7


def _with(row: int, column: int, value: float) -> np.ndarray:
    affine = np.eye(4)
    affine[row, column] = value
    return affine


@pytest.mark.parametrize(
    ("shape", "affine", "sentence"),
    [
        ((0, 2, 3), np.eye(4), "three positive voxel counts"),
        ((1, 2, 3), _with(0, 3, np.nan), "finite 4x4 affine"),
        ((1, 2, 3), _with(1, 1, np.inf), "finite 4x4 affine"),
        ((1, 2, 3), _with(3, 0, 1.0), "last row is 0 0 0 1"),
        ((1, 2, 3), _with(2, 2, 0.0), "voxels of positive size"),
        ((1, 2, 3), _with(0, 1, 0.01), "sheared affine"),
    ],
)
def test_what_is_no_lattice_is_refused(shape, affine, sentence):
    with pytest.raises(ValueError, match=sentence):
        Grid(shape, affine)
