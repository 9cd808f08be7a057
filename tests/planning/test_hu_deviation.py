from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.volume import Quantity, Volume
from planning.hu_deviation import density_deviation

GRID = axial(-np.full(3, 10.0), np.full(3, 10.0), (5.0, 5.0, 5.0))


def hu(value, frame=""):
    return Volume(torch.full((1, *GRID.shape), float(value)), GRID, Quantity.HU, frame)


def off(value, frame=""):
    return replace(hu(value, frame), quantity=Quantity.HU_DEVIATION)


def test_a_deviation_is_the_slope_of_the_table_times_that_of_the_hu():
    # Between 100 and 350 HU the table rises by 0.104 in 250 HU.
    found = density_deviation(off(50), hu(225))
    assert found.quantity is Quantity.DENSITY
    assert float(found.data.mean()) == pytest.approx(50 * 0.104 / 250, rel=1e-5)


def test_across_a_kink_it_is_half_of_what_lies_between_both_ends():
    # 0 HU is 1; 100 HU is 1.095; -90 HU is 0.95.
    assert float(density_deviation(off(90), hu(0)).data.mean()) == pytest.approx(
        (1 + 0.095 * 0.9 - 0.95) / 2, rel=1e-5
    )


def test_what_cannot_be_a_deviation_is_refused():
    with pytest.raises(ValueError, match="at least 0 HU"):
        density_deviation(off(-10), hu(0))
    with pytest.raises(ValueError, match="one frame of reference"):
        density_deviation(off(10, "1.2"), hu(0, "1.3"))
    with pytest.raises(ValueError, match="expected a volume in standard deviation in HU"):
        density_deviation(Volume(hu(1).data, GRID, Quantity.DENSITY), hu(0))
