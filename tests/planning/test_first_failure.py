import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from imaging.warp import lattice
from planning.check.dvh import histograms, mean
from planning.check.first_failure import ErrorKind, as_json, first_failure
from planning.check.judge import judge
from planning.goals import parse_goal
from planning.plan import Prescription
from planning.scenarios import Scenario, scaled, setup_scenarios

RX = Prescription(60.0, 30)
EDGE = np.full(3, 40.0)
GRID = axial(-EDGE, EDGE, (4.0, 4.0, 4.0))
DRAWN = StructureSet(
    GRID,
    {
        "Near": Structure(sphere(GRID, np.zeros(3), 9.0), RoiType.ORGAN, (0, 0, 255)),
        "Far": Structure(sphere(GRID, np.array([0.0, 20.0, 0.0]), 9.0), RoiType.ORGAN, (0, 255, 0)),
    },
)
SLOPE = 0.5  # Gy/mm along x, and half of it along y


def ramp(shift):
    """A dose that rises linearly, seen by a patient who lies elsewhere."""
    x, y, _ = lattice(GRID).T
    data = 30 + SLOPE * (x + shift[0]) + SLOPE / 2 * (y + shift[1])
    return Volume(data.reshape(1, *GRID.shape), GRID, Quantity.DOSE)


def at(goals):
    return lambda scenario: judge(goals, histograms(ramp(scenario.shift), DRAWN), RX)


def kind(mm=4.0):
    return ErrorKind("set-up shift", mm, "mm", setup_scenarios(mm)[1:])


def test_the_first_goal_to_fail_on_a_ramp_is_the_one_found_by_hand():
    now = histograms(ramp((0, 0, 0)), DRAWN)
    # By hand: along +x the mean rises by 0.5 Gy a mm, so 1.1 Gy of room last 2.2 mm and 2.6 Gy 5.2 mm.
    goals = (
        parse_goal("Far", f"Dmean <= {mean(now['Far']) + 2.6:.6f} Gy"),
        parse_goal("Near", f"Dmean <= {mean(now['Near']) + 1.1:.6f} Gy"),
        parse_goal("Near", "Dmean >= 60 Gy"),
        parse_goal("Lens", "Dmax <= 10 Gy"),
    )
    found = first_failure(kind(), at(goals)(Scenario("as planned")), at(goals), halvings=10)
    assert found.fails * 4.0 == pytest.approx(2.2, abs=0.01)
    assert found.holds * 4.0 <= 2.2 <= found.fails * 4.0
    assert [(m.result.goal.structure, m.scenario) for m in found.missed] == [
        ("Near", f"{found.fails * 4:.3g} mm to the left")
    ]
    far = first_failure(kind(), at(goals[:1])(Scenario("as planned")), at(goals[:1]), halvings=10)
    assert far.fails * 4.0 == pytest.approx(5.2, abs=0.01)
    assert far.levels[0].multiple == 0.5


def test_a_lower_limit_fails_towards_the_other_side():
    near = mean(histograms(ramp((0, 0, 0)), DRAWN)["Near"])
    goals = (parse_goal("Near", f"Dmean >= {near - 1.5:.6f} Gy"),)
    found = first_failure(kind(), at(goals)(Scenario("as planned")), at(goals), halvings=10)
    assert found.fails * 4.0 == pytest.approx(3.0, abs=0.01)
    assert found.missed[0].scenario.endswith("to the right")


def test_what_holds_throughout_has_no_failure_and_what_was_missed_does_not_count():
    goals = (parse_goal("Near", "Dmean <= 50 Gy"), parse_goal("Far", "Dmean >= 50 Gy"))
    found = first_failure(kind(), at(goals)(Scenario("as planned")), at(goals))
    assert (found.fails, found.holds, found.missed) == (None, 2.0, ())
    told = json.loads(json.dumps(as_json(found)))
    assert told["fails_at"] is None
    assert told["holds_at"] == 8.0
    assert [level["size"] for level in told["levels"]] == [2.0, 4.0, 6.0, 8.0]


def test_an_error_is_followed_no_further_than_it_can_be():
    goals = (parse_goal("Near", "Dmean <= 50 Gy"),)
    found = first_failure(replace(kind(), most=1.2), at(goals)(Scenario("as planned")), at(goals))
    assert [level.multiple for level in found.levels] == [0.5, 1.0, 1.2]


def test_the_one_missed_furthest_comes_first():
    near = mean(histograms(ramp((0, 0, 0)), DRAWN)["Near"])
    goals = tuple(parse_goal("Near", f"Dmean <= {near + room:.6f} Gy") for room in (0.3, 0.1))
    found = first_failure(kind(), at(goals)(Scenario("as planned")), at(goals), multiples=(1.0,), halvings=0)
    assert [m.result.goal for m in found.missed] == [goals[1], goals[0]]
    assert as_json(found)["fails_at"] == 4.0


def test_errors_scale_with_their_names():
    shift = scaled(setup_scenarios(3.0)[1], 1.5)
    assert shift.name == "4.5 mm to the left"
    assert shift.shift == (4.5, 0.0, 0.0)
    both = scaled(Scenario("both", density_sigmas=-1.0, distortion=1.0), 0.5)
    assert both.name == "density -0.5 standard deviations, 0.5 times the MR distortion"
    assert (both.density_sigmas, both.distortion) == (-0.5, 0.5)
    assert torch.equal(ramp(scaled(shift, 0.0).shift).data, ramp((0, 0, 0)).data)


def test_the_plan_as_it_is_is_no_error():
    with pytest.raises(ValueError, match="differ from the plan"):
        ErrorKind("set-up shift", 3.0, "mm", setup_scenarios(3.0))
