"""Tissues to Hounsfield units, as a CT scanner would see them."""

import torch

from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume

from .artefacts import blur
from .tissues import column

_RESOLUTION = 1.1  # full width at half maximum of a head protocol (mm)


def to_hu(labels: Volume, generator: torch.Generator, noise: float = 8.0) -> Volume:
    """CT numbers of a label map: tissue means, bone texture, partial volume, noise.

    Parameters
    ----------
    labels
        Tissues (`imaging.tissue.Tissue`), shape ``(1, i, j, k)``.
    generator
        Draws texture and noise.
    noise
        Standard deviation of the noise (HU).

    Returns
    -------
    Volume
        HU, shape ``(1, i, j, k)``, not below −1000.

    Raises
    ------
    ValueError
        If the volume holds no labels.
    """
    tissue = labels.expect(Quantity.LABEL).data[0].long()
    spacing = float(labels.grid.spacing.max())
    hu = column("hu")[tissue]
    # Trabeculae and tables differ from place to place, by about a fifth (Schneider et al. 2000
    # give 450 to 1500 HU between marrow-filled and compact bone).
    rough = blur(torch.randn(hu.shape, generator=generator), 2.5 * spacing, spacing)
    rough = rough / rough.std()
    bone = (tissue == Tissue.SKULL) | (tissue == Tissue.MARROW)
    hu = torch.where(bone, hu * (1 + 0.16 * rough), hu)
    hu = blur(hu, _RESOLUTION, spacing)
    grain = blur(torch.randn(hu.shape, generator=generator), spacing, spacing)
    hu = (hu + noise * grain / grain.std()).clamp(-1000, 3071)
    return Volume(hu[None], labels.grid, Quantity.HU, labels.frame)
