import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.check.mri_only import bulk_water, mri_only_check
from planning.dose.forward import calculate
from planning.machine import load_machine
from planning.plan import Plan, Prescription

MACHINE = load_machine("generic-6mv")
EDGE = np.array([42.5, 62.5, 42.5])
GRID = axial(-EDGE, EDGE, (5.0, 5.0, 5.0))
RX = Prescription(60.0, 30)
DRAWN = StructureSet(
    GRID,
    {
        "CTV": Structure(sphere(GRID, np.zeros(3), 12.0), RoiType.CTV, (255, 0, 0)),
        "Organ": Structure(sphere(GRID, np.array([0.0, 45.0, 0.0]), 12.0), RoiType.ORGAN, (0, 0, 255)),
    },
)
# Water all over but for one slab, which the beam from the front crosses before the target.
WATER = Volume(torch.ones(1, *GRID.shape), GRID, Quantity.DENSITY)
SLAB = slice(4, 8)


def with_slab(density):
    data = WATER.data.clone()
    data[:, :, SLAB] = density
    return Volume(data, GRID, Quantity.DENSITY)


def plan():
    leaves = np.full((2, len(MACHINE.mlc.boundaries) - 1), 25.0)
    leaves[0] *= -1
    points = tuple(ControlPoint(m, 0.0, (-25.0, 25.0), (-25.0, 25.0), leaves) for m in (0.0, 1.0))
    return Plan((Beam(0.0, 0.0, 0.0, np.zeros(3), "1", 200.0, points),), RX, MACHINE.name)


def checked(density, true=None):
    dose = calculate(plan(), density, GRID, MACHINE)
    truth = None if true is None else calculate(plan(), true, GRID, MACHINE)
    return mri_only_check(plan(), density, DRAWN, MACHINE, dose, true_dose=truth)


def test_on_water_everywhere_the_difference_from_bulk_water_is_none():
    found = checked(WATER)
    for one in found.from_water.values():
        assert {v for key, v in one.items() if "difference" in key} == {0.0}
    assert found.water_agrees
    assert found.from_truth is None
    assert found.truth_agrees is None
    assert found.targets == ("CTV",)


def test_bone_before_the_target_takes_what_attenuation_says():
    bone = 1.6
    found = checked(with_slab(bone))
    # 20 mm of bone instead of water are 12 mm of water more before the target. Only the part of the dose
    # beyond the build-up that is primary falls as exp(-m t); scatter makes up for some of it.
    m = MACHINE.beam.attenuation
    on_water = found.from_water["CTV"]["mean_gy"]
    ratio = 1 + found.from_water["CTV"]["mean_difference_gy"] / on_water
    assert np.exp(-m * 12) - 0.01 < ratio < np.exp(-m * 12) + 0.02
    percent = found.from_water["CTV"]["mean_difference_percent"]
    assert percent == pytest.approx(100 * (ratio - 1) * on_water / RX.dose_gy, abs=0.01)


def test_the_true_ct_is_the_reference_of_its_own_differences():
    found = checked(WATER, with_slab(1.6))
    # The synthetic CT missed the bone: it promises the target more than it gets.
    assert found.from_truth["CTV"]["mean_difference_percent"] > 1
    assert found.truth_agrees is False
    assert found.water_agrees
    same = checked(with_slab(1.6), with_slab(1.6))
    assert same.truth_agrees is True
    assert same.from_truth["Organ"]["d2_difference_gy"] == 0


def test_a_synthetic_ct_that_is_far_from_water_does_not_agree():
    found = checked(Volume(WATER.data * 1.3, GRID, Quantity.DENSITY))
    assert found.water_agrees is False


def test_bulk_water_fills_the_air_in_a_body_and_nothing_outside():
    data = torch.zeros(1, *GRID.shape)
    data[:, 4:12, 4:20, 4:12] = 1.02
    data[:, 6:8, 6:8, 6:8] = 0.001
    water = bulk_water(Volume(data, GRID, Quantity.DENSITY)).data
    assert torch.equal(water, (data > 0).float())


def test_a_volume_that_is_no_dose_is_refused():
    with pytest.raises(ValueError, match="expected a volume in Gy"):
        mri_only_check(plan(), WATER, DRAWN, MACHINE, WATER)
