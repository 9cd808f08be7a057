"""Volumes and structures say what they hold, or refuse."""

import numpy as np
import pytest
import torch

from imaging.grid import Grid
from imaging.structures import RoiType, Structure, StructureSet, named
from imaging.volume import Quantity, Volume, expect_finite

GRID = Grid((2, 3, 4), np.eye(4))


def test_a_volume_passes_only_for_what_it_holds():
    hu = Volume(torch.zeros(1, 2, 3, 4), GRID, Quantity.HU)
    assert hu.expect(Quantity.HU) is hu
    with pytest.raises(ValueError, match="expected a volume in Gy, got HU"):
        hu.expect(Quantity.DOSE)


def test_data_that_do_not_fit_the_grid_are_refused():
    with pytest.raises(ValueError, match=r"shape \(c, 2, 3, 4\) to fit the grid, got \(1, 4, 3, 2\)"):
        Volume(torch.zeros(1, 4, 3, 2), GRID, Quantity.HU)


def test_labels_with_fractions_are_refused():
    with pytest.raises(ValueError, match=r"whole numbers, got torch[.]float32"):
        Volume(torch.zeros(1, 2, 3, 4), GRID, Quantity.LABEL)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_counted_and_refused(bad):
    data = torch.zeros(1, 2, 3, 4)
    data[0, 0, 0, :2] = bad
    with pytest.raises(ValueError, match="got 2 NaN or infinite"):
        expect_finite(Volume(data, GRID, Quantity.MR))


def test_finite_values_and_whole_numbers_pass():
    for data in (torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4, dtype=torch.int16)):
        volume = Volume(data, GRID, Quantity.MR)
        assert expect_finite(volume) is volume


def _set() -> StructureSet:
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    return StructureSet(
        GRID,
        {
            "ptv": Structure(mask, RoiType.PTV, (255, 0, 0), 60.0),
            "eye": Structure(~mask, RoiType.ORGAN, (0, 255, 0)),
        },
    )


def test_structures_are_found_by_name_and_by_kind():
    assert bool(_set().mask("ptv").all())
    assert named(_set(), RoiType.ORGAN) == ["eye"]
    assert named(_set(), RoiType.GTV) == []


def test_a_structure_that_is_not_there_is_refused_with_what_is():
    with pytest.raises(ValueError, match="expected a structure gtv, got only ptv, eye"):
        _set().mask("gtv")


def test_a_mask_off_the_grid_is_refused():
    mask = torch.ones(3, 3, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="structure ptv on the grid"):
        StructureSet(GRID, {"ptv": Structure(mask, RoiType.PTV, (255, 0, 0))})
