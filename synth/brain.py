"""Brain within the skull: folded cortex, ventricles, deep nuclei, cerebellum and brainstem.

Places are LPS mm from the anterior commissure of the mean head, mirrored at the midline
(``ax``). Sizes follow the atlas space ICBM 152 scaled as ``head_shape.json`` says; cortex is
2.5 mm thick (Fischl & Dale, PNAS 97, 11050 (2000)).
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from imaging.tissue import Tissue

from .solids import Field, ball, bent, ellipsoid, rod, union

Mask = Bool[Tensor, "..."]
CORTEX = 2.8
SULCUS_HALF = 0.45
_DURA_HALF = 0.5  # of falx and tentorium (mm), a millimetre thick (assumed)
_FALX_GAP = 0.7
NOTCH_FRONT = 24.0  # y in front of which there is no tentorium (mm)

_LATERAL = [(6.0, -24.0, 6.0), (8.0, -8.0, 17.0), (12.0, 16.0, 19.0), (22.0, 36.0, 8.0)]
_TEMPORAL = [(22.0, 36.0, 8.0), (30.0, 22.0, -12.0), (28.0, 4.0, -20.0)]

_VENTRICLES = (
    *bent(_LATERAL, 4.2),
    rod((20.0, 32.0, 12.0), (22.0, 48.0, 8.0), (5.5, 3.0)),
    *bent(_TEMPORAL, 1.8),
    ball((0.0, 6.0, -1.0), (1.8, 13.0, 9.0)),
    ball((0.0, 36.0, -32.0), (7.0, 5.0, 8.0)),
    rod((0.0, 20.0, -4.0), (0.0, 32.0, -24.0), (0.9, 0.9)),
)
# Thalamus, caudate head and body, putamen, amygdala with hippocampus.
_DEEP_GREY = (
    ball((10.0, 17.0, 6.0), (7.5, 13.0, 8.5)),
    ball((12.5, -12.0, 7.0), (4.5, 10.0, 8.5)),
    rod((13.0, -6.0, 14.0), (19.0, 24.0, 18.0), (3.0, 1.5)),
    ball((24.5, -2.0, 1.0), (4.5, 14.0, 9.0)),
    rod((22.0, 2.0, -19.0), (27.0, 28.0, -8.0), (6.0, 3.5)),
)
# Midbrain, pons, medulla.
_STEM = (
    ball((0.0, 19.0, -9.0), (16.0, 12.0, 9.5)),
    ball((0.0, 17.0, -26.0), (16.0, 13.5, 14.0)),
    rod((0.0, 22.0, -36.0), (0.0, 42.0, -62.0), (9.5, 6.0)),
    rod((0.0, 42.0, -62.0), (0.0, 46.0, -76.0), (6.0, 5.2)),
)
_CORD = (rod((0.0, 46.0, -70.0), (0.0, 45.0, -170.0), (5.2, 5.0)),)
_CISTERN = (ball((0.0, -2.0, -17.0), (9.0, 9.0, 8.0)),)


def ventricles(ax: Field, y: Field, z: Field, swelling: float = 0.0) -> Field:
    """Distance to the ventricles, widened by ``swelling`` mm."""
    return union(ax, y, z, _VENTRICLES, max(swelling, 0.0) + 0.5) - swelling


def deep_grey(ax: Field, y: Field, z: Field) -> Field:
    """Distance to thalamus, caudate head, putamen and amygdala with hippocampus."""
    return union(ax, y, z, _DEEP_GREY)


def brainstem(ax: Field, y: Field, z: Field) -> Field:
    """Distance to midbrain, pons and medulla, up to 4 mm."""
    return union(ax, y, z, _STEM, 4.0)


def cord(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the spinal cord below the medulla."""
    return union(ax, y, z, _CORD)


