"""Clinical criteria of head and neck plans, on doses that are made for them."""

import numpy as np
import pytest
import torch

from imaging.grid import Grid
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.predict.criteria import CRITERIA, judged_by_criteria, share_satisfied
from planning.predict.site import read_site

# Voxels of 0.05 cm³: two of them make 0.1 cm³.
SIDE = 10
GRID = Grid((SIDE,) * 3, np.diag([5.0, 5.0, 2.0, 1.0]))
SITE = read_site("openkbp")
COLOR = (255, 0, 0)


def _slab(*planes: int) -> torch.Tensor:
    mask = torch.zeros((SIDE,) * 3, dtype=torch.bool)
    mask[list(planes)] = True
    return mask


def _patient(**organs: torch.Tensor) -> StructureSet:
    parts = {
        "PTV70": Structure(_slab(0), RoiType.PTV, COLOR, 70.0),
        "PTV56": Structure(_slab(1), RoiType.PTV, COLOR, 56.0),
    }
    parts |= {name: Structure(mask, RoiType.ORGAN, COLOR) for name, mask in organs.items()}
    return StructureSet(GRID, parts)


def _dose(*of_planes: float) -> Volume:
    values = torch.zeros((SIDE,) * 3)
    for plane, dose in enumerate(of_planes):
        values[plane] = dose
    return Volume(values[None], GRID, Quantity.DOSE)


def test_targets_want_95_percent_of_their_prescriptions():
    wanted = {c.structure: c.limit_gy for c in CRITERIA if c.at_least}
    assert wanted == pytest.approx({f"PTV{rx}": 0.95 * rx for rx in (56, 63, 70)})


def test_a_dose_on_the_limit_satisfies():
    judged = judged_by_criteria(_dose(66.5, 53.5, 45.0), _patient(SpinalCord=_slab(2)), SITE)
    assert {j.criterion.structure: j.met for j in judged} == {
        "SpinalCord": True,
        "PTV56": True,
        "PTV70": True,
    }


def test_two_hottest_voxels_of_an_organ_are_its_tenth_of_a_cc():
    # Of 100 voxels the two hottest make 0.1 cm³: the percentile 98 lies between the third and the second
    # hottest, at 97.02 of 99 steps, so that its value is 40 + 0.02 * (60 - 40).
    dose = _dose(70.0, 56.0, 40.0)
    dose.data[0, 2, 0, :2] = 60.0
    (cord,) = [
        j
        for j in judged_by_criteria(dose, _patient(SpinalCord=_slab(2)), SITE)
        if j.criterion.metric == "D0.1cc"
    ]
    assert cord.value_gy == pytest.approx(40.0 + 0.02 * 20.0, abs=1e-4)
    assert cord.met


def test_a_cold_high_target_spoils_the_lower_ones_too():
    # PTV56 is judged with PTV70, which is the half of both and gets 50 Gy.
    judged = judged_by_criteria(_dose(50.0, 56.0), _patient(), SITE)
    assert [(j.criterion.structure, j.value_gy, j.met) for j in judged] == [
        ("PTV56", pytest.approx(50.0), False),
        ("PTV70", pytest.approx(50.0), False),
    ]


def test_a_cold_low_target_spoils_no_higher_one():
    judged = judged_by_criteria(_dose(70.0, 50.0), _patient(), SITE)
    assert {j.criterion.structure: j.met for j in judged} == {"PTV56": False, "PTV70": True}


def test_parotids_are_judged_by_their_means_each():
    both = _patient(LeftParotid=_slab(2), Parotid_R=_slab(3))
    judged = judged_by_criteria(_dose(70.0, 56.0, 25.9, 26.1), both, SITE)
    assert {j.criterion.structure: j.met for j in judged if not j.criterion.at_least} == {
        "LeftParotid": True,
        "RightParotid": False,
    }


def test_criteria_of_all_patients_are_pooled():
    good = judged_by_criteria(_dose(70.0, 56.0), _patient(), SITE)
    bad = judged_by_criteria(_dose(70.0, 50.0, 30.0), _patient(LeftParotid=_slab(2)), SITE)
    assert share_satisfied([good, bad]) == (3, 5)
    with pytest.raises(ValueError, match="got none"):
        share_satisfied([])


def test_a_dose_on_another_grid_is_refused():
    other = Volume(torch.zeros(1, 2, 2, 2), Grid((2, 2, 2), np.eye(4)), Quantity.DOSE)
    with pytest.raises(ValueError, match="structures' grid"):
        judged_by_criteria(other, _patient(), SITE)


def test_a_dose_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        judged_by_criteria(_dose(float("nan")), _patient(), SITE)
