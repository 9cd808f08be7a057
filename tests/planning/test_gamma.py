import numpy as np
import pytest
import torch

from imaging.grid import Grid
from imaging.volume import Quantity, Volume
from planning.check.gamma import gamma_pass


def dose(values, spacing=3.0, offset=(0.0, 0.0, 0.0)):
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = offset
    data = torch.from_numpy(np.ascontiguousarray(values)).float()[None]
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
    assert got.pass_percent == pytest.approx(96.57, abs=0.01)
    assert gamma_pass(reference, evaluated, n_points=10_000).pass_percent == pytest.approx(96.57, abs=0.6)
