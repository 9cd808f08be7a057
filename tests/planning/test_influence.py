from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator

from imaging.grid import Grid, axial, positions
from imaging.volume import Quantity, Volume
from planning.beams import Beam, bev_axes, project, source_position, to_bev
from planning.dose.bixel_dose import CUTOFF
from planning.dose.bixels import Bixels, covering, expect_fine
from planning.dose.influence import adjoint, apply, beam_by_beam, influence, of_beam
from planning.dose.pencil_beam import RESOLUTION, depth_factors, lateral_tables
from planning.machine import load_machine
from planning.optimise.fluence import optimise_fluence
from planning.optimise.objectives import SquaredDeviation

MACHINE = load_machine("generic-6mv")
CUBE = axial(np.full(3, -90.0), np.full(3, 90.0), (5.0, 5.0, 5.0))
WATER = Volume(torch.ones((1, *CUBE.shape)), CUBE, Quantity.DENSITY)
ISO = np.zeros(3)
FRONT = Beam(0.0, 0.0, 0.0, ISO)


def _field(half=10.0):
    edge = np.arange(-half + 2.5, half, 5.0)
    return Bixels(np.stack([a.ravel() for a in np.meshgrid(edge, edge, indexing="ij")], axis=1))


def _points(n=400, reach=60.0):
    return np.random.default_rng(0).uniform(-reach, reach, (n, 3))


def _dose(beam, bixels, points, density=WATER):
    return apply(influence([beam], [bixels], density, points, MACHINE), torch.ones(len(bixels.positions)))


def test_a_bixels_dose_is_the_published_formula_with_its_ray_turned_to_the_axis():
    beam, at = Beam(40.0, 20.0, 0.0, ISO), np.array([[37.5, -22.5]])
    points = _points()
    dose = _dose(beam, Bixels(at), points).numpy()
    # Independent of the engine: a rotation matrix by Rodrigues' formula, depth in a cube of water.
    bev = to_bev(beam, points) - [0, 0, 1000.0]
    axis = np.array([0, 0, -1.0])
    ray = np.array([*at[0], -1000.0])
    ray /= np.linalg.norm(ray)
    v = np.cross(axis, ray)
    skew = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    turn = np.eye(3) + skew + skew @ skew / (1 + axis @ ray)
    turned = bev @ turn
    x, y = np.abs(turned[:, :2] * 1000 / -turned[:, 2:]).T
    source = source_position(beam, 1000.0)
    way = points - source
    entry = np.max(np.minimum((-90 - source) / way, (90 - source) / way), axis=1)
    r = np.linalg.norm(way, axis=1)
    depth = torch.from_numpy((1 - entry) * r)
    center = np.max(np.minimum((-90 - source) / -source, (90 - source) / -source)) * 1000
    table = lateral_tables(MACHINE.beam, center, (5.0, 5.0), CUTOFF).numpy()
    steps = np.arange(table.shape[1]) * RESOLUTION
    lateral = [
        RegularGridInterpolator((steps, steps), t, "cubic", bounds_error=False, fill_value=0)(
            np.stack([x, y], 1)
        )
        for t in table
    ]
    expected = (depth_factors(MACHINE.beam, depth).numpy() * lateral).sum(0) * (1000 / r) ** 2
    within = np.hypot(x, y) < CUTOFF
    assert within.sum() > 100
    np.testing.assert_allclose(dose[within], expected[within], rtol=1e-3, atol=2e-6)
    assert (dose[~within] == 0).all()


@pytest.mark.parametrize(("gantry", "couch"), [(90.0, 0.0), (180.0, 0.0), (90.0, 270.0), (270.0, 270.0)])
def test_turning_beam_and_points_together_changes_nothing_in_a_cube(gantry, couch):
    beam, straight = Beam(gantry, couch, 0.0, ISO), FRONT
    points = _points(200)
    # The same place as seen by the other beam.
    turned = to_bev(straight, points) @ bev_axes(beam)
    torch.testing.assert_close(
        _dose(beam, _field(), turned), _dose(straight, _field(), points), rtol=1e-3, atol=1e-5
    )


def test_collimator_and_field_turned_against_each_other_give_the_same_dose():
    points = _points(200)
    turned = Bixels(_field().positions @ np.array([[0.0, -1.0], [1.0, 0.0]]))
    a = _dose(Beam(30.0, 0.0, 90.0, ISO), turned, points)
    b = _dose(Beam(30.0, 0.0, 0.0, ISO), _field(), points)
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_apply_and_adjoint_are_transposes():
    matrix = influence(
        [FRONT, Beam(70.0, 30.0, 10.0, ISO)],
        [_field(), _field(20.0)],
        WATER,
        _points(),
        MACHINE,
    )
    random = torch.Generator().manual_seed(0)
    w = torch.rand(matrix.n_bixels, generator=random)
    g = torch.rand(matrix.n_voxels, generator=random)
    left, right = float(apply(matrix, w) @ g), float(w @ adjoint(matrix, g))
    assert left == pytest.approx(right, rel=1e-5)


