import numpy as np
import pytest
import torch

from imaging.grid import Grid, axial, positions
from imaging.volume import Quantity, Volume
from planning.dose.raytrace import _siddon, radiological_depth, surface_distance

GRID = axial(np.array([-100.0, -80.0, -60.0]), np.array([100.0, 80.0, 60.0]), (4.0, 5.0, 3.0))


def _density(values, grid=GRID):
    return Volume(values.expand(1, *grid.shape).contiguous(), grid, Quantity.DENSITY)


def _inside(n, scale=0.98):
    random = np.random.default_rng(3)
    return random.uniform(-scale, scale, (n, 3)) * np.array([100.0, 80.0, 60.0])


def test_depth_in_water_equals_distance_from_the_surface():
    source = np.array([0.0, -1000.0, 0.0])
    points = _inside(500, 0.9)
    depth = radiological_depth(_density(torch.ones(1)), source, points).numpy()
    way = points - source
    # The ray enters through the front face, y = -80.
    expected = np.linalg.norm(way, axis=1) * (points[:, 1] + 80) / way[:, 1]
    enters_front = (np.abs((source + way * (920 / way[:, 1:2]))[:, [0, 2]]) < [100, 60]).all(axis=1)
    assert enters_front.sum() > 300
    np.testing.assert_allclose(depth[enters_front], expected[enters_front], atol=2e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_slabs_add_their_thickness_times_density(axis, side):
    source = np.zeros(3)
    source[axis] = 1000.0 * side
    values = torch.zeros(GRID.shape)
    centers = [positions(GRID, np.eye(3)[[axis]] * n)[0, axis] for n in range(GRID.shape[axis])]
    values[
        tuple(torch.tensor(np.array(centers) * side > 20.0) if a == axis else slice(None) for a in range(3))
    ] = 2.0
    depth = radiological_depth(_density(values), source, np.array([[0.3, 0.2, 0.1], [-0.3, 0.4, -0.2]]))
    thickness = GRID.spacing[axis] * (np.array(centers) * side > 20.0).sum()
    np.testing.assert_allclose(depth.numpy(), 2 * thickness, rtol=1e-5)


@pytest.mark.parametrize(
    "source", [[700.0, -700.0, 100.0], [-300.0, 500.0, 800.0], [0.0, -1000.0, 0.0], [50.0, 30.0, -20.0]]
)
def test_oblique_rays_through_random_densities_equal_siddons_sorted_crossings(source):
    values = torch.rand(GRID.shape, generator=torch.Generator().manual_seed(0))
    density = _density(values)
    points = _inside(100, 1.1)
    depth = radiological_depth(density, np.array(source), points).numpy()
    for n, point in enumerate(points):
        lengths, voxels, near = _siddon(density, np.array(source), point)
        end = np.linalg.norm(point - np.array(source))
        lengths = np.clip(np.minimum(near + lengths, end) - near, 0, None)
        assert depth[n] == pytest.approx((values.numpy()[tuple(voxels.T)] * lengths).sum(), abs=5e-3)


def test_a_turned_lattice_gives_the_same_depths_as_an_upright_one():
    values = torch.rand(GRID.shape, generator=torch.Generator().manual_seed(1))
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    source, points = np.array([400.0, -800.0, 200.0]), _inside(200)
    upright = radiological_depth(_density(values), source, points)
    turned = radiological_depth(
        _density(values, Grid(GRID.shape, turn @ GRID.affine)), turn[:3, :3] @ source, points @ turn[:3, :3].T
    )
    torch.testing.assert_close(turned, upright, atol=5e-3, rtol=1e-4)


def test_depth_adds_up_along_a_ray():
    values = torch.rand(GRID.shape, generator=torch.Generator().manual_seed(2))
    source, target = np.array([30.0, -900.0, 60.0]), np.array([5.0, 70.0, 1.0])
    share = np.linspace(0.85, 1.0, 50)[:, None]
    depth = radiological_depth(_density(values), source, source + share * (target - source)).numpy()
    assert (np.diff(depth) >= -1e-4).all()


def test_a_ray_beside_the_lattice_meets_nothing():
    density = _density(torch.ones(1))
    source = np.array([500.0, -1000.0, 0.0])
    assert float(radiological_depth(density, source, np.array([[500.0, 50.0, 0.0]]))[0]) == 0.0
    assert surface_distance(density, source, np.array([500.0, 0.0, 0.0])) is None


def test_the_surface_of_a_box_is_where_it_was_put():
    density = _density(torch.ones(1))
    source = np.array([0.0, -1000.0, 0.0])
    assert surface_distance(density, source, np.array([1.0, 0.0, 1.0])) == pytest.approx(920.0, abs=0.01)