def cistern(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the fluid around the chiasm."""
    return union(ax, y, z, _CISTERN)


def tentorium(ax: Field, y: Field) -> Field:
    """Height (mm) of the tent over the cerebellum, which the cerebrum rests on."""
    return -3.0 - 0.013 * ax**2 - 0.0028 * (y - 40.0).clamp(min=0) ** 2


def tent_dura(ax: Field, y: Field, over: Field) -> Mask:
    """Whether the tentorium is here, ``over`` mm above its surface; the brainstem passes its notch."""
    return (over.abs() < _DURA_HALF) & (y > NOTCH_FRONT) & tent_notch(ax, y)


def tent_notch(ax: Field, y: Field) -> Mask:
    """Where the tentorium is, seen from above: all around the notch."""
    return (ax / 18.0) ** 2 + ((y - NOTCH_FRONT) / 20.0) ** 2 > 1


def falx_region(y: Field, z: Field) -> Mask:
    """Where the falx is, seen from the side: all around the corpus callosum and what lies below it."""
    return _arch(y, z) > 1


def cerebrum(
    ax: Field, y: Field, z: Field, hull: Field, sulcus: Field, depth: Field, half: float = SULCUS_HALF
) -> Field:
    """Tissue of the cerebrum: the falx, CSF in sulci, grey along them, white within.

    Parameters
    ----------
    ax, y, z
        Place (mm).
    hull
        Depth below the brain's hull (mm, positive inside).
    sulcus
        Distance to the nearest sulcus, along the hull (mm).
    depth
        How deep sulci reach here (mm).
    half
        Half the width of sulci (mm).
    """
    falx = _falx(ax, y, z)
    surface = hull.minimum(falx)
    # Sulci of the medial face are shallower.
    reach = hull.minimum(2.4 * falx)
    pial = (sulcus**2 + (reach - depth).clamp(min=0) ** 2).sqrt()
    pial = pial.minimum(_insula(ax, y, z)).sub(half).minimum(surface)
    cortex = torch.where(pial < CORTEX, float(Tissue.GREY), float(Tissue.WHITE))
    label = torch.where(pial < 0, float(Tissue.CSF), cortex)
    return torch.where((falx < _DURA_HALF - _FALX_GAP) & (hull > 0), float(Tissue.DURA), label)


def cerebellum(ax: Field, y: Field, z: Field, hull: Field) -> Field:
    """Tissue of the cerebellum: folia fanning out from the fourth ventricle's roof."""
    angle = torch.atan2(z + 30.0, y - 34.0) + 0.004 * ax
    phase = angle * 44.0
    leaf = torch.cos(phase)
    branch = torch.cos(phase / 4) > 0.8
    core = ellipsoid(ax, y, z, (9.0, 50.0, -38.0), (16.0, 12.0, 8.0)) < 0
    white = core | (branch & (hull > 4.0) & (hull < 22.0))
    grey = torch.where(white, float(Tissue.WHITE), float(Tissue.GREY))
    return torch.where((hull < 0) | ((leaf > 0.93) & (hull < 5.0)), float(Tissue.CSF), grey)


def _falx(ax: Field, y: Field, z: Field) -> Field:
    # Ends above the corpus callosum, whose upper face is an arch in the midline.
    return (ax**2 + ((1 - _arch(y, z)) * 30.0).clamp(min=0) ** 2).sqrt() - _FALX_GAP


def _arch(y: Field, z: Field) -> Field:
    return (((y - 8.0) / 38.0) ** 2 + ((z - 2.0) / 27.0) ** 2).sqrt()


def _insula(ax: Field, y: Field, z: Field) -> Field:
    # The lateral fissure, and the insula that it leads to.
    valley = -13.0 + 0.42 * (y + 14.0)
    off = (z - valley - 1.5 * torch.sin(ax / 5.0)).abs() * 0.9
    ends = (-22.0 - y).clamp(min=0) + (y - 38.0).clamp(min=0)
    lateral = (off**2 + (35.0 - ax).clamp(min=0) ** 2 + ends**2).sqrt() - 0.6
    return lateral.minimum(ellipsoid(ax, y, z, (35.5, 2.0, 1.0), (1.2, 20.0, 13.0)))
