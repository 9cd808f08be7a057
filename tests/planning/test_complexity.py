"""Complexity of apertures whose scores follow from their definition."""

import numpy as np
import pytest

from planning.beams import Beam, ControlPoint
from planning.check.complexity import complexity
from planning.machine import load_machine
from planning.plan import Plan, Prescription

MACHINE = load_machine("generic-6mv")


def _plan(*shapes, mu=200.0):
    """Shapes as pairs of left and right of the 20 pairs in the middle, held evenly, static between."""
    points = []
    for n, (left, right) in enumerate(shapes):
        leaves = np.zeros((2, 80))
        leaves[0, 30:50], leaves[1, 30:50] = left, right
        points += [
            ControlPoint(end / len(shapes), 0.0, (-100.0, 100.0), (-50.0, 50.0), leaves) for end in (n, n + 1)
        ]
    return Plan(
        (Beam(0.0, 0.0, 0.0, np.zeros(3), "1", mu, tuple(points)),), Prescription(2.0, 1), MACHINE.name
    )


def test_an_open_rectangle_has_score_one():
    found = complexity(_plan((-50.0, 50.0)), MACHINE)
    assert found.modulation_score == pytest.approx(1.0)
    assert found.area_mm2 == pytest.approx(100 * 100)
    assert found.small_share == 0
    assert found.mu_per_gray == pytest.approx(100.0)


def test_half_the_opening_half_of_the_time_scores_three_quarters():
    # Aperture area variability: (1 + 1/2) / 2; neighbouring leaves stand alike.
    found = complexity(_plan((-50.0, 50.0), (-50.0, 0.0)), MACHINE)
    assert found.modulation_score == pytest.approx(0.75)


def test_leaves_that_stand_in_turn_score_nothing():
    left = np.where(np.arange(20) % 2, -50.0, -20.0)
    assert complexity(_plan((left, np.full(20, 50.0))), MACHINE).modulation_score == pytest.approx(0.0)


def test_a_staircase_scores_by_its_steps():
    # One bank rises evenly in 19 steps: each neighbour differs by 1/19 of the whole way.
    left = np.linspace(-50.0, 0.0, 20)
    found = complexity(_plan((left, np.full(20, 50.0))), MACHINE)
    assert found.modulation_score == pytest.approx(18 / 19)


def test_narrow_openings_are_counted():
    right = np.where(np.arange(20) < 5, -42.0, 50.0)
    assert complexity(_plan((np.full(20, -50.0), right)), MACHINE).small_share == pytest.approx(0.25)


def test_jaws_close_what_leaves_leave_open():
    plan = _plan((-120.0, 120.0))
    assert complexity(plan, MACHINE).area_mm2 == pytest.approx(200 * 100)


def test_a_plan_without_monitor_units_is_refused():
    with pytest.raises(ValueError, match="expected beams with monitor units, got none"):
        complexity(_plan((-50.0, 50.0), mu=0.0), MACHINE)


def test_behind_two_layers_an_opening_is_what_both_leave_open():
    machine = load_machine("stacked-6mv")
    leaves = np.zeros((2, machine.mlc.n_pairs))
    # Pairs -5 to 5 and 5 to 15 mm above, 0 to 10 mm below: 0 to 10 mm, as wide as the narrower one.
    leaves[:, 14], leaves[:, 15], leaves[:, 29 + 14] = (-50.0, 50.0), (-50.0, 50.0), (-30.0, 50.0)
    full = (-140.0, 140.0)
    points = tuple(ControlPoint(share, 0.0, full, full, leaves) for share in (0.0, 1.0))
    plan = Plan((Beam(0.0, 0.0, 0.0, np.zeros(3), "1", 50.0, points),), Prescription(2.0, 1), machine.name)
    found = complexity(plan, machine)
    assert found.area_mm2 == pytest.approx(10 * 80)
    assert found.modulation_score == pytest.approx(1.0)
