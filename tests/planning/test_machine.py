import numpy as np
import pytest

from planning.beams import Beam
from planning.dose.calibration import fluence_per_mu, reference_dose
from planning.machine import expect_in_range, load_machine, machines


def test_every_machine_that_is_listed_loads_under_its_name():
    assert machines()
    for name in machines():
        assert load_machine(name).name == name


def test_an_unknown_machine_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"expected one of the machines .*generic-6mv"):
        load_machine("../generic-6mv")


def test_generic_leaves_are_eighty_pairs_of_five_millimetres():
    boundaries = load_machine("generic-6mv").mlc.boundaries
    np.testing.assert_array_equal(boundaries, np.arange(-200, 201, 5))


def test_the_monitor_unit_follows_from_its_calibration():
    machine = load_machine("generic-6mv")
    assert machine.fluence_per_mu == pytest.approx(fluence_per_mu(machine), rel=1e-5)


def test_small_to_reference_field_at_ten_centimetres_is_as_published_for_the_model():
    # Same kernels in pyRadPlan 0.5.0: 0.831.
    machine = load_machine("generic-6mv")
    assert reference_dose(machine, 30.0) / reference_dose(machine) == pytest.approx(0.831, abs=1e-3)


@pytest.mark.parametrize("angles", [(0.0, 180.0, 0.0), (0.0, 100.0, 0.0), (400.0, 0.0, 0.0)])
def test_angles_that_the_machine_cannot_turn_to_are_refused(angles):
    with pytest.raises(ValueError, match="angle"):
        expect_in_range(Beam(*angles, np.zeros(3)), load_machine("generic-6mv"))


@pytest.mark.parametrize("angles", [(180.0, 0.0, 0.0), (360.0, 270.0, 180.0), (0.0, 90.0, 359.0)])
def test_angles_within_the_range_pass_however_they_are_counted(angles):
    beam = Beam(*angles, np.zeros(3))
    assert expect_in_range(beam, load_machine("generic-6mv")) is beam
