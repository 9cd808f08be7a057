"""Intensities of an MRI: bias field, head mask, normalisation."""

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from .grid import around
from .resample import resample
from .sitk import from_sitk, to_sitk
from .volume import Quantity, Volume, expect_finite

_BIAS_MM = 4.0
_MASK_MM = 2.0
_CLOSE_MM = 12.0
# A brain without skull and scalp has 1000 to 1900 cm³, a head from vertex to eyes 2500 and more.
_SMALLEST_HEAD_CC = 2000.0


def correct_bias(mr: Volume, head: Volume) -> Volume:
    """An MRI without its slowly varying bias field.

    N4 (Tustison et al., IEEE Trans. Med. Imaging 29, 1310 (2010)) on a copy of 4 mm voxels:
    the field is smooth, so nothing is lost and a head takes seconds. N4 runs on one thread,
    so that the result is the same at every run.

    Parameters
    ----------
    mr
        One channel of MR signal, shape ``(1, i, j, k)``.
    head
        Label 1 inside the head, on any grid.

    Raises
    ------
    ValueError
        If the volume is not MR signal or not finite.
    """
    expect_finite(mr.expect(Quantity.MR))
    grid = around(mr.grid, (_BIAS_MM,) * 3)
    small = Volume(resample(mr, grid).data.clamp(min=0), grid, Quantity.MR)
    mask = Volume(resample(head, grid).data.to(torch.uint8), grid, Quantity.LABEL)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)
    n4.SetMaximumNumberOfIterations([50, 50, 50])
    n4.SetNumberOfControlPoints([4, 4, 4])
    n4.Execute(to_sitk(small), to_sitk(mask))
    log_field = from_sitk(n4.GetLogBiasFieldAsImage(to_sitk(small)), Quantity.MR)
    inside = mask.data > 0
    # Outside the head the splines are free: there, the nearest value of the head holds.
    nearest = ndimage.distance_transform_edt(~inside[0].numpy(), return_distances=False, return_indices=True)
    held = torch.from_numpy(log_field.data[0].numpy()[tuple(nearest)])[None]
    held = held - held[inside].mean()
    field = torch.exp(resample(Volume(held, grid, Quantity.MR), mr.grid).data)
    return Volume(mr.data.float() / field.clamp(min=1e-3), mr.grid, Quantity.MR, mr.frame)


def head_mask(mr: Volume) -> Volume:
    """The head in an MRI of any contrast: label 1 inside the skin, air cavities included.

    Otsu's threshold (IEEE Trans. Syst. Man Cybern. 9, 62 (1979)) finds the tissue, a tenth of the
    way from background to tissue finds its skin; the largest connected piece is closed, and its
    holes are filled slice by slice in all three planes, so that cavities that open at the edge
    of the scan belong to the head as well.

    Parameters
    ----------
    mr
        One channel of MR signal, shape ``(1, i, j, k)``; any orientation and spacing.

    Raises
    ------
    ValueError
        If the volume is not MR signal, not finite, or shows no head.
    """
    expect_finite(mr.expect(Quantity.MR))
    if float(mr.data.min()) == float(mr.data.max()):
        raise ValueError("expected an MRI of a head, got one value everywhere; check the scan's export")
    grid = around(mr.grid, (_MASK_MM,) * 3)
    signal = resample(mr, grid).data[0].numpy()
    seen = (
        resample(Volume(torch.ones_like(mr.data), mr.grid, Quantity.PROBABILITY), grid).data[0].numpy() > 0.5
    )
    tissue = _largest(ndimage.binary_opening(_above_background(signal, seen)))
    mask = _filled(_closed(tissue, seen), seen)
    volume_cc = mask.sum() * grid.voxel_volume / 1000
    if volume_cc < _SMALLEST_HEAD_CC:
        raise ValueError(
            f"expected an MRI of a whole head with skull and skin, found {volume_cc:.0f} cm³ of tissue, "
            "as in a skull-stripped or partial scan; pass the scan as it came from the scanner"
        )
    share = Volume(torch.from_numpy(mask)[None].float(), grid, Quantity.PROBABILITY)
    inside = resample(share, mr.grid).data >= 0.5
    return Volume(inside.to(torch.uint8), mr.grid, Quantity.LABEL, mr.frame)


def normalise(mr: Volume, head: Volume) -> Volume:
    """An MRI scaled so that the head's 1st and 99th percentile become 0 and 1, clipped at 0 and 1.5.

    Parameters
    ----------
    mr
        One channel of MR signal.
    head
        Label 1 inside the head, on the same grid.
    """
    mr.expect(Quantity.MR)
    values = mr.data[head.data > 0].float().numpy()
    if not values.size:
        raise ValueError("expected a head mask with voxels inside, got an empty one")
    low, high = np.percentile(values, [1, 99])
    scaled = ((mr.data.float() - float(low)) / max(float(high - low), 1e-6)).clamp(0, 1.5)
    return Volume(scaled, mr.grid, Quantity.MR, mr.frame)


def _above_background(signal: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Voxels brighter than the air around the head."""
    smooth = ndimage.gaussian_filter(signal, 0.7)
    values = smooth[seen]
    values = np.clip(values, None, np.percentile(values, 98))
    split = _otsu(values)
    background, tissue = values[values < split], values[values >= split]
    air, noise = np.median(background), 1.4826 * np.median(np.abs(background - np.median(background)))
    level = max(air + 0.25 * (np.median(tissue) - air), min(air + 4 * noise, split))
    return (smooth > level) & seen


def _otsu(values: np.ndarray) -> float:
    """Threshold that splits values into two classes of the least spread."""
    counts, edges = np.histogram(values, 256)
    middle = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    mass = np.cumsum(counts * middle)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    return float(middle[np.nanargmax(between)])


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece."""
    pieces, n = ndimage.label(mask)
    if n == 0:
        return mask
    return pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))


def _closed(mask: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The mask with gaps up to 24 mm closed, without growing beyond the scan."""
    width = round(_CLOSE_MM / _MASK_MM)
    # Repeat the outermost planes, or closing would cut the neck round at the scan's edge.
    padded = np.pad(mask, width, mode="edge")
    grown = ndimage.distance_transform_edt(~padded) <= width
    shrunk = ndimage.distance_transform_edt(grown) > width
    return (shrunk[width:-width, width:-width, width:-width] | mask) & seen


def _filled(mask: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The mask with its holes filled, slice by slice in three planes."""
    for axis in range(3):
        planes = np.moveaxis(mask, axis, 0)
        mask = np.moveaxis(np.stack([ndimage.binary_fill_holes(p) for p in planes]), 0, axis)
    return _largest(ndimage.binary_opening(mask, iterations=2)) & seen
