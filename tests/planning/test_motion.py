"""Delivery takes as long as the slowest part of the machine needs."""

from dataclasses import replace

import numpy as np
import pytest

from planning.beams import Beam, ControlPoint
from planning.machine import Limits, load_machine
from planning.motion import delivery_seconds, schedule
from planning.plan import Plan, Prescription

LIMITS = Limits(max_gantry_speed=6.0, max_leaf_speed=25.0, max_jaw_speed=20.0, max_dose_rate=600.0)
MACHINE = replace(load_machine("generic-6mv"), limits=LIMITS)


def _beam(*states, mu=100.0):
    """States: meterset, gantry, leaf A of the first pair, jaw X1."""
    points = []
    for meterset, gantry, leaf, jaw in states:
        leaves = np.stack([np.zeros(80), np.full(80, 10.0)])
        leaves[0, 0] = leaf
        points.append(ControlPoint(meterset, gantry, (jaw, 50.0), (-50.0, 50.0), leaves))
    return Beam(points[0].gantry, 0.0, 0.0, np.zeros(3), "1", mu, tuple(points))


@pytest.mark.parametrize(
    ("last", "seconds"),
    [
        ((1.0, 2.0, 0.0, -50.0), 10.0),  # 100 MU at 600 MU/min
        ((1.0, 90.0, 0.0, -50.0), 15.0),  # 90 degrees at 6 degrees/s
        ((1.0, 0.0, -500.0, -50.0), 20.0),  # 500 mm at 25 mm/s
        ((1.0, 0.0, 0.0, -450.0), 20.0),  # 400 mm at 20 mm/s
    ],
)
def test_the_slowest_part_sets_the_time(last, seconds):
    found = schedule(_beam((0.0, 0.0, 0.0, -50.0), last), MACHINE)
    assert found.seconds[0] == pytest.approx(seconds)


def test_no_part_exceeds_its_limit_and_one_reaches_it():
    generator = np.random.default_rng(3)
    shares = np.sort(np.r_[0, generator.random(20), 1])
    states = [(s, 3.0 * n, -30 * generator.random(), -50.0) for n, s in enumerate(shares)]
    found = schedule(_beam(*states, mu=150.0), MACHINE)
    used = np.stack([found.gantry / 6, found.leaf / 25, found.jaw / 20, found.dose_rate / 600])
    np.testing.assert_allclose(used.max(axis=0), 1.0)


def test_an_arc_across_zero_turns_the_short_way():
    found = schedule(_beam((0.0, 358.0, 0.0, -50.0), (1.0, 2.0, 0.0, -50.0), mu=1.0), MACHINE)
    assert found.seconds[0] == pytest.approx(4 / 6)


def test_fields_follow_one_another_as_fast_as_the_gantry_turns():
    one, other = (_beam((0.0, g, 0.0, -50.0), (1.0, g, 0.0, -50.0)) for g in (0.0, 180.0))
    plan = Plan((one, other), Prescription(2.0, 1), MACHINE.name)
    assert delivery_seconds(plan, MACHINE) == pytest.approx(10 + 30 + 10)


def test_an_unsequenced_beam_is_refused():
    with pytest.raises(ValueError, match="expected control points in beam A, got 0; sequence the plan first"):
        schedule(Beam(0.0, 0.0, 0.0, np.zeros(3), "A"), MACHINE)
