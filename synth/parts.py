"""What a tumour is made of: which voxels of its window become necrosis, rim, oedema and the rest."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation, distance_transform_edt
from torch import Tensor

from imaging.tissue import Tissue

from .artefacts import texture
from .cranium import among

Window = Float[Tensor, "_ _ _"]
Mask = Bool[Tensor, "_ _ _"]

_PARENCHYMA = (Tissue.GREY, Tissue.WHITE, Tissue.BRAINSTEM, Tissue.OEDEMA)
_TAIL = 0.04  # share of a meningioma's volume that lies in its dural tail (assumed)
_TAIL_THICKNESS = 1.6  # mm
_RING_FROM = 0.5  # metastases of less do not necrotise (cc; 10 mm across; assumed)


@dataclass(frozen=True)
class Make:
    """How a tumour's parts are laid out.

    Parameters
    ----------
    necrosis
        Share of the tumour that is necrotic.
    infiltration
        Tumour that does not enhance, beyond the rest, as a share of it.
    enhancing
        Share of a low-grade glioma that enhances.
    oedema
        Volume of oedema (cc).
    """

    necrosis: float = 0.0
    infiltration: float = 0.0
    enhancing: float = 0.0
    oedema: float = 0.0


def highest(score: Window, allowed: Mask, count: int) -> Mask:
    """The ``count`` voxels of highest score among those allowed, or all of them if they are fewer."""
    values = score[allowed].numpy()
    if count <= 0:
        return torch.zeros_like(allowed)
    if count >= len(values):
        return allowed.clone()
    least = float(np.partition(values, len(values) - count)[len(values) - count])
    return allowed & (score >= least)


def solid(part: Tensor, thick: Window, *, extra_axial: bool) -> Mask:
    """Voxels that a tumour may take: brain and narrow sulci; for one at the dura all within the skull.

    Parameters
    ----------
    part
        Tissues of the window.
    thick
        Share of fluid about each voxel, which is high in ventricles and cisterns.
    extra_axial
        Whether it grows from the dura.
    """
    if extra_axial:
        return among(part, Tissue.GREY, Tissue.WHITE, Tissue.CSF, Tissue.DURA, Tissue.OEDEMA)
    return among(part, *_PARENCHYMA) | ((part == Tissue.CSF) & (thick < 0.6))


def ragged(density: Window, voxel: float, generator: torch.Generator) -> Window:
    """Density whose level sets are lobed: about 2 mm in and out where a front runs through brain."""
    i, j, k = density.shape
    level = torch.logit(density.clamp(1e-6, 1 - 1e-6))
    return level + 1.1 * texture((i, j, k), 13.0, voxel, generator)


def glioblastoma(
    part: Tensor, core: Mask, density: Window, make: Make, voxel: float, generator: torch.Generator
) -> Tensor:
    """Labels of a window with a glioblastoma: necrosis within a closed rim, and what infiltrates.

    Parameters
    ----------
    part
        Tissues of the window.
    core
        Necrosis and enhancing rim.
    density
        Cell density.
    make
        Shares of the parts.
    voxel
        Voxel size (mm).
    generator
        Draws the rim's thickness and the side on which tumour does not enhance.
    """
    out = part.clone()
    out[core] = Tissue.ENHANCING
    out[_heart(core, make.necrosis, voxel, generator)] = Tissue.NECROSIS
    free = among(part, *_PARENCHYMA) & ~core
    i, j, k = part.shape
    patchy = density.clamp(min=1e-30).log() + 0.8 * texture((i, j, k), 22.0, voxel, generator)
    out[highest(patchy, free, round(make.infiltration * int(core.sum())))] = Tissue.INFILTRATION
    return out


def low_grade(
    part: Tensor, core: Mask, density: Window, make: Make, voxel: float, generator: torch.Generator
) -> Tensor:
    """Labels of a window with a low-grade glioma, which enhances little or not at all."""
    out = part.clone()
    out[core] = Tissue.INFILTRATION
    i, j, k = part.shape
    knots = density + 0.3 * texture((i, j, k), 12.0, voxel, generator)
    out[highest(knots, core, round(make.enhancing * int(core.sum())))] = Tissue.ENHANCING
    return out


def metastasis(part: Tensor, core: Mask, make: Make, voxel: float, generator: torch.Generator) -> Tensor:
    """Labels of a window with a metastasis, a ring where it is large."""
    out = part.clone()
    out[core] = Tissue.ENHANCING
    if int(core.sum()) * voxel**3 / 1000 >= _RING_FROM:
        out[_heart(core, make.necrosis, voxel, generator)] = Tissue.NECROSIS
    return out


def meningioma(part: Tensor, allowed: Mask, density: Window, count: int, voxel: float) -> Tensor:
    """Labels of a window with a meningioma: one even mass, and a tail along the dura.

    Parameters
    ----------
    part
        Tissues of the window.
    allowed
        Voxels that it may take.
    density
        Falls with the distance from where it is attached.
    count
        Voxels of the mass and its tail together.
    voxel
        Voxel size (mm).
    """
    out = part.clone()
    body = highest(density, allowed, count - round(_TAIL * count))
    outside = ~among(part, Tissue.GREY, Tissue.WHITE, Tissue.BRAINSTEM, Tissue.CSF, Tissue.OEDEMA)
    depth = max(round(_TAIL_THICKNESS / voxel), 1)
    lining = torch.from_numpy(binary_dilation(outside.numpy(), iterations=depth)) & allowed & ~body
    tail = highest(density, lining, round(_TAIL * count))
    mass = body | tail
    # Where the lining is too short for its share, the mass takes it.
    mass |= highest(density, allowed & ~mass, count - int(mass.sum()))
    out[mass] = Tissue.ENHANCING
    return out


def swollen(
    part: Tensor,
    density: Window,
    allowed: Mask,
    make: Make,
    voxel: float,
    fingers: float,
    generator: torch.Generator,
) -> Tensor:
    """Labels of a window with oedema in the white matter about a tumour, fingers of it first.

    Parameters
    ----------
    part
        Tissues of the window, with the tumour.
    density
        Falls with the distance from the tumour.
    allowed
        Where oedema may lie.
    make
        Says how much oedema there is.
    voxel
        Voxel size (mm).
    fingers
        How uneven its edge is, in units of the density's logarithm.
    generator
        Draws the fingers.
    """
    out = part.clone()
    i, j, k = part.shape
    seep = density.clamp(min=1e-30).log() + fingers * texture((i, j, k), 16.0, voxel, generator)
    white = (part == Tissue.WHITE) & (density > 0) & allowed
    out[highest(seep, white, round(make.oedema * 1000 / voxel**3))] = Tissue.OEDEMA
    return out


def _heart(core: Mask, share: float, voxel: float, generator: torch.Generator) -> Mask:
    """The innermost share of a core, never at its surface, however coarse the voxels."""
    depth = torch.from_numpy(distance_transform_edt(core.numpy(), sampling=voxel)).float()
    i, j, k = core.shape
    uneven = (1 + 0.45 * texture((i, j, k), 12.0, voxel, generator)).clamp(0.35, 2.2)
    return highest(depth / uneven, core & (depth > 1.8 * voxel), round(share * int(core.sum())))
