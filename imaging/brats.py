"""Tissues as the numbers that the BraTS challenges give to a tumour's parts.

BraTS 2018 names 1 "NCR & NET": the necrotic (fluid-filled) and the non-enhancing (solid) parts of
the tumour core (tasks page of the challenge, read); BraTS 2024 names it "non-enhancing tumor
core" and adds the resection cavity after treatment (arXiv 2405.18368, abstract read). So tumour
that infiltrates and does not enhance counts as 1, with necrosis; enhancing tumour is 3 since
BraTS 2023 (4 before).
"""

import torch

from .tissue import Tissue
from .volume import Quantity, Volume

NCR, ED, ET, RC = 1, 2, 3, 4

LABELS: dict[Tissue, int] = {
    Tissue.NECROSIS: NCR,
    Tissue.INFILTRATION: NCR,
    Tissue.OEDEMA: ED,
    Tissue.ENHANCING: ET,
    Tissue.CAVITY: RC,
}


def to_brats(labels: Volume) -> Volume:
    """BraTS labels of a map of tissues: NCR 1, ED 2, ET 3, RC 4, and 0 for everything else.

    Parameters
    ----------
    labels
        Numbers of `imaging.tissue.Tissue`, shape ``(1, i, j, k)``.

    Raises
    ------
    ValueError
        If the volume holds no labels, or numbers that are no tissue.
    """
    data = labels.expect(Quantity.LABEL).data
    low, high = int(data.min()), int(data.max())
    if low < 0 or high > max(Tissue):
        raise ValueError(f"expected tissues from 0 to {int(max(Tissue))}, got {low} to {high}")
    table = torch.zeros(max(Tissue) + 1, dtype=torch.uint8)
    for tissue, number in LABELS.items():
        table[tissue] = number
    return Volume(table[data.int()], labels.grid, Quantity.LABEL, labels.frame)
