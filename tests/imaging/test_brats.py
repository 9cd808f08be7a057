import numpy as np
import pytest
import torch

from imaging.brats import to_brats
from imaging.grid import Grid
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume


def row(values: list[int]) -> Volume:
    data = torch.tensor(values, dtype=torch.uint8).reshape(1, -1, 1, 1)
    return Volume(data, Grid((len(values), 1, 1), np.eye(4)), Quantity.LABEL, "1.2.3")


def test_parts_have_the_numbers_of_the_challenge() -> None:
    tissues = [
        Tissue.NECROSIS,
        Tissue.INFILTRATION,
        Tissue.OEDEMA,
        Tissue.ENHANCING,
        Tissue.CAVITY,
    ]
    out = to_brats(row([int(t) for t in tissues]))
    assert out.data.flatten().tolist() == [1, 1, 2, 3, 4]
    assert out.quantity is Quantity.LABEL
    assert out.frame == "1.2.3"


def test_everything_else_is_zero() -> None:
    parts = {Tissue.NECROSIS, Tissue.INFILTRATION, Tissue.OEDEMA, Tissue.ENHANCING, Tissue.CAVITY}
    out = to_brats(row([int(t) for t in Tissue if t not in parts]))
    assert not bool(out.data.any())


def test_numbers_that_are_no_tissue_are_refused() -> None:
    with pytest.raises(ValueError, match="expected tissues from 0 to 23, got 1 to 200"):
        to_brats(row([1, 200]))


def test_an_image_is_refused() -> None:
    image = Volume(torch.zeros(1, 2, 2, 2), Grid((2, 2, 2), np.eye(4)), Quantity.MR)
    with pytest.raises(ValueError, match="expected a volume in label"):
        to_brats(image)
