"""Volumes made small enough to travel inside a web page."""

import base64
import gzip
import tempfile
from pathlib import Path

import numpy as np
import torch

from imaging.grid import Grid, around, axial
from imaging.nifti import write_nifti
from imaging.planes import extent
from imaging.resample import resample
from imaging.shapes import Mask
from imaging.show import window
from imaging.structures import StructureSet
from imaging.volume import Quantity, Volume

_MAX_VOXELS = 1_600_000
_DOSE_STEP_GY = 0.01
_MASKS_PER_WORD = 8

Entry = dict[str, object]


def page_grid(structures: StructureSet, scan: Volume, max_voxels: int = _MAX_VOXELS) -> Grid:
    """The upright grid that a page shows: the structures' own spacing where that is few enough voxels.

    Parameters
    ----------
    structures
        Whose spacing is kept, and whose external contour is framed.
    scan
        Shown whole where there is no external contour.
    max_voxels
        Above this the voxels grow alike along all axes.
    """
    low, high = extent(scan, structures)
    own = structures.grid
    upright = np.array_equal(own.affine[:3, :3], np.diag(own.spacing))
    spacing = own.spacing if upright else np.full(3, own.spacing.min())
    growth = max(1.0, float(np.prod((high - low) / spacing) / max_voxels) ** (1 / 3))
    step = (float(spacing[0]) * growth, float(spacing[1]) * growth, float(spacing[2]) * growth)
    if not upright or growth > 1:
        return axial(low, high, step)
    # Voxels that are kept stay where they are, so that nothing is interpolated.
    whole = around(own, step)
    first = np.clip(np.floor((low - whole.affine[:3, 3]) / spacing), 0, None)
    last = np.minimum(np.ceil((high - whole.affine[:3, 3]) / spacing), np.array(whole.shape) - 1)
    affine = whole.affine.copy()
    affine[:3, 3] += first * spacing
    n = (last - first + 1).astype(int)
    return Grid((int(n[0]), int(n[1]), int(n[2])), affine)


def encode_volume(name: str, volume: Volume, grid: Grid) -> Entry:
    """A volume on the page's grid as whole numbers in a base64 NIfTI, with what one step stands for.

    HU keep steps of 1, dose steps of 0.01 Gy; an MR signal, whose unit is arbitrary, has 255 steps
    between 0 and somewhat above its window.
    """
    black, white = window(volume)
    values = resample(Volume(volume.data[:1], volume.grid, volume.quantity), grid).data
    if volume.quantity is Quantity.HU:
        step, codes = 1.0, values.round().clamp(-1024, 3071).to(torch.int16)
    elif volume.quantity is Quantity.DOSE:
        step, codes = _DOSE_STEP_GY, (values / _DOSE_STEP_GY).round().clamp(0, 32767).to(torch.int16)
    else:
        step = max(white, 1e-6) * 1.2 / 255
        codes = (values / step).round().clamp(0, 255).to(torch.uint8)
    return {
        "name": name,
        "quantity": volume.quantity.value,
        "step": step,
        "window": [black, white],
        "nifti": _base64(_nifti(Volume(codes, grid, Quantity.LABEL))),
    }


def encode_masks(masks: list[Mask]) -> list[str]:
    """Masks on the page's grid, eight to a byte: base64 gzip of bytes, i fastest, then j, then k."""
    words = []
    for first in range(0, len(masks), _MASKS_PER_WORD):
        word = torch.zeros(masks[first].shape, dtype=torch.uint8)
        for bit, mask in enumerate(masks[first : first + _MASKS_PER_WORD]):
            word |= mask.to(torch.uint8) << bit
        words.append(_base64(gzip.compress(word.numpy().tobytes(order="F"), 9, mtime=0)))
    return words


def _nifti(codes: Volume) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.nii"
        write_nifti(codes, path)
        return gzip.compress(path.read_bytes(), 6, mtime=0)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
