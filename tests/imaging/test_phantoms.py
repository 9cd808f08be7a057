import math

import numpy as np
import pytest
import torch

from imaging.grid import Grid, axial, positions
from imaging.phantoms import ellipsoid, slabs, sphere, water_box
from imaging.volume import Quantity


def cube(half: float, spacing: float) -> Grid:
    return axial(np.full(3, -half), np.full(3, half), (spacing, spacing, spacing))


def test_a_water_box_holds_its_volume_of_water_at_zero_hu() -> None:
    box = water_box(120.0, 4.0, hu_outside=-900.0)
    inside = box.data == 0
    assert box.quantity is Quantity.HU
    assert int(inside.sum()) * box.grid.voxel_volume == pytest.approx(120**3)
    assert set(box.data.unique().tolist()) == {-900.0, 0.0}
    np.testing.assert_allclose(box.grid.center, 0, atol=1e-12)


def test_a_sphere_holds_four_thirds_pi_r_cubed() -> None:
    grid = cube(25.0, 0.5)
    volume = int(sphere(grid, np.zeros(3), 20.0).sum()) * grid.voxel_volume
    assert volume == pytest.approx(4 / 3 * math.pi * 20**3, rel=2e-3)


def test_an_ellipsoid_lies_where_it_is_put_on_an_oblique_grid() -> None:
    turned = np.diag([1.0, 1.0, 1.0, 1.0])
    angle = math.radians(20)
    turned[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    turned[:3, 3] = -25
    grid = Grid((50, 50, 50), turned)
    centre = grid.center + np.array([3.0, -2.0, 1.0])
    mask = ellipsoid(grid, centre, np.array([6.0, 9.0, 12.0]))
    assert int(mask.sum()) == pytest.approx(4 / 3 * math.pi * 6 * 9 * 12, rel=0.02)
    found = positions(grid, torch.nonzero(mask).double().numpy()).mean(axis=0)
    np.testing.assert_allclose(found, centre, atol=0.1)


def test_slabs_stack_along_y_with_their_thickness() -> None:
    stack = slabs([(20.0, 0.0), (10.0, 1000.0), (30.0, -1000.0)], width_mm=40.0, spacing=2.0)
    column = stack.data[0, 5, :, 5]
    assert column.tolist() == [0.0] * 10 + [1000.0] * 5 + [-1000.0] * 15
    assert stack.grid.affine[1, 3] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: water_box(0.0, 2.0),
        lambda: water_box(100.0, -1.0),
        lambda: slabs([], 40.0, 2.0),
        lambda: slabs([(0.0, 0.0)], 40.0, 2.0),
        lambda: sphere(cube(4.0, 1.0), np.zeros(3), 0.0),
    ],
)
def test_bodies_without_extent_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()  # type: ignore[operator]
