"""Losses of dose predictors against closed forms and NumPy's percentiles."""

import numpy as np
import pytest
import torch

from planning.predict.loss import counted_error, dose_error, histogram_error, metric_of, structure_error
from planning.predict.site import read_site

SITE = read_site("openkbp")
SHAPE = (1, 1, 8, 8, 8)
COUNTS = SITE.target_counts
VOXEL = torch.tensor([40.0])


def doses(seed: int = 0) -> torch.Tensor:
    return 70 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))


def bits() -> torch.Tensor:
    out = torch.zeros(1, 8, 8, 8, dtype=torch.int64)
    out[:, :4] = 1  # PTV70
    out[:, 3:6, :5] |= 1 << [d.name for d in SITE.structures].index("SpinalCord")
    return out


def test_the_truth_has_no_error_and_a_gray_more_has_one_gray() -> None:
    truth, known = doses(), torch.ones(SHAPE, dtype=torch.bool)
    for shift in (0.0, 1.0, -1.0):
        assert float(dose_error(truth + shift, truth, known)) == pytest.approx(abs(shift), abs=1e-5)
        off = histogram_error(truth + shift, truth, bits(), SITE, VOXEL)
        assert float(off) == pytest.approx(abs(shift), abs=1e-5)
        off = counted_error(truth + shift, truth, bits(), SITE, VOXEL)
        assert float(off) == pytest.approx(abs(shift), abs=1e-5)


def test_voxels_where_no_dose_may_be_do_not_count() -> None:
    truth, known = doses(), torch.ones(SHAPE, dtype=torch.bool)
    known[..., 4:] = False
    wrong = truth.clone()
    wrong[..., 4:] += 30
    assert float(dose_error(wrong, truth, known)) == 0.0


def test_histograms_do_not_see_where_dose_lies() -> None:
    values = doses()[0, 0].flatten()
    moved = values[torch.randperm(len(values), generator=torch.Generator().manual_seed(1))]
    assert float(structure_error(moved, values, COUNTS, 40.0)) == pytest.approx(0.0, abs=1e-5)


def test_the_area_between_histograms_is_that_of_cumulative_curves() -> None:
    one, other = doses(1)[0, 0].flatten(), 0.8 * doses(2)[0, 0].flatten()
    levels = np.linspace(0, 75, 20_001)
    curves = [(v.numpy()[:, None] > levels).mean(axis=0) for v in (one, other)]
    area = np.trapezoid(np.abs(curves[0] - curves[1]), levels)
    means = abs(float(one.mean()) - float(other.mean()))
    assert float(structure_error(one, other, ("Dmean",), 40.0)) == pytest.approx((area + means) / 2, abs=0.01)


@pytest.mark.parametrize(("metric", "percentile"), [("D99%", 1), ("D95%", 5), ("D1%", 99), ("D50%", 50)])
def test_metrics_are_numpys_percentiles(metric: str, percentile: float) -> None:
    rising = doses()[0, 0].flatten()[:333].sort().values
    expected = np.percentile(rising.numpy(), percentile)
    assert float(metric_of(rising, metric, 40.0)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("voxel_mm3", "hottest"), [(40.0, 2), (300.0, 1), (10.0, 10)])
def test_the_dose_of_a_tenth_of_a_cubic_centimetre_is_openkbps(voxel_mm3: float, hottest: int) -> None:
    rising = doses()[0, 0].flatten()[:200].sort().values
    expected = np.percentile(rising.numpy(), 100 - 100 * hottest / 200)
    assert float(metric_of(rising, "D0.1cc", voxel_mm3)) == pytest.approx(expected, abs=1e-3)


def test_the_loss_pulls_a_histogram_towards_the_wanted_one() -> None:
    truth = doses()
    dose = (0.5 * truth + 10).requires_grad_()
    before = histogram_error(dose, truth, bits(), SITE, VOXEL)
    (slope,) = torch.autograd.grad(before, dose)
    before = before.detach()
    after = histogram_error(dose.detach() - 40 * slope, truth, bits(), SITE, VOXEL)
    assert float(after) < float(before)
    assert float(slope[0, 0, 7].abs().max()) == 0.0  # no structure there


def test_patients_without_structures_have_no_histogram_error() -> None:
    dose = doses().requires_grad_()
    none = histogram_error(dose, doses(3), torch.zeros(1, 8, 8, 8, dtype=torch.int64), SITE, VOXEL)
    assert float(none.detach()) == 0.0
