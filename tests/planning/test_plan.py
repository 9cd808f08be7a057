import numpy as np
import pytest

from planning.beams import Beam, ControlPoint
from planning.plan import Plan, Prescription, parse_prescription
from planning.plan_file import read_plan, write_plan


def test_sixty_in_thirty():
    assert parse_prescription("60/30") == Prescription(60.0, 30)


@pytest.mark.parametrize(
    "text", ["60", "60/", "/30", "0/30", "60/0", "-60/30", "sixty/thirty", "nan/30", "60/30.5"]
)
def test_other_prescriptions_are_refused(text):
    with pytest.raises(ValueError, match="such as 60/30, got"):
        parse_prescription(text)


def test_a_plan_on_disk_is_the_same_to_the_last_bit(tmp_path):
    leaves = np.array([[-1 / 3, -0.1], [np.pi, 1e-17]])
    point = ControlPoint(1 / 7, 359.9, (-10.0, 0.1 + 0.2), (-5.0, 5.0), leaves)
    beam = Beam(40.0, 350.0, 90.0, np.array([0.1, -1 / 3, 2e-9]), "B1", 1 / 9, (point, point))
    plan = Plan((beam,), Prescription(60.0, 30), "generic-6mv")
    write_plan(plan, tmp_path / "plan.json")
    again = read_plan(tmp_path / "plan.json")
    assert again.prescription == plan.prescription
    assert (again.machine, again.name) == (plan.machine, plan.name)
    assert np.array_equal(again.beams[0].isocenter, beam.isocenter)
    assert again.beams[0].mu == beam.mu
    assert np.array_equal(again.beams[0].control_points[1].leaves, leaves)
    assert again.beams[0].control_points[0].jaws_x == point.jaws_x


def test_another_json_file_is_no_plan(tmp_path):
    (tmp_path / "plan.json").write_text('{"beams": [{}]}')
    with pytest.raises(ValueError, match="expected a plan as spindose writes it"):
        read_plan(tmp_path / "plan.json")
