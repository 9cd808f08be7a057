"""Displacement fields in NIfTI files: three numbers a voxel, turned into LPS as the file's intent says.

The NIfTI-1 standard keeps vectors along the fifth axis. Which way they point is a convention: ITK, and ANTs
with it, writes LPS vectors with the intent VECTOR (1007) and takes those of DISPVECT (1006) as RAS, like the
file's affine (itkNiftiImageIO, ConvertRASVectors and ConvertRASDisplacementVectors). A file that has neither
intent does not say, and is refused.
"""

import contextlib
import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float32
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from .atomic import whole_file
from .grid import Grid
from .volume import Quantity, Volume, expect_finite

_UNREADABLE = (ImageFileError, HeaderDataError, EOFError, OSError, zlib.error, ValueError)
_LPS, _RAS = 1007, 1006  # intents VECTOR and DISPVECT
_GZIP_LEVEL = 4
_TURN = {_LPS: (1.0, 1.0, 1.0), _RAS: (-1.0, -1.0, 1.0)}


def read_displacement(path: Path) -> Volume:
    """The displacement (mm, LPS) in a NIfTI file, shape ``(3, i, j, k)``.

    Parameters
    ----------
    path
        The file, ``.nii`` or ``.nii.gz``.

    Raises
    ------
    ValueError
        If the file cannot be read, does not hold one vector of three finite numbers a voxel, does not say
        which way vectors point, or does not say in mm where it lies.
    """
    image = _opened(path)
    shape = tuple(int(n) for n in image.shape)
    if (len(shape) != 5 or shape[3] != 1 or shape[4] != 3) and (len(shape) != 4 or shape[3] != 3):
        raise ValueError(
            "expected a displacement field of three numbers a voxel, got an image of "
            f"{' x '.join(map(str, shape))}; give x, y and z along the fifth axis"
        )
    intent = int(image.header["intent_code"])
    if intent not in _TURN:
        raise ValueError(
            "expected a displacement field whose intent says which way its vectors point "
            f"(1007: LPS, as ITK writes; 1006: RAS), got {intent}; set the intent"
        )
    turned = np.moveaxis(_values(image) * np.array(_TURN[intent], dtype=np.float32), -1, 0)
    return expect_finite(Volume(torch.from_numpy(turned.copy()), _grid(image), Quantity.DISPLACEMENT))


def write_displacement(volume: Volume, path: Path) -> None:
    """A displacement (mm, LPS) as a NIfTI-1 file (``.nii.gz``) of ITK's intent VECTOR, whole or not at all.

    The same field gives the same bytes every time.

    Raises
    ------
    ValueError
        If the volume is no displacement of three components, or the name is not that of a NIfTI file.
    """
    volume.expect(Quantity.DISPLACEMENT)
    if volume.data.shape[0] != 3:
        raise ValueError(f"expected a displacement of 3 components, got {volume.data.shape[0]}")
    if not path.name.endswith(".nii.gz"):
        raise ValueError("expected a file name that ends in .nii.gz")
    vectors = volume.data.detach().cpu().float().permute(1, 2, 3, 0)[:, :, :, None].numpy()
    image = nib.Nifti1Image(vectors, np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.grid.affine)
    image.set_sform(image.affine, code="scanner")
    image.set_qform(image.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header["intent_code"] = _LPS
    with (
        whole_file(path) as part,
        part.open("wb") as file,
        gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as zipped,
    ):
        zipped.write(image.to_bytes())


def _grid(image: nib.Nifti1Image) -> Grid:
    """Where the voxels lie, in LPS."""
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
    i, j, k = (int(n) for n in image.shape[:3])
    return Grid((i, j, k), np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine.astype(np.float64))


def _opened(path: Path) -> nib.Nifti1Image:
    if not path.is_file():
        raise ValueError("expected a NIfTI file, got a path where there is none; check the path")
    try:
        image = nib.load(path)
    except _UNREADABLE:
        raise ValueError("expected a NIfTI file, got one that does not read as NIfTI") from None
    if not isinstance(image, nib.Nifti1Image):
        raise ValueError(f"expected a NIfTI file, got {type(image).__name__}; convert it first")  # noqa: TRY004
    return image


def _values(image: nib.Nifti1Image) -> Float32[np.ndarray, "i j k 3"]:
    try:
        values = np.asanyarray(image.dataobj)
    except _UNREADABLE:
        raise ValueError("expected a whole NIfTI file, got a truncated or damaged one") from None
    return np.asarray(values.reshape(*values.shape[:3], 3), dtype=np.float32)
