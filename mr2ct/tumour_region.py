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
_BRAIN = (TissueClass.CSF, TissueClass.GREY, TissueClass.WHITE)
_BORDER = 0.5  # of a region's neighbours that must be brain or its fluid


def tumour_region(found: Volume, grid: Grid, threshold: float = 0.5) -> Volume:
    """The largest connected region beside the brain that is likelier tumour or oedema than not.

    A region to look at, not a target volume: regions of which most neighbours are not brain, such as the fat
    of the orbits, are left out, and so are smaller ones in the brain.

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
    brain = found.data[list(_BRAIN)].sum(0) > 0.5
    share = found.data[list(_TUMOUR)].sum(0)
    region = _largest_beside(share > threshold, brain)
    # The chosen piece keeps its own probabilities, so that its border lies between voxels.
    kept = torch.where(torch.from_numpy(ndimage.binary_dilation(region.numpy())), share, 0.0)
    there = resample(Volume(kept[None], found.grid, Quantity.PROBABILITY, found.frame), grid).data > threshold
    return Volume(there.to(torch.uint8), grid, Quantity.LABEL, found.frame)


def _largest_beside(mask: Mask, brain: Mask) -> Mask:
    pieces, n = ndimage.label(mask.numpy())
    sizes = np.bincount(pieces.ravel(), minlength=n + 1)[1:]
    for piece in 1 + np.argsort(sizes)[::-1]:
        own = pieces == piece
        around = ndimage.binary_dilation(own) & ~own
        if brain.numpy()[around].mean() > _BORDER:
            return torch.from_numpy(own)
    return torch.zeros_like(mask)
