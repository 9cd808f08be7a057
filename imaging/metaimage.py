"""MetaImage files of one piece (``.mha``) as volumes, as SynthRAD 2025 keeps its scans.

The format is ITK's (itk.org/Wiki/ITK/MetaIO/Documentation); positions are LPS mm. A header may name another
file that holds the voxels: a file from elsewhere could so name any file of this machine, so only those with
the voxels inside are read.
"""

from pathlib import Path

import SimpleITK as sitk
import torch

from .sitk import from_sitk
from .volume import Quantity, Volume, expect_finite

_LONGEST_HEADER = 1 << 16
_LAST_KEY = b"ElementDataFile"  # what a header ends with


def read_mha(path: Path, quantity: Quantity) -> Volume:
    """The volume in a MetaImage file (``.mha``).

    Labels stay whole numbers; everything else becomes ``float32``.

    Parameters
    ----------
    path
        The file.
    quantity
        What its values mean, which the format cannot say.

    Raises
    ------
    ValueError
        If the file cannot be read whole, keeps its voxels elsewhere, does not hold one volume of three
        dimensions, or holds NaN, infinite values or labels with fractions.
    """
    if not path.is_file():
        raise ValueError("expected a MetaImage file, got a path where there is none; check the path")
    _expect_voxels_inside(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("MetaImageIO")
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError:
        raise ValueError("expected a whole MetaImage file, got a truncated or damaged one") from None
    meant = Quantity.MR if quantity is Quantity.LABEL else quantity
    volume = expect_finite(from_sitk(image, meant))
    data = volume.data
    if quantity is not Quantity.LABEL:
        return Volume(data.float(), volume.grid, quantity)
    if data.is_floating_point():
        if bool((data != data.round()).any()):
            raise ValueError("expected labels as whole numbers, got fractions; threshold the mask first")
        data = data.to(torch.int32)
    return Volume(data, volume.grid, quantity)


def _expect_voxels_inside(path: Path) -> None:
    with path.open("rb") as file:
        lines = file.read(_LONGEST_HEADER).split(b"\n")
    for line in lines:
        key, _, value = line.partition(b"=")
        if key.strip() == _LAST_KEY:
            if value.strip() == b"LOCAL":
                return
            raise ValueError(
                "expected a MetaImage file that holds its own voxels, got one that names another file; "
                "write it as one .mha"
            )
    raise ValueError("expected a MetaImage file, got one that does not read as MetaImage")
