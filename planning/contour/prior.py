"""Contours of body and organs from tissue labels that an aligned prior gave."""

import numpy as np
import torch
from scipy import ndimage

from imaging.grid import Grid
from imaging.shapes import Mask
from imaging.structures import RoiType, Structure, StructureSet
from imaging.tissue import BONE, BRAIN, Tissue
from imaging.volume import Quantity, Volume

from .margins import expand

_COLORS = {
    "Body": (0, 255, 0),
    "Brain": (255, 192, 203),
    "Skull": (245, 222, 179),
    "Brainstem": (128, 0, 128),
    "Eye_L": (0, 255, 255),
    "Eye_R": (255, 255, 0),
}
# Wide enough for ventricles and sulci, narrower than the gap between brain and eyes.
_SULCUS_MM = 6.0
_BRIDGE_MM = 2.0
_FLUID_MM = 4.0


def contours(tissues: Volume) -> StructureSet:
    """Body, brain, skull, brainstem and eyes of a label map; what the scan does not show is left out.

    The brain is the whole brain with its ventricles, sulci and brainstem, as it is contoured in
    the clinic. ``Eye_L`` is the patient's left eye (+x).

    Parameters
    ----------
    tissues
        Tissue of each voxel (:class:`imaging.tissue.Tissue`), shape ``(1, i, j, k)``.

    Raises
    ------
    ValueError
        If the volume holds no labels, or shows no body or no brain.
    """
    labels = tissues.expect(Quantity.LABEL).data[0]
    grid = tissues.grid
    brain = _brain(labels, grid)
    left = _x(grid) > _x(grid)[brain].mean() if brain.any() else torch.zeros_like(brain)
    eyes = labels == Tissue.EYE
    masks = {
        "Body": _body(labels),
        "Brain": brain,
        "Skull": _any_of(labels, BONE) & ~brain,
        "Brainstem": _largest(labels == Tissue.BRAINSTEM),
        "Eye_L": _largest(eyes & left),
        "Eye_R": _largest(eyes & ~left),
    }
    for name in ("Body", "Brain"):
        if not masks[name].any():
            raise ValueError(f"expected tissues that show a {name.lower()}, got none; check the label map")
    drawn = {
        name: Structure(mask, RoiType.EXTERNAL if name == "Body" else RoiType.ORGAN, _COLORS[name])
        for name, mask in masks.items()
        if mask.any()
    }
    return StructureSet(grid, drawn, tissues.frame)


def _body(labels: torch.Tensor) -> Mask:
    """The head without holes, slice by slice: air within the skin belongs to the body."""
    body = _largest(labels != Tissue.OUTSIDE).numpy()
    filled = [ndimage.binary_fill_holes(body[:, :, k]) for k in range(body.shape[2])]
    return torch.from_numpy(np.stack(filled, axis=2))


def _brain(labels: torch.Tensor, grid: Grid) -> Mask:
    """Brain tissue in one piece, with the fluid in and between its folds."""
    tissue = _any_of(labels, BRAIN)
    if not tissue.any():
        return tissue
    # Thin bridges to eyes or scalp are errors of single voxels: open before choosing the brain.
    core = expand(_largest(expand(tissue, grid, -_BRIDGE_MM)), grid, _BRIDGE_MM) & tissue
    if not core.any():
        core = _largest(tissue)
    closed = expand(expand(core, grid, _SULCUS_MM), grid, -_SULCUS_MM)
    fluid = (labels == Tissue.CSF) | tissue
    # Dark cortex passes for fluid: what lies this deep within the skull is brain all the same.
    deep = _largest(expand(fluid, grid, -_FLUID_MM))
    filled = torch.from_numpy(ndimage.binary_fill_holes(((closed & fluid) | core | deep).numpy()))
    return _largest(filled)


def _any_of(labels: torch.Tensor, tissues: tuple[Tissue, ...]) -> Mask:
    return torch.isin(labels, torch.tensor([int(t) for t in tissues], dtype=labels.dtype))


def _largest(mask: Mask) -> Mask:
    """The largest connected piece; an empty mask stays empty."""
    pieces, n = ndimage.label(mask.numpy())
    if n == 0:
        return mask
    return torch.from_numpy(pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])))


def _x(grid: Grid) -> torch.Tensor:
    """Position along x (mm, left positive) of each voxel."""
    i, j, k = (torch.arange(n, dtype=torch.float32) for n in grid.shape)
    a = [float(v) for v in grid.affine[0]]
    return a[0] * i[:, None, None] + a[1] * j[None, :, None] + a[2] * k + a[3]
