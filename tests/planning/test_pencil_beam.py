import numpy as np
import pytest
import torch

from planning.dose.pencil_beam import RESOLUTION, depth_factors, lateral_tables
from planning.machine import PencilBeam, load_machine

BEAM = load_machine("generic-6mv").beam


def _beam(kernel):
    kernels = np.tile(kernel, (1, 3, 1)).astype(np.float64)
    radius = np.arange(kernel.shape[-1]) * RESOLUTION
    return PencilBeam(0.005, np.array([0.3, 0.02, 0.01]), np.array([900.0]), radius, kernels, np.full(2, 5.0))


def test_depth_factors_have_the_published_closed_form():
    depth = torch.tensor([0.0, 15.0, 100.0])
    m, beta = BEAM.attenuation, BEAM.betas[0]
    expected = beta / (beta - m) * (np.exp(-m * depth.numpy()) - np.exp(-beta * depth.numpy()))
    np.testing.assert_allclose(depth_factors(BEAM, depth)[0], expected, rtol=1e-5)


def test_no_dose_at_the_surface_and_an_exponential_tail_behind_build_up():
    factors = depth_factors(BEAM, torch.tensor([0.0, 200.0, 300.0]))
    assert factors[:, 0].abs().max() == 0
    assert float(factors[0, 2] / factors[0, 1]) == pytest.approx(np.exp(-BEAM.attenuation * 100), rel=1e-4)


def test_a_point_kernel_leaves_the_blurred_bixel_itself():
    kernel = np.zeros(300)
    kernel[0] = 1 / RESOLUTION**2
    table = lateral_tables(_beam(kernel), 900.0, (5.0, 5.0), 20.0)[0]
    # Area under a whole table: four quadrants, axes counted once.
    area = 4 * table.sum() - 2 * table[0].sum() - 2 * table[:, 0].sum() + table[0, 0]
    assert float(area) * RESOLUTION**2 == pytest.approx(25.0, rel=1e-5)
    # A Gaussian source of 5 mm through a bixel of 5 mm: erf closed form on the axis.
    from scipy.special import erf

    edge = erf(2.5 / (np.sqrt(2) * 5 / np.sqrt(8 * np.log(2))))
    assert float(table[0, 0]) == pytest.approx(edge**2, rel=1e-5)


def test_neighbouring_bixels_add_up_to_a_wide_one():
    wide = lateral_tables(BEAM, 900.0, (10.0, 5.0), 30.0)
    narrow = lateral_tables(BEAM, 900.0, (5.0, 5.0), 40.0)
    offset = int(2.5 / RESOLUTION)
    n = wide.shape[1] - 10
    both = narrow[:, offset : n + offset] + narrow[:, torch.arange(n).sub(offset).abs()]
    torch.testing.assert_close(both[:, :, :n], wide[:, :n, :n], atol=1e-5, rtol=1e-4)


def test_a_square_bixel_is_the_same_along_x_and_y():
    table = lateral_tables(BEAM, 900.0, (5.0, 5.0), 50.0)
    torch.testing.assert_close(table, table.transpose(1, 2))


@pytest.mark.parametrize("ssd", [450.0, 1020.0])
def test_a_surface_without_kernels_is_refused(ssd):
    with pytest.raises(ValueError, match="source to surface distance of 500-1000 mm"):
        lateral_tables(BEAM, ssd, (5.0, 5.0), 50.0)
