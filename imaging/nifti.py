"""NIfTI files as volumes and back: the one place that turns RAS into LPS.

Follows the NIfTI-1 standard (Cox et al., 2004): the sform places the voxels where there is one,
the qform otherwise. A file that has neither does not say where the patient is, so it is refused.
"""

import contextlib
import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from .atomic import whole_file
from .grid import Grid
from .shapes import Voxels
from .volume import Quantity, Volume, expect_finite

# Flipping x and y turns RAS into LPS and LPS into RAS; it changes signs and nothing else.
_FLIP = np.array([[-1.0], [-1.0], [1.0], [1.0]])
_UNREADABLE = (ImageFileError, HeaderDataError, EOFError, OSError, zlib.error, ValueError)
_STORED = {
    torch.bool: torch.uint8,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float64: torch.float32,
    torch.int64: torch.int32,
}
_GZIP_LEVEL = 4


def read_nifti(path: Path, quantity: Quantity) -> Volume:
    """The volume in a NIfTI file (``.nii`` or ``.nii.gz``).

    Labels stay whole numbers; everything else becomes ``float32``, scaled as the header says.

    Parameters
    ----------
    path
        The file.
    quantity
        What its values mean, which NIfTI cannot say.

    Raises
    ------
    ValueError
        If the file cannot be read whole, holds more or less than one volume of three dimensions
        in mm, does not say where it lies, is sheared, holds NaN or infinite values, or holds
        labels that are not whole numbers.
    """
    if not path.is_file():
        raise ValueError("expected a NIfTI file, got a path where there is none; check the path")
    try:
        image = nib.load(path)
    except _UNREADABLE:
        raise ValueError("expected a NIfTI file, got one that does not read as NIfTI") from None
    if not isinstance(image, nib.Nifti1Image):
        raise ValueError(f"expected a NIfTI file, got {type(image).__name__}; convert it first")  # noqa: TRY004
    shape = _shape(image)
    _expect_placed(image)
    grid = Grid(shape, image.affine.astype(np.float64) * _FLIP)
    try:
        values = np.asanyarray(image.dataobj).reshape(shape)
    except _UNREADABLE:
        raise ValueError("expected a whole NIfTI file, got a truncated or damaged one") from None
    return expect_finite(Volume(_tensor(values, quantity), grid, quantity))


def write_nifti(volume: Volume, path: Path, description: str = "") -> None:
    """A volume as a NIfTI-1 file (``.nii`` or ``.nii.gz``), written whole or not at all.

    The same volume gives the same bytes every time. Masks become ``uint8``; ``float32`` is the
    widest number with a fraction. The affine is kept as ``float32``, as the format has it. The header's
    ``descrip`` keeps 79 characters of ``description``.

    Raises
    ------
    ValueError
        If the volume has more than one channel, or the name is not that of a NIfTI file.
    """
    if volume.data.shape[0] != 1:
        raise ValueError(f"expected a volume of one channel, got {volume.data.shape[0]}; write one at a time")
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError("expected a file name that ends in .nii or .nii.gz")
    data = volume.data[0].detach().cpu()
    array = data.to(_STORED.get(data.dtype, data.dtype)).numpy()
    image = nib.Nifti1Image(array, volume.grid.affine * _FLIP)
    image.set_sform(image.affine, code="scanner")
    image.set_qform(image.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode()[:79]
    content = image.to_bytes()
    with whole_file(path) as part, part.open("wb") as file:
        if path.name.endswith(".gz"):
            # Neither a name nor a time in gzip's header: equal volumes give equal bytes.
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as zipped:
                zipped.write(content)
        else:
            file.write(content)


def _shape(image: nib.Nifti1Image) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in image.shape)
    if len(shape) > 3 and max(shape[3:]) > 1:
        raise ValueError(
            f"expected one volume of 3 dimensions, got {len(shape)} dimensions "
            f"({' x '.join(map(str, shape))}); extract the volume that you mean"
        )
    if len(shape) < 3:
        raise ValueError(f"expected a volume of 3 dimensions, got {len(shape)}")
    return shape[0], shape[1], shape[2]


def _expect_placed(image: nib.Nifti1Image) -> None:
    unit = "unknown"
    with contextlib.suppress(KeyError):
        unit = image.header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise ValueError(f"expected a NIfTI file in mm, got {unit}; write its affine in mm")
    if image.header["sform_code"] <= 0 and image.header["qform_code"] <= 0:
        raise ValueError(
            "expected a NIfTI file whose sform or qform says where it lies, got neither; "
            "set one after checking left and right"
        )


def _tensor(values: np.ndarray, quantity: Quantity) -> Voxels:
    if values.dtype.kind not in "iufb":
        raise ValueError(f"expected one number per voxel, got {values.dtype}; convert the file to numbers")
    if quantity is not Quantity.LABEL:
        with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused as such
            return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None]
    if values.dtype.kind == "f":
        whole = np.isfinite(values).all() and np.array_equal(values, np.rint(values))
        if not whole or np.abs(values).max() > np.iinfo(np.int32).max:
            raise ValueError("expected labels as whole numbers, got fractions; threshold the mask first")
        values = values.astype(np.int32)
    wider = {"u2": np.int32, "u4": np.int64, "u8": np.int64}
    kept = wider.get(values.dtype.str[1:], values.dtype.newbyteorder("="))
    return torch.from_numpy(np.ascontiguousarray(values, dtype=kept))[None]
