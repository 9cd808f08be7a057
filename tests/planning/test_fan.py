import numpy as np
import pytest
import torch

from imaging.grid import Grid, axial, positions
from imaging.phantoms import ellipsoid
from imaging.volume import Quantity, Volume
from planning.dose.fan import fan_depth
from planning.dose.raytrace import radiological_depth

GRID = axial(np.array([-60.0, -60.0, -45.0]), np.array([60.0, 60.0, 45.0]), (3.0, 3.0, 3.0))
SOURCES = [[0.0, -1000.0, 0.0], [700.0, -700.0, 100.0], [-300.0, 500.0, 800.0], [10.0, 20.0, 1000.0]]
EVERYWHERE = positions(GRID, torch.nonzero(torch.ones(GRID.shape)).numpy().astype(np.float64))


def _density(values):
    return Volume(values[None].float(), GRID, Quantity.DENSITY)


def _inside(n=400, scale=0.95):
    return np.random.default_rng(3).uniform(-scale, scale, (n, 3)) * np.array([60.0, 60.0, 45.0])


@pytest.mark.parametrize("source", SOURCES)
def test_depth_in_water_is_the_length_of_the_way_through_it(source):
    # A block much wider than the points, so that every ray enters through the face it looks at.
    points, start = _inside(scale=0.3), np.array(source)
    depth = fan_depth(_density(torch.ones(GRID.shape)), start, points)
    exact = radiological_depth(_density(torch.ones(GRID.shape)), start, points)
    assert float((depth - exact).abs().median()) < 2e-3
    assert float((depth - exact).abs().max()) < 0.5


def _head(grid):
    """A skull of 6 mm around a brain with an air cavity."""
    values = ellipsoid(grid, np.zeros(3), np.array([50.0, 55.0, 40.0])).float()
    values += 0.7 * ellipsoid(grid, np.zeros(3), np.array([48.0, 53.0, 38.0]))
    values -= 0.7 * ellipsoid(grid, np.zeros(3), np.array([42.0, 47.0, 32.0]))
    values[ellipsoid(grid, np.array([0.0, -25.0, 5.0]), np.full(3, 12.0))] = 0.001
    return values


@pytest.mark.parametrize("source", SOURCES[:3])
def test_depth_in_a_head_is_nearer_to_the_truth_than_the_traversal_of_coarse_voxels(source):
    fine = axial(np.array([-60.0, -60.0, -45.0]), np.array([60.0, 60.0, 45.0]), (0.75, 0.75, 0.75))
    truth_in = Volume(_head(fine)[None], fine, Quantity.DENSITY)
    coarse, start = _density(torch.nn.functional.avg_pool3d(_head(fine)[None], 4)[0]), np.array(source)
    points = EVERYWHERE[(coarse.data[0] > 0).flatten().numpy()][::7]
    truth = radiological_depth(truth_in, start, points)
    fan, exact = fan_depth(coarse, start, points) - truth, radiological_depth(coarse, start, points) - truth
    assert float(fan.square().mean().sqrt()) < 1.05 * float(exact.square().mean().sqrt())
    assert abs(float(fan.mean() - exact.mean())) < 0.1


def test_more_rays_come_closer_to_the_exact_traversal():
    values = torch.rand(GRID.shape, generator=torch.Generator().manual_seed(0))
    source = np.array(SOURCES[1])
    exact = radiological_depth(_density(values), source, EVERYWHERE)
    errors = [
        float((fan_depth(_density(values), source, EVERYWHERE, n) - exact).square().mean().sqrt())
        for n in (1.0, 2.0, 4.0)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.8


def test_a_points_depth_does_not_depend_on_the_other_points():
    values = torch.rand(GRID.shape, generator=torch.Generator().manual_seed(0))
    points, source = _inside(), np.array(SOURCES[2])
    alone = fan_depth(_density(values), source, points[:7])
    torch.testing.assert_close(alone, fan_depth(_density(values), source, points)[:7], rtol=0, atol=2e-3)


def test_behind_the_lattice_depth_stays_and_before_it_there_is_none():
    points = np.array([[0.0, 200.0, 0.0], [0.0, 62.0, 0.0], [0.0, -200.0, 0.0]])
    depth = fan_depth(_density(torch.ones(GRID.shape)), np.array(SOURCES[0]), points)
    np.testing.assert_allclose(depth, [120.0, 120.0, 0.0], atol=0.01)


def test_turned_and_anisotropic_lattices_agree_with_the_exact_traversal():
    turn = np.eye(4)
    turn[:3, :3] = np.array([[0.0, 0.0, -4.0], [1.5, 0.0, 0.0], [0.0, 3.0, 0.0]])
    turn[:3, 3] = 60.0, -60.0, -60.0
    grid = Grid((80, 40, 30), turn)
    values = torch.rand((1, *grid.shape), generator=torch.Generator().manual_seed(0))
    density = Volume(torch.nn.functional.avg_pool3d(values, 3, 1, 1), grid, Quantity.DENSITY)
    for source in SOURCES:
        apart = fan_depth(density, np.array(source), _inside()) - radiological_depth(
            density, np.array(source), _inside()
        )
        assert float(apart.square().mean().sqrt()) < 0.4


def test_no_points_give_no_depths():
    assert len(fan_depth(_density(torch.ones(GRID.shape)), np.array(SOURCES[0]), np.zeros((0, 3)))) == 0


def test_a_source_inside_the_scan_is_refused():
    with pytest.raises(ValueError, match="source outside the scan"):
        fan_depth(_density(torch.ones(GRID.shape)), np.array([5.0, 5.0, 5.0]), _inside())
