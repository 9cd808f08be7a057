"""Volumes as SimpleITK images and back: the one place that knows SimpleITK's order.

SimpleITK's arrays run ``(k, j, i)`` and its images keep origin, spacing and direction apart;
its positions are LPS mm like ours.
"""

import numpy as np
import SimpleITK as sitk
import torch

from .grid import Grid
from .volume import Quantity, Volume

_TYPES = {torch.bool: torch.uint8, torch.bfloat16: torch.float32, torch.float16: torch.float32}


def to_sitk(volume: Volume) -> sitk.Image:
    """A volume of one channel as a SimpleITK image with the same values and positions.

    Boolean masks become ``uint8`` and half precision becomes ``float32``, for SimpleITK knows
    neither.

    Raises
    ------
    ValueError
        If the volume has more than one channel.
    """
    if volume.data.shape[0] != 1:
        raise ValueError(f"expected a volume of one channel, got {volume.data.shape[0]}; pass one at a time")
    data = volume.data[0].detach().cpu()
    data = data.to(_TYPES.get(data.dtype, data.dtype))
    image = sitk.GetImageFromArray(data.permute(2, 1, 0).contiguous().numpy())
    spacing = volume.grid.spacing
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(volume.grid.affine[:3, 3].tolist())
    image.SetDirection((volume.grid.affine[:3, :3] / spacing).ravel().tolist())
    return image


def from_sitk(image: sitk.Image, quantity: Quantity, frame: str = "") -> Volume:
    """A SimpleITK image of one component as a volume with the same values and positions.

    Parameters
    ----------
    image
        A scalar image of three dimensions.
    quantity
        What its values mean; labels must be whole numbers.
    frame
        DICOM frame of reference UID of the result.

    Raises
    ------
    ValueError
        If the image is not a scalar image of three dimensions.
    """
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(
            f"expected a scalar image of 3 dimensions, got {image.GetDimension()} dimensions "
            f"and {image.GetNumberOfComponentsPerPixel()} components"
        )
    array = sitk.GetArrayFromImage(image)
    # Torch computes little with unsigned words: widen them without changing a value.
    wider = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64, np.dtype(np.uint64): np.int64}
    array = array.astype(wider.get(array.dtype, array.dtype), copy=False)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    data = torch.from_numpy(array).permute(2, 1, 0).contiguous()[None]
    size = image.GetSize()
    return Volume(data, Grid((size[0], size[1], size[2]), affine), quantity, frame)
