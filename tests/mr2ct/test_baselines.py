"""Synthetic CTs without a network, from labels and probabilities whose numbers are known."""

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.tissue import Tissue
from imaging.tissue_maps import N_TISSUES
from imaging.volume import Quantity, Volume
from mr2ct.baselines import atlas, four_classes_of_tissues, three_classes_of_tissues

GRID = axial(np.zeros(3), np.full(3, 20.0), (2.0, 2.0, 2.0))
# Schneider's numbers of ICRU 46's adipose tissue and whole cranium, as mr2ct.bulk lists them.
FAT, CRANIUM, SOFT = -76.0, 1002.0, 36.0


def labelled(*tissues: Tissue) -> Volume:
    """One plane of each tissue, then outside."""
    data = torch.zeros((1, *GRID.shape), dtype=torch.uint8)
    for i, tissue in enumerate(tissues):
        data[0, i] = tissue
    return Volume(data, GRID, Quantity.LABEL)


def planes(ct: Volume, n: int) -> list[float]:
    return ct.expect(Quantity.HU).data[0, :n, 0, 0].tolist()


def test_every_tissue_gets_the_number_of_its_class() -> None:
    kinds = (Tissue.SKULL, Tissue.MARROW, Tissue.AIR, Tissue.FAT, Tissue.GREY, Tissue.CSF, Tissue.SCALP)
    tissues = labelled(*kinds)
    soft = [SOFT] * 3
    three = [CRANIUM, CRANIUM, -1000.0, SOFT, *soft, -1000.0]
    assert planes(three_classes_of_tissues(tissues), 8) == three
    assert planes(four_classes_of_tissues(tissues), 8) == [*three[:3], FAT, *soft, -1000.0]


def aligned(**shares: float) -> Volume:
    data = torch.zeros((N_TISSUES, *GRID.shape))
    for name, share in shares.items():
        data[Tissue[name]] = share
    return Volume(data, GRID, Quantity.PROBABILITY)


def test_an_atlas_has_the_mean_number_of_its_tissues_inside_the_head() -> None:
    head = labelled(*[Tissue.SCALP] * 6)
    # Seven parts of table and three of diploe weigh as much as the whole cranium.
    found = atlas(aligned(SKULL=0.7, MARROW=0.3), head)
    assert planes(found, 6) == pytest.approx([CRANIUM] * 6, abs=2)
    assert set(planes(found, 11)[6:]) == {-1000.0}
    # What the prior takes for outside has no part in it.
    assert planes(atlas(aligned(OUTSIDE=0.9, FAT=0.1), head), 6) == pytest.approx([FAT] * 6, abs=2)
    # Inside the head there is skin where the prior has nothing at all.
    assert planes(atlas(aligned(OUTSIDE=1.0), head), 6) == pytest.approx([40.0] * 6, abs=1e-3)


def test_an_atlas_of_fewer_tissues_is_refused() -> None:
    few = Volume(torch.ones((3, *GRID.shape)), GRID, Quantity.PROBABILITY)
    with pytest.raises(ValueError, match="got 3 channels"):
        atlas(few, labelled(Tissue.GREY))