def test_several_sets_of_weights_at_once_give_each_sets_dose():
    matrix = influence(
        [FRONT, Beam(70.0, 0.0, 0.0, ISO)], [_field(), _field(20.0)], WATER, _points(), MACHINE
    )
    sets = torch.rand((matrix.n_bixels, 3), generator=torch.Generator().manual_seed(0))
    together = apply(matrix, sets)
    for n in range(3):
        torch.testing.assert_close(together[:, n], apply(matrix, sets[:, n].contiguous()))


def test_beams_apart_or_one_at_a_time_add_up_to_all_of_them():
    beams, fields = [FRONT, Beam(70.0, 30.0, 10.0, ISO)], [_field(), _field(20.0)]
    matrix = influence(beams, fields, WATER, _points(), MACHINE)
    weights = torch.rand(matrix.n_bixels, generator=torch.Generator().manual_seed(0))
    own = weights.split(np.diff(matrix.beam_starts).tolist())
    apart = sum(apply(of_beam(matrix, n), own[n]) for n in range(2))
    torch.testing.assert_close(apart, apply(matrix, weights))
    streamed = zip(beam_by_beam(beams, fields, WATER, _points(), MACHINE), own, strict=True)
    torch.testing.assert_close(sum(apply(part, w) for part, w in streamed), apart)


def test_an_entry_takes_at_most_six_bytes():
    cube = positions(CUBE, torch.nonzero(torch.ones(CUBE.shape)).numpy().astype(np.float64))
    matrix = influence([FRONT], [_field(40.0)], WATER, cube, MACHINE)
    assert matrix.n_bytes <= 6 * matrix.n_entries


def test_polynomials_over_a_cell_give_the_dose_of_voxels_on_their_own():
    fine = axial(np.array([-20.0, -10.0, -20.0]), np.array([20.0, 10.0, 20.0]), (1.0, 1.0, 1.0))
    crowd = positions(fine, torch.nonzero(torch.ones(fine.shape)).numpy().astype(np.float64))
    bixel = Bixels(np.array([[2.5, -2.5]]))
    for machine in (MACHINE, _sharper(MACHINE, 3.0)):
        dose = apply(influence([FRONT], [bixel], WATER, crowd, machine), torch.ones(1))
        few = apply(influence([FRONT], [bixel], WATER, crowd[::97], machine), torch.ones(1))
        assert float((dose[::97] - few).abs().max()) <= 1.5e-3 * float(dose.max())


def _sharper(machine, fwhm):
    return replace(machine, beam=replace(machine.beam, penumbra_fwhm=np.full(2, fwhm)))


