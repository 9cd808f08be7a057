"""What a page tells of a plan whose CT networks made."""

import numpy as np
import pytest
import torch

from app.ct_trust import Trust, rows
from imaging.grid import axial
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume

GRID = axial(np.zeros(3), np.full(3, 8.0), (2.0,) * 3)
MASK = torch.ones(GRID.shape, dtype=torch.bool)
DRAWN = StructureSet(
    GRID,
    {
        "PTV": Structure(MASK, RoiType.PTV, (255, 0, 0)),
        "Brain": Structure(MASK, RoiType.ORGAN, (0, 0, 255)),
    },
)
BAND = {"volume_percent": [2.0, 50.0, 98.0], "low_gy": [60.0, 59.0, 57.0], "high_gy": [62.0, 61.0, 59.5]}


def trust(plans: int) -> Trust:
    sigma = Volume(torch.ones(1, *GRID.shape), GRID, Quantity.HU_DEVIATION)
    told = {"share": 0.9, "calibrated_on_plans": plans, "structures": {"PTV": BAND, "Brain": BAND}}
    return Trust(sigma, sigma, told)


@pytest.mark.parametrize(("plans", "guess"), [(0, True), (8, False)])
def test_targets_have_a_row_that_says_whether_it_is_a_guess(plans: int, guess: bool) -> None:
    (row,) = rows(trust(plans), DRAWN)
    assert row.what.startswith("PTV, 90 % band")
    assert ("not calibrated on plans" in row.what) is guess
    assert row.value == "D98% 57.0 to 59.5 Gy, D50% 59.0 to 61.0 Gy, D2% 60.0 to 62.0 Gy"


def test_a_ct_that_no_network_made_has_none() -> None:
    assert rows(None, DRAWN) == ()
    assert rows(Trust(trust(0).sigma, None, {}), DRAWN) == ()
