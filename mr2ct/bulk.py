"""A synthetic CT from tissue labels: one published CT number per tissue.

The baseline that every learned method must beat. Bulk densities in the brain keep the target dose
of photon plans within about 1 % of the plan on the true CT (Jonsson et al., Radiat. Oncol. 5, 62
(2010)).

CT numbers follow from mass densities of ICRU Report 46 (1992), appendix A, by the calibration of
W. Schneider, Bortfeld and Schlegel, Phys. Med. Biol. 45, 459 (2000), eqs. 19-23:

==================  =========  =====
tissue              g/cm³      HU
==================  =========  =====
adipose             0.95       -76
brain               1.04       32
skeletal muscle     1.05       40
spongiosa           1.18       275
cranium, whole      1.61       1002
==================  =========  =====

An MRI shows the skull's tables (dark) and its diploe (bright) apart. The diploe takes the number
of spongiosa, the tables one with which seven parts of table and three of diploe, about what labels
of heads hold, weigh as much as the whole cranium: (1002 - 0.3 × 275) / 0.7 = 1314 HU.

Fluid of brain and eye are 10 HU as measured on CT (their 1.007 g/cm³ lies where the calibration
jumps from fat to soft tissue); a tumour counts as brain, its necrosis as half fluid.
"""

import numpy as np
import torch
from scipy import ndimage

from imaging.tissue import SIMPLER, Tissue
from imaging.volume import Quantity, Volume

AIR_HU = -1000.0
BULK_HU: dict[Tissue, float] = {
    Tissue.OUTSIDE: AIR_HU,
    Tissue.SCALP: 40.0,
    Tissue.SKULL: 1314.0,
    Tissue.CSF: 10.0,
    Tissue.GREY: 32.0,
    Tissue.WHITE: 32.0,
    Tissue.AIR: AIR_HU,
    Tissue.EYE: 10.0,
    Tissue.BRAINSTEM: 32.0,
    Tissue.NECROSIS: 21.0,
    Tissue.OEDEMA: 32.0,
    Tissue.ENHANCING: 32.0,
    Tissue.MARROW: 275.0,
    Tissue.FAT: -76.0,
}


def to_ct(tissues: Volume, blur_mm: float = 0.7) -> Volume:
    """Synthetic CT (HU) of a label map, on its grid and in its frame.

    Parameters
    ----------
    tissues
        Tissue of each voxel (:class:`imaging.tissue.Tissue`), shape ``(1, i, j, k)``.
    blur_mm
        Standard deviation of the Gaussian that mixes neighbouring tissues as voxels on a border
        do; the skin stays sharp, so that the head keeps its outline.

    Raises
    ------
    ValueError
        If the volume holds no labels or numbers that no tissue has.
    """
    labels = tissues.expect(Quantity.LABEL).data[0].long()
    if int(labels.min()) < 0 or int(labels.max()) >= len(Tissue):
        raise ValueError(
            f"expected tissue labels 0..{len(Tissue) - 1}, got {int(labels.min())}..{int(labels.max())}"
        )
    hu = torch.tensor([BULK_HU[SIMPLER.get(t, t)] for t in Tissue])[labels].numpy()
    inside = (labels != Tissue.OUTSIDE).numpy()
    sigma = blur_mm / tissues.grid.spacing
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma)
    mixed = ndimage.gaussian_filter(np.where(inside, hu, 0).astype(np.float32), sigma)
    mixed = np.where(inside, mixed / np.maximum(weight, 1e-6), AIR_HU).astype(np.float32)
    return Volume(torch.from_numpy(mixed)[None], tissues.grid, Quantity.HU, tissues.frame)