def test_a_matrix_that_does_not_fit_is_refused_before_it_is_computed(monkeypatch):
    monkeypatch.setattr("planning.dose.memory.free_bytes", lambda _device: 1000)
    with pytest.raises(MemoryError, match=r"matrix of 400 points and 16 bixels .* use fewer points"):
        influence([FRONT], [_field()], WATER, _points(), MACHINE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_the_dose_of_the_processor():
    there = Volume(WATER.data.cuda(), CUBE, Quantity.DENSITY)
    w, g = torch.linspace(0, 1, 16), torch.linspace(-1, 1, 400)
    here = influence([FRONT], [_field()], WATER, _points(), MACHINE)
    matrix = influence([FRONT], [_field()], there, _points(), MACHINE)
    torch.testing.assert_close(apply(matrix, w.cuda()).cpu(), apply(here, w), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(adjoint(matrix, g.cuda()).cpu(), adjoint(here, g), rtol=1e-3, atol=1e-4)


def test_two_runs_and_any_number_of_cores_give_identical_bytes():
    beams = [Beam(a, 0.0, 0.0, ISO) for a in (0.0, 120.0, 240.0)]
    runs = []
    cores = torch.get_num_threads()
    for n in (1, 2, 2):
        torch.set_num_threads(n)
        try:
            runs.append(influence(beams, [_field()] * 3, WATER, _points(), MACHINE))
        finally:
            torch.set_num_threads(cores)
    for other in runs[1:]:
        assert torch.equal(runs[0].values, other.values)
        assert torch.equal(runs[0].bixels, other.bixels)
        assert torch.equal(runs[0].voxels, other.voxels)


def test_dense_and_sparse_points_give_the_same_dose():
    # Few points in a cell are computed one by one, many from polynomials.
    dense = positions(CUBE, np.argwhere(np.ones(CUBE.shape)).astype(np.float64))
    beam = Beam(20.0, 0.0, 0.0, ISO)
    some = np.arange(0, len(dense), 97)
    whole, few = (
        _dose(beam, _field(5.0), dense)[torch.from_numpy(some)],
        _dose(beam, _field(5.0), dense[some]),
    )
    assert float((whole - few).abs().max()) <= 1e-3 * float(few.max())


def test_points_beyond_reach_get_no_dose():
    assert float(_dose(FRONT, _field(), np.array([[85.0, 0.0, 85.0]])).max()) == 0


def test_bixels_cover_a_sphere_and_one_row_more():
    random = np.random.default_rng(1).normal(size=(20000, 3))
    sphere = 20 * random / np.linalg.norm(random, axis=1, keepdims=True)
    beam = Beam(50.0, 10.0, 0.0, ISO)
    bixels = covering(sphere, beam, MACHINE)
    seen = project(beam, sphere, 1000.0)
    apart = np.abs(seen[:, None] - bixels.positions[None]).max(axis=2)
    assert apart.min(axis=1).max() <= 2.5
    # One bixel of margin: nothing further than two bixels from the sphere.
    assert np.hypot(*bixels.positions.T).max() < 20.5 + np.hypot(7.5, 7.5)
    assert np.abs(bixels.positions).max() == 27.5
    np.testing.assert_allclose(bixels.positions % 5, 2.5)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (np.empty((0, 3)), "expected a target with voxels"),
        (np.array([[250.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), "expected a target within 200 mm"),
    ],
)
def test_a_target_that_cannot_be_covered_is_refused(target, says):
    with pytest.raises(ValueError, match=says):
        covering(target, FRONT, MACHINE)


def _nan_water():
    data = WATER.data.clone()
    data[0, 3, 3, 3] = float("nan")
    return Volume(data, CUBE, Quantity.DENSITY)


@pytest.mark.parametrize(
    ("beam", "density", "bixels", "says"),
    [
        (FRONT, _nan_water(), _field(), "finite"),
        (
            FRONT,
            Volume(WATER.data, CUBE, Quantity.HU),
            _field(),
            "relative electron density",
        ),
        (Beam(400.0, 0.0, 0.0, ISO), WATER, _field(), "gantry angle"),
        (Beam(0.0, 0.0, 0.0, np.array([0.0, 95.0, 0.0])), WATER, _field(), "isocentre inside the scan"),
        (
            FRONT,
            Volume(0 * WATER.data, CUBE, Quantity.DENSITY),
            _field(),
            "expected tissue",
        ),
        (FRONT, WATER, Bixels(np.empty((0, 2))), "expected bixels"),
    ],
)
def test_what_would_misplace_dose_is_refused(beam, density, bixels, says):
    with pytest.raises(ValueError, match=says):
        influence([beam], [bixels], density, _points(10), MACHINE)


def test_a_target_point_that_no_bixel_reaches_is_refused():
    points = np.array([[0.0, 0.0, 0.0], [85.0, 0.0, 85.0]])
    matrix = influence([FRONT], [_field()], WATER, points, MACHINE)
    with pytest.raises(ValueError, match="expected bixels that reach all of ptv"):
        optimise_fluence(matrix, [SquaredDeviation("ptv", 2.0)], {"ptv": torch.arange(2)})


def test_a_box_of_water_gets_its_dose_from_all_sides():
    beams = [Beam(a, 0.0, 0.0, ISO) for a in (0.0, 90.0, 180.0, 270.0)]
    points = np.random.default_rng(2).uniform(-8, 8, (300, 3))
    matrix = influence(beams, [_field(15.0)] * 4, WATER, points, MACHINE)
    told = []
    found = optimise_fluence(
        matrix,
        [SquaredDeviation("ptv", 2.0, 100.0)],
        {"ptv": torch.arange(300)},
        progress=lambda step, share: told.append((step, share)),
    )
    dose = apply(matrix, found.weights)
    assert float((dose - 2).abs().max()) < 0.02
    assert told[-1][1] <= 1


def test_a_turned_dose_grid_is_no_matter():
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    fine = Grid(
        (180, 180, 180), np.array([[1.0, 0, 0, -89.5], [0, 1, 0, -89.5], [0, 0, 1, -89.5], [0, 0, 0, 1]])
    )
    oblique = Grid(
        (70, 70, 70), turn @ np.array([[2.0, 0, 0, -69], [0, 2, 0, -69], [0, 0, 2, -69], [0, 0, 0, 1.0]])
    )
    ball = [
        torch.from_numpy(
            np.linalg.norm(positions(g, np.argwhere(np.ones(g.shape)).astype(float)), axis=1) < 60
        )
        .reshape(1, *g.shape)
        .float()
        for g in (fine, oblique)
    ]
    beam, points = Beam(15.0, 0.0, 0.0, ISO), _points(100, 25.0)
    upright = _dose(beam, _field(), points, Volume(ball[0], fine, Quantity.DENSITY))
    turned = _dose(beam, _field(), points, Volume(ball[1], oblique, Quantity.DENSITY))
    torch.testing.assert_close(turned, upright, rtol=0.02, atol=1e-3)


def test_a_dose_grid_coarser_than_the_bixels_is_refused():
    assert expect_fine(CUBE, _field()) is CUBE
    coarse = axial(np.full(3, -90.0), np.full(3, 90.0), (6.0, 6.0, 6.0))
    with pytest.raises(ValueError, match=r"no coarser than the bixels, 5 mm, got voxels of 6 mm"):
        expect_fine(coarse, _field())
