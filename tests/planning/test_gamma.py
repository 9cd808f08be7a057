import math

import numpy as np
import pymedphys
import pytest
import torch
from scipy.ndimage import gaussian_filter

from imaging.grid import Grid, positions
from imaging.resample import resample
from imaging.volume import Quantity, Volume
from planning.check.gamma import Criterion, gamma_map, gamma_pass


def dose(values, spacing=3.0, offset=(0.0, 0.0, 0.0)):
    affine = np.diag([*np.broadcast_to(spacing, 3), 1.0])
    affine[:3, 3] = offset
    data = torch.from_numpy(np.array(values)).float()[None]
    return Volume(data, Grid(tuple(values.shape), affine), Quantity.DOSE)


def ramp(slope, shape=(14, 8, 8), spacing=3.0):
    """Dose that rises by ``slope`` Gy/mm along i from 30 Gy."""
    return np.broadcast_to(30 + slope * spacing * np.arange(shape[0])[:, None, None], shape).copy()


def test_a_dose_passes_against_itself():
    got = gamma_pass(dose(ramp(0.5)), dose(ramp(0.5)))
    assert got.pass_percent == 100
    assert got.n_points == 14 * 8 * 8
    assert int(got.failed.data.sum()) == 0


@pytest.mark.parametrize(("scale", "passes"), [(1.019, 100.0), (1.021, 0.0)])
def test_a_flat_dose_fails_beyond_the_dose_criterion(scale, passes):
    flat = np.full((8, 8, 8), 50.0)
    assert gamma_pass(dose(flat), dose(flat * scale)).pass_percent == passes


def test_a_shift_within_the_distance_passes_and_beyond_it_fails():
    # 5 Gy/mm: 2 % of the 240 Gy maximum is about 1 mm of travel, so that a shift of 2.1 mm has a gamma
    # of 2.1 / sqrt(2² + 0.96²) = 0.95 and one of 2.5 mm of 1.13, away from the ends.
    steep = ramp(5.0)
    for shift, share in ((2.1, 1.0), (2.5, 0.0)):
        got = gamma_pass(dose(steep), dose(steep, offset=(shift, 0.0, 0.0)))
        assert 1 - float(got.failed.data[0, 2:-2, 2:-2, 2:-2].float().mean()) == share


def test_points_under_the_cutoff_are_left_out():
    values = np.full((8, 8, 8), 5.0)
    values[2:6, 2:6, 2:6] = 100.0
    got = gamma_pass(dose(values), dose(np.where(values > 50, values, 0.0)), cutoff_percent=10.0)
    assert got.n_points == 64
    assert got.pass_percent == 100


def test_a_drawn_subset_is_the_same_for_the_same_seed():
    noise = ramp(0.5) + np.random.default_rng(0).normal(0, 1.2, (14, 8, 8))
    first, again, other = (
        gamma_pass(dose(ramp(0.5)), dose(noise), n_points=300, seed=seed) for seed in (1, 1, 2)
    )
    assert first.n_points == 300
    assert torch.equal(first.failed.data, again.failed.data)
    assert not torch.equal(first.failed.data, other.failed.data)


