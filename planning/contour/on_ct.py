"""Contours on a CT, by the networks of MRI: its numbers are turned into the brightness of a T1.

Fat is bright, bone and air are dark, fluid is dark grey, white matter brighter than grey, as in a T1; what
tells tissues apart is their CT numbers (brain 25 to 45 HU, fluid 0 to 15, fat about -100; Hounsfield,
Br. J. Radiol. 46, 1016 (1973)). Noise of a few HU would drown them, so it is smoothed along edges first.
"""

from dataclasses import replace

import numpy as np
import SimpleITK as sitk
import torch

from imaging.brats import RC
from imaging.shapes import Mask
from imaging.volume import Quantity, Volume

from .body import body_of
from .classes import CONTRASTS
from .convert import Contoured
from .margins import expand

_HU = (
    -1000.0,
    -500.0,
    -200.0,
    -110.0,
    -60.0,
    -20.0,
    5.0,
    14.0,
    24.0,
    29.0,
    38.0,
    60.0,
    90.0,
    180.0,
    400.0,
    3000.0,
)
_BRIGHT = (0.0, 0.0, 0.6, 1.0, 0.8, 0.4, 0.2, 0.22, 0.5, 0.68, 0.5, 0.48, 0.4, 0.2, 0.06, 0.02)
_WINDOW = (-200.0, 300.0)  # HU within which noise is smoothed
_STEPS, _CONDUCTANCE = 5, 2.0
_UNSEEN = ("GTV", "Oedema")
_BONE = 250.0  # HU
_MARROW_MM = 2.0  # half as wide as what bone encloses
_ABOUT_SKULL = 3.0  # mm that the networks' may be off by


def ct_as_mr(ct: Volume) -> Volume:
    """The T1-like signal of a CT.

    Parameters
    ----------
    ct
        HU, shape ``(1, i, j, k)``, any orientation.

    Returns
    -------
    Volume
        Signal of 0 to 1 000 on the same grid.

    Raises
    ------
    ValueError
        If the volume is no CT.
    """
    data = ct.expect(Quantity.HU).data[0].float().numpy()
    low, high = _WINDOW
    image = sitk.GetImageFromArray(np.clip(data, low, high))
    image.SetSpacing([float(mm) for mm in ct.grid.spacing[::-1]])
    step = 0.9 * float(ct.grid.spacing.min()) / 16
    smooth = sitk.GetArrayFromImage(sitk.CurvatureAnisotropicDiffusion(image, step, _CONDUCTANCE, 1, _STEPS))
    within = (data > low) & (data < high)
    bright = np.interp(np.where(within, smooth, data), _HU, _BRIGHT).astype(np.float32)
    return Volume(torch.from_numpy(1000 * bright)[None], ct.grid, Quantity.MR, ct.frame)


def in_place_of_t1(ct: Volume) -> Volume:
    """The channels that the networks see of a CT alone, shape ``(4, i, j, k)``."""
    seen = ct_as_mr(ct)
    data = torch.zeros(len(CONTRASTS), *ct.grid.shape)
    data[CONTRASTS.index("t1")] = seen.data[0]
    return Volume(data, ct.grid, Quantity.MR, ct.frame)


def with_numbers_of(ct: Volume, made: Contoured) -> Contoured:
    """Contours with the body and the skull that CT numbers show, where there were any, and without a tumour.

    The skull is bone of 250 HU and what it encloses, near where the networks have it: no vertebra, no jaw. Of
    a tumour the networks find nothing on a CT alone but where it was taken out.
    """
    masks: dict[str, Mask] = {name: m for name, m in made.masks.items() if name not in _UNSEEN}
    masks["Body"] = body_of(ct)
    if "Skull" in made.masks:
        bone = ct.data[0] > _BONE
        closed = expand(expand(bone, ct.grid, _MARROW_MM), ct.grid, -_MARROW_MM)
        masks["Skull"] = closed & expand(made.masks["Skull"], ct.grid, _ABOUT_SKULL)
    labels = replace(made.tumour, data=torch.where(made.tumour.data == RC, made.tumour.data, 0))
    missing = {**made.missing, "GTV": "is not told from brain on a CT alone"}
    return replace(made, masks=masks, tumour=labels, missing=missing)
