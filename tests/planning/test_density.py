import numpy as np
import pytest
import torch

from imaging.grid import Grid, axial, corners
from imaging.volume import Quantity, Volume
from planning.density import HU_TABLE, covering, relative_electron_density

GRID = Grid((2, 2, 2), np.eye(4))


def _ct(values):
    return Volume(torch.tensor(values, dtype=torch.float32).reshape(1, 2, 2, 2), GRID, Quantity.HU)


def test_the_table_is_met_at_its_points_and_halfway_between():
    hu = [-999.0, -90.0, 0.0, 3000.0, -22.5, 50.0, 225.0, 5000.0]
    expected = [0.001, 0.95, 1.0, 2.505, 0.995, 1.0475, 1.147, 2.505]
    density = relative_electron_density(_ct(hu))
    assert density.quantity is Quantity.DENSITY
    np.testing.assert_allclose(density.data.flatten(), expected, rtol=1e-6)


def test_density_rises_with_hounsfield_units():
    assert (np.diff(np.array(HU_TABLE), axis=0) >= 0).all()


def test_nothing_outside_the_body_has_density():
    body = torch.zeros(GRID.shape, dtype=torch.bool)
    body[0] = True
    density = relative_electron_density(_ct([0.0] * 8), body)
    assert density.data[0, 0].min() == 1
    assert density.data[0, 1].max() == 0


def test_nan_empty_body_and_other_quantities_are_refused():
    with pytest.raises(ValueError, match="finite"):
        relative_electron_density(_ct([float("nan")] * 8))
    with pytest.raises(ValueError, match="empty one"):
        relative_electron_density(_ct([0.0] * 8), torch.zeros(GRID.shape, dtype=torch.bool))
    with pytest.raises(ValueError, match="expected a volume in HU"):
        relative_electron_density(Volume(torch.zeros(1, 2, 2, 2), GRID, Quantity.DOSE))


def test_a_cropped_lattice_grows_over_all_tissue_and_keeps_its_voxels():
    whole = axial(np.array([-100.0, -90.0, -80.0]), np.array([100.0, 90.0, 80.0]), (1.0, 1.0, 2.0))
    crop = axial(np.array([-20.0, -31.0, -10.0]), np.array([20.0, 31.0, 14.0]), (3.0, 3.0, 3.0))
    grown = covering(crop, whole)
    assert (corners(grown).min(axis=0) <= corners(whole).min(axis=0) + 0.1).all()
    assert (corners(grown).max(axis=0) >= corners(whole).max(axis=0) - 0.1).all()
    assert (corners(grown).min(axis=0) > corners(whole).min(axis=0) - 3).all()
    offset = (crop.affine[:3, 3] - grown.affine[:3, 3]) / 3
    np.testing.assert_allclose(offset, np.rint(offset), atol=1e-9)


def test_a_lattice_that_already_fits_stays():
    grid = axial(np.zeros(3), np.array([30.0, 30.0, 30.0]), (3.0, 3.0, 3.0))
    assert covering(grid, grid) == grid