def test_a_turned_grid_of_the_same_dose_passes():
    values = ramp(0.5)
    turned = Volume(
        dose(values).data.flip(1),
        Grid((14, 8, 8), np.array([[-3.0, 0, 0, 39], [0, 3, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])),
        Quantity.DOSE,
    )
    assert gamma_pass(dose(values), turned).pass_percent == 100


def test_a_reference_without_dose_is_refused():
    with pytest.raises(ValueError, match="above the cutoff"):
        gamma_pass(dose(np.zeros((4, 4, 4))), dose(np.ones((4, 4, 4))))


def smooth(rng, shape, sigma=2.0):
    """Smooth noise between 0 and 1."""
    noise = gaussian_filter(rng.normal(size=shape), [sigma if n > 1 else 0 for n in shape], mode="wrap")
    return (noise - noise.min()) / (noise.max() - noise.min())


def pair(seed, shape):
    """Two smooth doses of up to 60 Gy that differ by up to 4.5 Gy."""
    rng = np.random.default_rng(seed)
    truth = 60 * smooth(rng, shape)
    return truth, truth + 9 * (smooth(rng, shape) - 0.5)


def theirs(reference, evaluated, criterion, max_gamma=2.0):
    """Gamma by pymedphys; NaN under the cutoff and where it finds nothing."""

    def axes(volume):
        grid, lengths = volume.grid, [n for n in volume.grid.shape if n > 1]
        every = [grid.affine[a, 3] + grid.spacing[a] * np.arange(n) for a, n in enumerate(grid.shape)]
        return tuple(a for a in every if len(a) > 1), volume.data.double().numpy().reshape(lengths)

    return pymedphys.gamma(
        *axes(reference),
        *axes(evaluated),
        criterion.dose_percent,
        criterion.distance_mm,
        lower_percent_dose_cutoff=criterion.cutoff_percent,
        interp_fraction=criterion.interp_fraction,
        max_gamma=max_gamma,
        local_gamma=criterion.local,
        ram_available=2**27,
        interp_algo="scipy",
    ).reshape(reference.grid.shape)


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("shape", [(20, 18, 16), (70, 60, 1), (400, 1, 1)])
def test_gamma_is_that_of_pymedphys(shape, local):
    reference, evaluated = (dose(values, 2.5) for values in pair(1, shape))
    criterion = Criterion(2.0, 3.0, 10.0, local)
    ours = gamma_map(reference, evaluated, criterion).numpy()
    expected = theirs(reference, evaluated, criterion)
    assert np.array_equal(np.isnan(ours), reference.data[0].numpy() < 6.0 * reference.data.numpy().max() / 60)
    # At the outermost centres rounding decides what pymedphys takes for outside.
    inner = tuple(slice(1, -1) if n > 1 else slice(None) for n in shape)
    wanted = ~np.isnan(ours[inner])
    assert 0.2 < (ours[inner][wanted] <= 1).mean() < 0.98
    assert ours[inner][wanted] == pytest.approx(expected[inner][wanted], abs=1e-3)
    passed = gamma_pass(reference, evaluated, 2.0, 3.0, 10.0, local=local)
    assert passed.pass_percent == pytest.approx(100 * np.mean(expected[~np.isnan(ours)] <= 1), abs=0.05)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (3.1, 1.7, 2.3)])
def test_gamma_between_unlike_grids_is_that_of_pymedphys(spacing):
    truth, other = pair(2, (13, 12, 11))
    reference = dose(truth, 2.5)
    shape = tuple(int(n * 2.5 / s) - 1 for n, s in zip(truth.shape, spacing, strict=True))
    grid = Grid(shape, np.array(np.diag([*spacing, 1.0])) + np.outer([1, 1, 1, 0], [0, 0, 0, 0.8]))
    evaluated = resample(dose(other, 2.5), grid)
    criterion = Criterion(3.0, 2.0)
    ours, expected = (
        gamma_map(reference, evaluated, criterion).numpy(),
        theirs(reference, evaluated, criterion),
    )
    wanted = ~np.isnan(ours)
    assert ours[wanted] == pytest.approx(np.nan_to_num(expected, nan=2.0)[wanted], abs=1e-3)


@pytest.mark.parametrize("distance", [0.5, 2.0, 5.0])
def test_a_flat_dose_scaled_by_the_criterion_has_gamma_1(distance):
    flat = np.full((6, 6, 6), 50.0)
    gamma = gamma_map(dose(flat), dose(flat * 1.03), Criterion(3.0, distance))
    assert gamma.numpy() == pytest.approx(1.0, abs=1e-5)


def test_local_gamma_of_a_scaled_dose_is_the_same_everywhere_and_global_gamma_follows_the_dose():
    # So short a distance that the ramp offers no other dose.
    truth = ramp(0.5)
    scaled = dose(truth * 1.01)
    local = gamma_map(dose(truth), scaled, Criterion(2.0, 1e-3, local=True))
    everywhere = gamma_map(dose(truth), scaled, Criterion(2.0, 1e-3))
    assert local.numpy() == pytest.approx(0.5, abs=1e-3)
    assert everywhere.numpy() == pytest.approx(0.5 * truth / truth.max(), abs=1e-3)


@pytest.mark.parametrize(
    ("shape", "axis"), [((24, 12, 12), 0), ((12, 24, 12), 1), ((24, 12, 1), 0), ((24, 1, 1), 0)]
)
@pytest.mark.parametrize("shift", [0.7, 1.6])
def test_a_shifted_ramp_has_the_gamma_of_a_plane(shape, axis, shift):
    # The nearest point of the plane ΔD = g (x - shift) in units of both criteria: g·shift/δ over the
    # length of its normal. Steps of a tenth miss it by at most half a step.
    slope, distance = 1.0, 2.0
    x = 2.0 * np.arange(24).reshape([-1 if a == axis else 1 for a in range(3)])
    reference = dose(np.broadcast_to(30 + slope * x, shape), 2.0)
    move = [shift if a == axis else 0.0 for a in range(3)]
    steep = slope * distance / (0.02 * 76.0)
    exact = steep * shift / distance / math.hypot(1, steep)
    gamma = gamma_map(reference, dose(reference.data[0].numpy(), 2.0, move), Criterion(2.0, distance))
    inner = gamma[tuple(slice(3, -3) if n > 1 else slice(None) for n in shape)].numpy()
    assert inner.min() >= exact - 1e-4
    assert inner.max() <= math.hypot(exact, 0.05 * math.hypot(1, steep)) + 1e-4


