"""SimpleITK's order against its own index-to-point mapping."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from imaging.grid import Grid, close, positions
from imaging.sitk import from_sitk, to_sitk
from imaging.volume import Quantity, Volume


def _oblique() -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [10, -20, 35], degrees=True).as_matrix() * [0.9, 1.1, 2.5]
    affine[:3, 3] = [-31.0, 12.5, 77.25]
    return Grid((4, 5, 6), affine)


def _numbered(grid: Grid, dtype: torch.dtype = torch.float32) -> Volume:
    return Volume(torch.arange(int(np.prod(grid.shape))).reshape(1, *grid.shape).to(dtype), grid, Quantity.MR)


def test_every_voxel_keeps_its_value_and_its_position():
    volume = _numbered(_oblique())
    image = to_sitk(volume)
    assert image.GetSize() == (4, 5, 6)
    for index in ((0, 0, 0), (3, 0, 0), (0, 4, 0), (0, 0, 5), (2, 3, 4)):
        assert image.GetPixel(index) == volume.data[0][index]
        ours = positions(volume.grid, np.array([index], dtype=np.float64))[0]
        assert image.TransformIndexToPhysicalPoint(index) == pytest.approx(ours, abs=1e-9)


def test_round_trip_keeps_values_and_geometry():
    volume = _numbered(_oblique(), torch.int16)
    back = from_sitk(to_sitk(volume), Quantity.LABEL, "1.2.3")
    assert torch.equal(back.data, volume.data)
    assert back.data.dtype == torch.int16
    assert close(back.grid, volume.grid, 1e-9)
    assert (back.quantity, back.frame) == (Quantity.LABEL, "1.2.3")


def test_left_handed_grids_are_kept():
    grid = Grid((2, 3, 4), np.diag([-1.0, 1.0, 1.0, 1.0]))
    assert close(from_sitk(to_sitk(_numbered(grid)), Quantity.MR).grid, grid, 1e-9)


def test_masks_travel_as_bytes_and_words_are_widened():
    grid = _oblique()
    mask = Volume(torch.ones((1, *grid.shape), dtype=torch.bool), grid, Quantity.LABEL)
    assert to_sitk(mask).GetPixelID() == sitk.sitkUInt8
    words = sitk.GetImageFromArray(np.full((2, 2, 2), 65535, dtype=np.uint16))
    assert int(from_sitk(words, Quantity.LABEL).data.max()) == 65535


def test_many_channels_and_colours_are_refused():
    grid = _oblique()
    with pytest.raises(ValueError, match="one channel, got 2"):
        to_sitk(Volume(torch.zeros((2, *grid.shape)), grid, Quantity.MR))
    with pytest.raises(ValueError, match="3 components"):
        from_sitk(sitk.Image([2, 2, 2], sitk.sitkVectorUInt8, 3), Quantity.MR)
