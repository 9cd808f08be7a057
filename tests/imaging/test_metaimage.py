"""MetaImage files against SimpleITK, which wrote them."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from imaging.grid import positions
from imaging.metaimage import read_mha
from imaging.volume import Quantity


def written(path: Path, dtype: type = np.int16) -> sitk.Image:
    image = sitk.GetImageFromArray(np.arange(4 * 3 * 2).reshape(4, 3, 2).astype(dtype))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((-10.0, 5.0, 7.0))
    image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path))
    return image


@pytest.mark.parametrize("kind", [Quantity.HU, Quantity.LABEL])
def test_values_lie_where_simpleitk_has_them(tmp_path: Path, kind: Quantity) -> None:
    image = written(tmp_path / "ct.mha")
    volume = read_mha(tmp_path / "ct.mha", kind)
    for index in [(0, 0, 0), (1, 2, 3), (1, 0, 2)]:
        assert float(volume.data[(0, *index)]) == image.GetPixel(*index)
        there = positions(volume.grid, np.array([index], dtype=np.float64))[0]
        assert np.allclose(there, image.TransformIndexToPhysicalPoint(index))
    assert volume.data.is_floating_point() == (kind is not Quantity.LABEL)


def test_a_header_that_names_another_file_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "ct.mhd")
    (tmp_path / "ct.mhd").rename(tmp_path / "ct.mha")  # its voxels lie in ct.raw
    with pytest.raises(ValueError, match="holds its own voxels"):
        read_mha(tmp_path / "ct.mha", Quantity.HU)


def test_damaged_files_and_fractions_as_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is none"):
        read_mha(tmp_path / "no.mha", Quantity.HU)
    (tmp_path / "text.mha").write_text("not an image")
    with pytest.raises(ValueError, match="does not read as MetaImage"):
        read_mha(tmp_path / "text.mha", Quantity.HU)
    written(tmp_path / "whole.mha")
    (tmp_path / "cut.mha").write_bytes((tmp_path / "whole.mha").read_bytes()[:-20])
    with pytest.raises(ValueError, match="damaged"):
        read_mha(tmp_path / "cut.mha", Quantity.HU)
    image = sitk.GetImageFromArray(np.full((2, 2, 2), 0.5, dtype=np.float32))
    sitk.WriteImage(image, str(tmp_path / "half.mha"))
    with pytest.raises(ValueError, match="whole numbers"):
        read_mha(tmp_path / "half.mha", Quantity.LABEL)
