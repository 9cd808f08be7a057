from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.phantoms import ellipsoid
from imaging.volume import Quantity, Volume
from planning.beams import Beam, bev_axes, to_bev
from planning.dose.aperture import lattice_over, openness
from planning.dose.bixel_dose import blocks
from planning.dose.bixels import Bixels
from planning.dose.field import adjoint, dose, views
from planning.machine import load_machine

MACHINE = load_machine("generic-6mv")
CUBE = axial(np.full(3, -90.0), np.full(3, 90.0), (5.0, 5.0, 5.0))
WATER = Volume(torch.ones((1, *CUBE.shape)), CUBE, Quantity.DENSITY)
ISO = np.zeros(3)
FRONT = Beam(0.0, 0.0, 0.0, ISO)
ARC = [Beam(a, 0.0, 20.0, ISO) for a in (0.0, 50.0, 100.0)]
LATTICE = lattice_over((-20.0, 20.0), (-15.0, 15.0))
N = len(MACHINE.mlc.boundaries) - 1


def _points(n=300, reach=60.0):
    return np.random.default_rng(0).uniform(-reach, reach, (n, 3))


def _maps(n, dtype=torch.float32):
    return torch.rand((n, *LATTICE.shape), generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("half", [5.0, 50.0])
@pytest.mark.parametrize("beam", [FRONT, Beam(37.0, 20.0, 15.0, ISO)], ids=["straight", "oblique"])
def test_an_open_field_equals_the_sum_of_its_bixels(half, beam):
    edge = np.arange(-half + 2.5, half, 5.0)
    bixels = Bixels(np.stack([a.ravel() for a in np.meshgrid(edge, edge, indexing="ij")], axis=1))
    points = _points(1500)
    summed = torch.zeros(len(points))
    for block in blocks(beam, bixels, WATER, points, MACHINE, cutoff=150.0):
        summed[block.voxels] += block.dose.sum(dim=1)
    lattice = lattice_over((-half, half), (-half, half))
    found = dose(views([beam], WATER, points, MACHINE), torch.ones(1, *lattice.shape), lattice)
    assert float((found - summed).abs().max()) <= 2.5e-3 * float(summed.max())
    assert float((found - summed).square().mean().sqrt()) <= 3e-4 * float(summed.max())


def test_horns_weigh_the_fluence_where_it_passes():
    beam = replace(
        MACHINE.beam,
        off_axis_radius=np.array([0.0, 12.0, 12.001]),
        off_axis_fluence=np.array([1.0, 1.0, 1.25]),
        off_axis_depth=np.ones(3),
    )
    points = _points()
    maps = torch.zeros(1, *LATTICE.shape)
    maps[0, 35:, 10:20] = 1  # 15 mm and more from the axis
    plain = dose(views([FRONT], WATER, points, MACHINE), maps, LATTICE)
    horned = dose(views([FRONT], WATER, points, replace(MACHINE, beam=beam)), maps, LATTICE)
    torch.testing.assert_close(horned, 1.25 * plain, rtol=1e-4, atol=1e-7)


def test_dose_and_adjoint_are_transposes():
    seen = views(ARC, WATER, _points(), MACHINE)
    random = torch.Generator().manual_seed(1)
    g = torch.rand(300, generator=random)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        w = _maps(3, dtype)
        left = float(dose(seen, w, LATTICE) @ g.to(dtype))
        right = float((w * adjoint(seen, g.to(dtype), LATTICE)).sum())
        assert left == pytest.approx(right, rel=tolerance)


def test_a_batch_of_control_points_is_the_sum_of_each():
    seen, maps = views(ARC, WATER, _points(), MACHINE), _maps(3)
    together = dose(seen, maps, LATTICE)
    apart = sum(dose(seen[n : n + 1], maps[n : n + 1], LATTICE) for n in range(3))
    torch.testing.assert_close(together, apart)


def _leaves():
    random = np.random.default_rng(2)
    # A third of a pixel from any edge, so that a small step stays within a pixel.
    places = np.stack([random.integers(-15, 0, (3, N)), random.integers(0, 15, (3, N))], axis=1) + 0.3
    return torch.from_numpy(places)


def _value(seen, leaves, mu, jaws):
    fluence = mu[:, None, None] * openness(leaves, jaws, 0.75 * jaws, LATTICE, MACHINE)
    return dose(seen, fluence, LATTICE).square().mean()


def test_gradients_by_leaves_jaws_and_monitor_units_equal_finite_differences():
    seen = views(ARC, WATER, _points(), MACHINE)
    leaves, mu = _leaves(), torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    jaws = torch.tensor([[-18.3, 17.3]] * 3, dtype=torch.float64)
    given = [t.clone().requires_grad_() for t in (leaves, mu, jaws)]
    _value(seen, *given).backward()
    step = 1e-3
    random = np.random.default_rng(3)
    for which, tensor in enumerate((leaves, mu, jaws)):
        entries = random.choice(tensor.numel(), min(12, tensor.numel()), replace=False)
        if which == 0:
            inner = np.flatnonzero(
                np.abs((MACHINE.mlc.boundaries[1:] + MACHINE.mlc.boundaries[:-1]) / 2) < 12
            )
            entries = np.ravel_multi_index(np.meshgrid([1], [0, 1], inner), tuple(tensor.shape)).ravel()
        for entry in entries:
            ends = []
            for sign in (1, -1):
                moved = [t.clone() for t in (leaves, mu, jaws)]
                moved[which].view(-1)[int(entry)] += sign * step
                ends.append(float(_value(seen, *moved)))
            slope = (ends[0] - ends[1]) / (2 * step)
            assert float(given[which].grad.view(-1)[int(entry)]) == pytest.approx(slope, rel=1e-3, abs=1e-9)


def test_turning_beam_and_points_together_changes_nothing_in_a_ball_of_water():
    grid = axial(np.full(3, -80.0), np.full(3, 80.0), (2.5, 2.5, 2.5))
    ball = Volume(ellipsoid(grid, ISO, np.full(3, 70.0))[None].float(), grid, Quantity.DENSITY)
    beam, points = Beam(120.0, 30.0, 50.0, ISO), _points(300, 30.0)
    straight = dose(views([FRONT], ball, points, MACHINE), _maps(1), LATTICE)
    turned = dose(views([beam], ball, to_bev(FRONT, points) @ bev_axes(beam), MACHINE), _maps(1), LATTICE)
    # The ball's voxels are not turned with the beam.
    assert float((turned - straight).abs().max()) <= 0.02 * float(straight.max())
    assert abs(float((turned - straight).mean())) <= 3e-3 * float(straight.mean())


def test_views_are_refused_where_dose_would_be_misplaced():
    off = Beam(0.0, 0.0, 0.0, np.array([200.0, 0.0, 0.0]))
    for beams, says in (
        ([FRONT, off], "one isocentre"),
        ([off], "isocentre inside"),
        ([], "one or more beams"),
    ):
        with pytest.raises(ValueError, match=says):
            views(beams, WATER, _points(), MACHINE)
    with pytest.raises(ValueError, match="expected a fluence map"):
        dose(views([FRONT], WATER, _points(), MACHINE), _maps(2), LATTICE)
    nothing = Volume(torch.zeros_like(WATER.data), CUBE, Quantity.DENSITY)
    with pytest.raises(ValueError, match="expected tissue"):
        views([FRONT], nothing, _points(), MACHINE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_the_dose_and_gradient_of_the_processor():
    there = Volume(WATER.data.cuda(), CUBE, Quantity.DENSITY)
    here, away = (views(ARC, density, _points(), MACHINE) for density in (WATER, there))
    torch.testing.assert_close(
        dose(away, _maps(3).cuda(), LATTICE).cpu(), dose(here, _maps(3), LATTICE), rtol=1e-3, atol=1e-5
    )
    g = torch.linspace(-1, 1, 300)
    torch.testing.assert_close(
        adjoint(away, g.cuda(), LATTICE).cpu(), adjoint(here, g, LATTICE), rtol=1e-3, atol=1e-5
    )
