"""Whole heads of what the network of heads found: tissues, the tumour's parts, and where small organs lie."""

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from imaging.brats import LABELS
from imaging.grid import Grid, axial, corners, positions
from imaging.resample import resample
from imaging.shapes import Mask
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume

from .classes import HeadClass
from .pieces import pieces, seen_from

TISSUE_OF: dict[HeadClass, Tissue] = {
    HeadClass.OUTSIDE: Tissue.OUTSIDE,
    HeadClass.SOFT: Tissue.SCALP,
    HeadClass.BONE: Tissue.SKULL,
    HeadClass.AIR: Tissue.AIR,
    HeadClass.FLUID: Tissue.CSF,
    HeadClass.BRAIN: Tissue.WHITE,
    HeadClass.BRAINSTEM: Tissue.BRAINSTEM,
    HeadClass.EYE: Tissue.EYE,
    HeadClass.CORE: Tissue.NECROSIS,
    HeadClass.ENHANCING: Tissue.ENHANCING,
    HeadClass.OEDEMA: Tissue.OEDEMA,
    HeadClass.CAVITY: Tissue.CAVITY,
}
TUMOUR = (HeadClass.CORE, HeadClass.ENHANCING, HeadClass.OEDEMA, HeadClass.CAVITY)
_WITHIN = 0.5  # of a tumour that must lie in the brain
# What was taken for a tumour is counted into the brain as well, so that its surroundings decide: true tumours
# of synthetic and real heads had 0.93 and more of it, fat of orbits, sinuses and scalp 0.88 and less.
_AMONG_BRAIN = 0.9  # of the soft tissue and air within 3 mm that must be brain
_ABOUT_VOXELS = 2
_BESIDE = (HeadClass.SOFT, HeadClass.AIR, HeadClass.EYE)
_LEAST_TUMOUR_CC = 0.1
# Room about eyes and brainstem in which all small organs lie (mm): low and high, LPS.
_LOW, _HIGH = np.array([-14.0, -10.0, -14.0]), np.array([14.0, 22.0, 34.0])
_LEAST_CC = 1.0  # of eyes and brainstem together, or nothing is known of where organs are


def tissues(share: Volume) -> Volume:
    """The likeliest tissue of each voxel; a tumour's cavity counts as tumour, so that it lies in the brain.

    Parameters
    ----------
    share
        Probability of each :class:`planning.contour.classes.HeadClass`.

    Raises
    ------
    ValueError
        If the volume holds no probabilities.
    """
    best = share.expect(Quantity.PROBABILITY).data.argmax(dim=0)
    table = torch.tensor([int(TISSUE_OF[c]) for c in HeadClass], dtype=torch.uint8)
    table[HeadClass.CAVITY] = int(Tissue.NECROSIS)
    return Volume(table[best][None], share.grid, Quantity.LABEL, share.frame)


def tumour(share: Volume, brain: Mask, grid: Grid) -> Volume:
    """A tumour's parts as BraTS numbers them (:mod:`imaging.brats`); all 0 where none was found.

    Every piece of 0.1 cm³ or more that lies in the brain is kept: metastases are several. What lies mostly
    outside, or among more than brain, such as the fat of the orbits, which looks like one, is none.

    Parameters
    ----------
    share
        As :func:`tissues` takes it.
    brain
        The whole brain with its tumour, on the grid of ``share``.
    grid
        Where the labels are wanted.
    """
    data = share.expect(Quantity.PROBABILITY).data
    parts = data[[int(c) for c in TUMOUR]]
    region = torch.zeros_like(brain)
    for piece in pieces(parts.sum(dim=0) > 0.5, share.grid):
        if piece.cc < _LEAST_TUMOUR_CC:
            break
        inside = int((piece.mask & brain).sum()) > _WITHIN * int(piece.mask.sum())
        if inside and _among_brain(piece.mask, data) >= _AMONG_BRAIN:
            region |= piece.mask
    out = torch.zeros(1, *grid.shape, dtype=torch.uint8)
    seen = seen_from(region, share.grid, grid) if region.any() else None
    if seen is None:
        return Volume(out, grid, Quantity.LABEL, share.frame)
    window, part = seen
    near = torch.from_numpy(ndimage.binary_dilation(region.numpy(), structure=np.ones((3, 3, 3), dtype=bool)))
    kept = torch.where(near, parts, 0.0)
    here = resample(Volume(kept, share.grid, Quantity.PROBABILITY, share.frame), part).data
    numbers = torch.tensor([LABELS[TISSUE_OF[c]] for c in TUMOUR], dtype=torch.uint8)
    out[0][window] = torch.where(here.sum(dim=0) > 0.5, numbers[here.argmax(dim=0)], 0).to(torch.uint8)
    return Volume(out, grid, Quantity.LABEL, share.frame)


def _among_brain(piece: Mask, share: Float[Tensor, "c i j k"]) -> float:
    """Brain as a share of brain, soft tissue, eyes and air about a piece; bone and fluid border both."""
    wider = ndimage.binary_dilation(piece.numpy(), iterations=_ABOUT_VOXELS)
    tumour_there = share[[int(c) for c in TUMOUR]].sum(dim=0) > 0.5
    about = share[:, torch.from_numpy(wider) & ~tumour_there].sum(dim=1)
    own = float(about[[int(HeadClass.BRAIN), int(HeadClass.BRAINSTEM)]].sum())
    return own / max(own + float(about[[int(c) for c in _BESIDE]].sum()), 1e-6)


def organ_box(share: Volume) -> Grid:
    """An upright grid of 1 mm in which a head's small organs lie; all of the head where that is not known.

    Parameters
    ----------
    share
        As :func:`tissues` takes it.
    """
    data = share.expect(Quantity.PROBABILITY).data
    seen = data[int(HeadClass.EYE)] + data[int(HeadClass.BRAINSTEM)] > 0.5
    here = torch.zeros_like(seen)
    for piece in pieces(seen, share.grid):
        if piece.cc >= _LEAST_CC:
            here |= piece.mask
    if not here.any():
        points = corners(share.grid)
        return axial(points.min(axis=0), points.max(axis=0), (1.0, 1.0, 1.0))
    places = positions(share.grid, here.nonzero().double().numpy())
    low, high = places.min(axis=0) + _LOW, places.max(axis=0) + _HIGH
    # A stem is followed down into the neck, where no other organ is.
    eyes = data[int(HeadClass.EYE)] * here > 0.5
    if eyes.any():
        floor = positions(share.grid, eyes.nonzero().double().numpy())[:, 2].min()
        low[2] = max(low[2], floor - 25.0)
    whole = corners(share.grid)
    return axial(np.maximum(low, whole.min(axis=0)), np.minimum(high, whole.max(axis=0)), (1.0, 1.0, 1.0))
