"""What a machine cannot take is refused, whatever made the plan."""

from dataclasses import replace

import numpy as np
import pytest

from planning.beams import Beam, ControlPoint
from planning.deliverable import expect_deliverable
from planning.machine import load_machine
from planning.parking import closed, jaws_around
from planning.plan import Plan, Prescription

NAMES = ("generic-6mv", "millennium-6mv", "agility-6mv", "stacked-6mv")


def _plan(machine, change=None, **state):
    """A small field in the middle; ``change`` edits its leaves."""
    field = ((-20.0, 20.0), (-10.0, 10.0))
    jaws_x, jaws_y = jaws_around(machine, *field)
    leaves = closed(machine, field[0], 6.0)
    first = 0
    for edges in machine.mlc.layers:
        middle = first + len(edges) // 2
        leaves[:, middle - 2 : middle + 2] = [[-20.0], [20.0]]
        first += len(edges) - 1
    if change is not None:
        change(leaves)
    point = ControlPoint(0.0, 0.0, jaws_x, jaws_y, leaves)
    points = (replace(point, **state), replace(point, meterset=1.0, **state))
    beam = Beam(0.0, 0.0, 0.0, np.zeros(3), "A", 50.0, points)
    return Plan((beam,), Prescription(2.0, 1), machine.name)


@pytest.mark.parametrize("name", NAMES)
def test_a_field_around_the_axis_can_be_delivered_by_every_machine(name):
    machine = load_machine(name)
    plan = _plan(machine)
    assert expect_deliverable(plan, machine) is plan


def _far(leaves):
    leaves[:, 0] = 134.0


def _narrow(leaves):
    leaves[:, 20] = 0.0, 0.3


def _over(leaves):
    leaves[:, 5] = 155.0


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("millennium-6mv", _far, "expected leaves of one bank at most 145 mm apart in beam A, got 160.5 mm"),
        (
            "millennium-6mv",
            _narrow,
            "expected leaf pairs closed or open by 0.5 mm in beam A, got one open by",
        ),
        ("agility-6mv", _over, "expected leaves at most 150 mm beyond the axis in beam A"),
        ("stacked-6mv", _over, "expected leaves within 140 mm and jaws within 140 mm"),
    ],
)
def test_leaves_that_cannot_stand_so_are_refused(name, change, says):
    machine = load_machine(name)
    with pytest.raises(ValueError, match=says):
        expect_deliverable(_plan(machine, change), machine)


@pytest.mark.parametrize(("name", "axis"), [("agility-6mv", "x"), ("stacked-6mv", "x"), ("stacked-6mv", "y")])
def test_jaws_that_a_machine_has_not_cannot_be_set(name, axis):
    machine = load_machine(name)
    with pytest.raises(ValueError, match=f"expected the full opening along {axis} in beam A, where {name}"):
        expect_deliverable(_plan(machine, **{f"jaws_{axis}": (-20.0, 20.0)}), machine)


def test_positions_of_one_layer_only_are_refused():
    machine = load_machine("stacked-6mv")
    with pytest.raises(ValueError, match="expected 57 leaf pairs in beam A, got 29"):
        expect_deliverable(_plan(machine, leaves=np.zeros((2, 29))), machine)


def test_neighbours_pass_each_other_only_where_they_may():
    machine = load_machine("generic-6mv")

    def passing(leaves):
        leaves[:] = [[-60.0], [60.0]]
        leaves[:, 40] = -50.0, -20.0
        leaves[:, 41] = -10.0, 30.0

    expect_deliverable(_plan(machine, passing), machine)
    stiff = replace(machine, mlc=replace(machine.mlc, interdigitation=False))
    with pytest.raises(
        ValueError, match="expected leaves that do not pass the opposite leaves of their neigh"
    ):
        expect_deliverable(_plan(machine, passing), stiff)