def test_beside_a_shifted_step_gamma_is_the_shift_over_the_distance():
    # A field's edge, as in Low et al. 1998: 100 Gy from the edge on, nothing before it, 0.1 mm voxels.
    step = np.where(np.arange(200) < 100, 0.0, 100.0)[:, None, None]
    gamma = gamma_map(dose(step, 0.1), dose(step, 0.1, (1.8, 0, 0)), Criterion(3.0, 3.0, interp_fraction=30))
    assert float(gamma[100, 0, 0]) == pytest.approx(0.6, abs=1e-3)
    assert float(gamma[109, 0, 0]) == pytest.approx(0.3, abs=1e-3)
    assert float(gamma[118:].max()) == 0


def test_gamma_does_not_depend_on_how_the_grids_are_turned():
    truth, other = pair(3, (14, 13, 12))
    reference, evaluated = dose(truth), dose(other)
    turned = Volume(
        evaluated.data.permute(0, 3, 1, 2).flip(1),
        Grid((12, 14, 13), np.array([[0.0, 3, 0, 0], [0, 0, 3, 0], [-3, 0, 0, 33], [0, 0, 0, 1]])),
        Quantity.DOSE,
    )
    criterion = Criterion(3.0, 3.0)
    straight, other_way = (gamma_map(reference, e, criterion) for e in (evaluated, turned))
    assert other_way.numpy() == pytest.approx(straight.numpy(), abs=1e-5, nan_ok=True)


def test_on_a_grid_turned_askew_a_linear_dose_is_found_again():
    # Trilinear interpolation is exact for a linear dose however the grid is turned.
    angle = np.radians(30)
    affine = np.array(
        [
            [2 * np.cos(angle), -2 * np.sin(angle), 0, -14],
            [2 * np.sin(angle), 2 * np.cos(angle), 0, -24],
            [0, 0, 2.2, -5],
            [0, 0, 0, 1],
        ]
    )
    grid = Grid((36, 30, 20), affine)

    def linear(grid):
        voxels = np.argwhere(np.ones(grid.shape)).astype(float)
        return (50 + positions(grid, voxels) @ [0.6, -0.3, 0.4]).reshape(grid.shape)

    reference = Grid((8, 8, 8), np.diag([3.0, 3.0, 3.0, 1.0]))
    truth = Volume(torch.from_numpy(linear(reference))[None], reference, Quantity.DOSE)
    same = Volume(torch.from_numpy(linear(grid))[None], grid, Quantity.DOSE)
    assert gamma_map(truth, same, Criterion(1.0, 1.0)).numpy() == pytest.approx(0, abs=1e-4)
    # A dose higher by a criterion, in a gradient of 0.78 Gy/mm.
    allowed = 0.02 * float(truth.data.max())
    above = Volume(same.data + allowed, grid, Quantity.DOSE)
    exact = 1 / math.hypot(1, 2 * math.sqrt(0.61) / allowed)
    gamma = gamma_map(truth, above, Criterion(2.0, 2.0))
    assert float(gamma.min()) >= exact - 1e-4
    assert float(gamma.max()) <= exact + 0.02


def test_one_plane_is_compared_with_a_volume_in_three_dimensions():
    # Along k the dose rises so fast that 1 mm undoes the difference; in the plane nothing does.
    values = np.broadcast_to(50 + 5.0 * np.arange(9), (9, 9, 9)).copy()
    plane = dose(values[:, :, 4:5] + 5.0, 1.0, (0, 0, 4))
    gamma = gamma_map(plane, dose(values, 1.0), Criterion(1.0, 2.0))
    assert gamma.shape == (9, 9, 1)
    assert float(gamma[4, 4, 0]) == pytest.approx(0.5, abs=1e-3)
    flat = dose(values[:, :, 4:5], 1.0, (0, 0, 4))
    assert float(gamma_map(plane, flat, Criterion(1.0, 2.0), max_gamma=10.0)[4, 4, 0]) == pytest.approx(
        5 / 0.75, abs=1e-3
    )


def test_points_without_evaluated_dose_within_reach_fail():
    flat = np.full((12, 6, 6), 50.0)
    got = gamma_pass(dose(flat, 1.0), dose(flat[:6], 1.0), 2.0, 2.0)
    failed = got.failed.data[0].any(dim=2).any(dim=1)
    assert failed.tolist() == [False] * 8 + [True] * 4
    gamma = gamma_map(dose(flat, 1.0), dose(flat[:6], 1.0), Criterion(2.0, 2.0), max_gamma=1.5)
    # Samples a tenth of the distance apart may miss the nearest point by one shell.
    exact = np.array([0] * 6 + [0.5, 1.0, 1.5, 1.5, 1.5, 1.5])
    late = gamma[:, 3, 3].numpy() - exact
    assert late.min() >= -1e-5
    assert late.max() <= 0.1 + 1e-5


