"""The external contour of a CT."""

import numpy as np
import torch
from scipy import ndimage

from imaging.shapes import Mask
from imaging.volume import Quantity, Volume

_TISSUE_HU = -300.0  # halfway between air and fat, as contouring systems take it


def body_of(ct: Volume) -> Mask:
    """Voxels inside the patient: the largest connected tissue with the air that it encloses.

    Parameters
    ----------
    ct
        Hounsfield units.

    Raises
    ------
    ValueError
        If the CT holds no tissue.
    """
    tissue = ct.expect(Quantity.HU).data[0].numpy() > _TISSUE_HU
    labels, n = ndimage.label(tissue)
    if n == 0:
        raise ValueError("expected a CT with tissue in it, got air alone; check its rescale slope")
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    # Slice by slice along the body, since airways open at the cut neck.
    filled = np.stack([ndimage.binary_fill_holes(largest[:, :, k]) for k in range(largest.shape[2])], axis=2)
    return torch.from_numpy(filled)
