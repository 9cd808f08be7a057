"""Tissues to Hounsfield units, as a CT scanner would see them."""

import torch

from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume

from .artefacts import blur, texture
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
    # Bone is denser in some places than in others.
    rough = texture(labels.grid.shape, 4.0, spacing, generator)
    bone = (tissue == Tissue.SKULL) | (tissue == Tissue.MARROW)
    hu = torch.where(bone, hu * (1 + 0.12 * rough), hu)
    hu = blur(hu, _RESOLUTION, spacing)
    hu = (hu + noise * texture(labels.grid.shape, spacing, spacing, generator)).clamp(-1000, 3071)
    return Volume(hu[None], labels.grid, Quantity.HU, labels.frame)
