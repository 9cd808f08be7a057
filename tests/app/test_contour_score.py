"""Scores of contours against true ones, on balls that are known."""

import numpy as np
import pytest
import torch

from app.contour_score import scored
from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from planning.contour.convert import Contoured

GRID = axial(np.full(3, -40.0), np.full(3, 40.0), (1.0, 1.0, 2.0))


def ball(x: float, radius: float = 9.0) -> torch.Tensor:
    return sphere(GRID, np.array([x, 0.0, 0.0]), radius)


def test_each_structure_is_scored_under_its_name_and_sides_are_told() -> None:
    tissues = torch.zeros(GRID.shape, dtype=torch.uint8)
    tissues[ball(0.0, 12.0)] = Tissue.OEDEMA
    tissues[ball(0.0, 8.0)] = Tissue.ENHANCING
    tissues[ball(0.0, 3.0)] = Tissue.NECROSIS  # 0.1 cm³: no region of its own, part of the core
    true = {
        "External": ball(0.0, 38.0),
        "Eye_L": ball(20.0),
        "Eye_R": ball(-20.0),
        "Pituitary": ball(0.0, 4.0),
    }
    truth = StructureSet(GRID, {n: Structure(m, RoiType.ORGAN, (0, 0, 0)) for n, m in true.items()})
    labels = torch.zeros(GRID.shape, dtype=torch.uint8)
    labels[ball(0.0, 12.0)] = 2
    labels[ball(6.0, 8.0)] = 3
    masks = {"Body": ball(0.0, 38.0), "Eye_L": ball(-20.0), "Eye_R": ball(-20.0), "Lens_L": ball(22.0, 2.0)}
    made = Contoured(
        masks,
        Volume(labels[None], GRID, Quantity.LABEL),
        dict.fromkeys(masks, 0.9),
        {"Pituitary": "is not seen"},
        {},
    )
    found = scored(made, truth, Volume(tissues[None], GRID, Quantity.LABEL))
    assert found.dice == {"Body": 1.0, "Eye_L": 0.0, "Eye_R": 1.0, "Pituitary": 0.0}
    assert found.swapped == ("Eye_L",)
    assert set(found.regions) == {"WT", "TC", "ET"}
    assert found.regions["WT"] == pytest.approx(1, abs=0.03)
    # Two balls of one radius whose middles are 6 mm apart: 1 - 3d/4r + d³/16r³ of each.
    assert found.regions["TC"] == pytest.approx(1 - 3 * 6 / 32 + 6**3 / (16 * 8**3), abs=0.02)
    assert found.agreement["Body"] == 0.9