def test_the_pass_rate_is_that_of_the_gamma_map():
    reference, evaluated = (dose(values) for values in pair(4, (16, 15, 14)))
    gamma = gamma_map(reference, evaluated, Criterion(2.0, 2.0))
    got = gamma_pass(reference, evaluated, 2.0, 2.0)
    assert torch.equal(got.failed.data[0] > 0, gamma > 1)
    assert got.n_points == int((~gamma.isnan()).sum())


def test_percentages_are_of_the_normalisation_dose():
    flat = np.full((5, 5, 5), 50.0)
    gamma = gamma_map(dose(flat), dose(flat + 1), Criterion(2.0, 2.0, 10.0, normalisation=100.0))
    assert gamma.numpy() == pytest.approx(0.5, abs=1e-5)
    with pytest.raises(ValueError, match="above the cutoff"):
        gamma_map(dose(flat), dose(flat), Criterion(2.0, 2.0, 60.0, normalisation=100.0))


def test_progress_rises_to_the_end_and_can_stop_the_search():
    reference, evaluated = (dose(values) for values in pair(5, (12, 12, 12)))
    shares = []
    gamma_map(reference, evaluated, Criterion(), progress=lambda _, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1

    def stop(step, share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gamma_map(reference, evaluated, Criterion(), progress=stop)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dose_percent": -2.0},
        {"distance_mm": 0.0},
        {"cutoff_percent": -1.0},
        {"dose_percent": math.nan},
        {"normalisation": 0.0},
        {"interp_fraction": 0},
        {"n_points": 0},
    ],
)
def test_numbers_that_mean_nothing_are_refused(wrong):
    flat = dose(np.full((4, 4, 4), 1.0))
    with pytest.raises(ValueError, match=r"^expected .* (above 0|0 % or more), got"):
        gamma_pass(flat, flat, **wrong)


def test_doses_that_cannot_be_compared_are_refused():
    flat = dose(np.full((4, 4, 4), 1.0))
    hole = np.full((4, 4, 4), 1.0)
    hole[1, 1, 1] = np.nan
    for one, other in ((flat, dose(hole)), (dose(hole), flat)):
        with pytest.raises(ValueError, match="expected finite values, got 1 NaN"):
            gamma_pass(one, other)
    there, here = (Volume(flat.data, flat.grid, Quantity.DOSE, frame) for frame in ("1.2", "1.3"))
    with pytest.raises(ValueError, match="one frame of reference, got two"):
        gamma_pass(there, here)
    assert gamma_pass(there, flat).pass_percent == 100
    with pytest.raises(ValueError, match="expected doses that overlap"):
        gamma_pass(flat, dose(np.full((4, 4, 4), 1.0), offset=(40.0, 0.0, 0.0)))
    with pytest.raises(ValueError, match="in the plane of the evaluated dose"):
        gamma_pass(flat, dose(np.full((4, 4, 1), 1.0)))
    with pytest.raises(ValueError, match="expected a greatest gamma above 0"):
        gamma_map(flat, flat, Criterion(), max_gamma=math.inf)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gamma_on_a_gpu_is_that_on_the_processor():
    reference, evaluated = (dose(values) for values in pair(6, (20, 20, 20)))
    for spacing in (3.0, 2.7):
        on_cpu = gamma_map(reference, dose(evaluated.data[0].numpy(), spacing), Criterion())
        moved = Volume(reference.data.cuda(), reference.grid, Quantity.DOSE)
        on_gpu = gamma_map(moved, dose(evaluated.data[0].numpy(), spacing), Criterion()).cpu()
        assert on_gpu.numpy() == pytest.approx(on_cpu.numpy(), abs=1e-3, nan_ok=True)


@pytest.mark.data
@pytest.mark.slow
def test_the_reference_pair_passes_as_published(data):
    pair = np.load(data / "planning/reference/gamma_pair.npz")
    reference, evaluated = (
        dose(pair[name] * float(pair[f"{name}_gy_per_unit"]), float(pair["spacing"]))
        for name in ("ref", "ev")
    )
    got = gamma_pass(reference, evaluated)
    assert got.n_points == 97435
    # 96.57 % by pymedphys 0.41, as the data's README says.
    assert got.pass_percent == pytest.approx(96.57, abs=0.01)
    assert gamma_pass(reference, evaluated, n_points=10_000).pass_percent == pytest.approx(96.57, abs=0.6)
