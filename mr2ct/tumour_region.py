"""Where a tumour probably is, from what the tissue network found."""

import numpy as np
import torch
from scipy import ndimage

from imaging.grid import Grid
from imaging.resample import resample
from imaging.shapes import Mask
from imaging.volume import Quantity, Volume

from .tissue_net import TissueClass

_TUMOUR = (TissueClass.TUMOUR, TissueClass.OEDEMA)
_INSIDE = (TissueClass.CSF, TissueClass.GREY, TissueClass.WHITE, *_TUMOUR)


def tumour_region(found: Volume, grid: Grid, threshold: float = 0.5) -> Volume:
    """The largest connected region of the brain that is likelier tumour or oedema than not.

    A region to look at, not a target volume: eyes, sinuses and other bright spots outside the brain are left
    out, and so are smaller spots inside it.

    Parameters
    ----------
    found
        Probability of each class, as `mr2ct.tissue_net.probabilities` gives it.
    grid
        Grid of the answer.
    threshold
        Probability of tumour and oedema together from which a voxel counts.

    Returns
    -------
    Volume
        Labels, 1 inside the region; all 0 where nothing was found.

    Raises
    ------
    ValueError
        If the volume holds no probabilities, or the threshold is not between 0 and 1.
    """
    found.expect(Quantity.PROBABILITY)
    if not 0 < threshold < 1:
        raise ValueError(f"expected a threshold between 0 and 1, got {threshold}")
    brain = _filled(_largest(found.data[list(_INSIDE)].sum(0) > 0.5))
    share = found.data[list(_TUMOUR)].sum(0)
    region = _largest((share > threshold) & brain)
    # The chosen piece keeps its own probabilities, so that its border lies between voxels.
    kept = torch.where(torch.from_numpy(ndimage.binary_dilation(region.numpy())), share, 0.0)
    there = resample(Volume(kept[None], found.grid, Quantity.PROBABILITY, found.frame), grid).data > threshold
    return Volume(there.to(torch.uint8), grid, Quantity.LABEL, found.frame)


def _largest(mask: Mask) -> Mask:
    pieces, n = ndimage.label(mask.numpy())
    if n == 0:
        return mask
    return torch.from_numpy(pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])))


def _filled(mask: Mask) -> Mask:
    return torch.from_numpy(ndimage.binary_fill_holes(mask.numpy()))
