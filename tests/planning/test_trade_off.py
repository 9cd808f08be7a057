import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.phantoms import ellipsoid, sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.arrange import arrange
from planning.goals import Comparison, brain_goals, parse_goal
from planning.machine import load_machine
from planning.optimise.dose_volume import AtMost, Eud, HottestMean, Mean
from planning.optimise.from_goals import Sample
from planning.optimise.objectives import SquaredOverdose, SquaredUnderdose
from planning.optimise.trade_off import dose_at, find_goal, trade_off, wish
from planning.plan import Prescription

RX = Prescription(60.0, 30)
EDGE = np.array([60.0, 60.0, 40.0])
GRID = axial(-EDGE, EDGE, (5.0, 5.0, 5.0))
BODY = ellipsoid(GRID, np.zeros(3), EDGE - 4)
DRAWN = StructureSet(
    GRID,
    {
        "Body": Structure(BODY, RoiType.EXTERNAL, (0, 255, 0)),
        "PTV": Structure(sphere(GRID, np.array([12.0, 0, 0]), 14.0), RoiType.PTV, (255, 0, 0), 60.0),
        "Brainstem": Structure(sphere(GRID, np.array([-8.0, 0, 0]), 10.0), RoiType.ORGAN, (0, 0, 255)),
    },
)
WATER = Volume(BODY[None].float(), GRID, Quantity.DENSITY)
POINTS = Sample(
    np.zeros((4, 3)), {"PTV": torch.arange(4), "Brainstem": torch.arange(4)}, {"PTV": 9.0, "Brainstem": 2.0}
)


def made(first, second):
    pair = (find_goal(first, brain_goals(), DRAWN), find_goal(second, brain_goals(), DRAWN))
    machine = load_machine("generic-6mv")
    return trade_off(
        pair, WATER, DRAWN, RX, machine, arrange(DRAWN, 3), brain_goals(), GRID, n_points=5, max_iterations=60
    )


@pytest.fixture(scope="module")
def found():
    return made("PTV D98%", "Brainstem D0.03cc")


def test_coverage_is_traded_for_the_organ_beside_the_target(found):
    covered = found.front.metrics["PTV D98% >= 95 %"]
    spared = found.front.metrics["Brainstem D0.03cc <= 60 Gy"]
    # The two are followed by convex terms, not by themselves: neighbours may differ by a little.
    assert covered[0] > covered[-1] + 1.5
    assert spared[0] > spared[-1] + 15
    assert (np.diff(covered) < 0.2).all()
    assert (np.diff(spared) < 0.5).all()


def test_dose_along_the_front_is_the_mixture_of_its_nodes(found):
    middle = float(found.front.places[1:3].mean())
    torch.testing.assert_close(dose_at(found, middle), found.doses[1:3].mean(dim=0), rtol=1e-5, atol=1e-4)
    assert torch.equal(dose_at(found, 0.0), found.doses[0])


def test_goals_that_one_plan_meets_best_are_refused():
    # Two names of one wish: whatever is good for one is good for the other.
    with pytest.raises(ValueError, match="pull against each other"):
        made("PTV D98% >= 95 %", "PTV D95% >= 95 %")


def test_one_number_twice_is_refused():
    with pytest.raises(ValueError, match=r"got PTV D98% twice"):
        made("PTV D98%", "ptv D98% >= 90 %")


def test_a_goal_is_found_by_its_words():
    by_sheet = find_goal("ptv d98%", brain_goals(), DRAWN)
    assert (by_sheet.structure, by_sheet.metric, by_sheet.comparison) == ("PTV", "D98%", Comparison.AT_LEAST)
    told = find_goal("Brainstem Dmean<=20 Gy", brain_goals(), DRAWN)
    assert (told.structure, told.metric, told.limit) == ("Brainstem", "Dmean", 20)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Lens D2%", "structures: Body, PTV"),
        ("Brainstem Dmean", "which way is better"),
        ("", "a structure and"),
    ],
)
def test_a_goal_that_nobody_can_mean_is_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        find_goal(text, brain_goals(), DRAWN)


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("D98% >= 95%", SquaredUnderdose("Brainstem", 2.0)),
        ("V95% >= 98%", SquaredUnderdose("Brainstem", 1.9)),
        ("V30Gy <= 20%", SquaredOverdose("Brainstem", 1.0)),
        ("Dmean <= 30 Gy", AtMost("Brainstem", Mean(), 0.0)),
        ("D40% <= 7 Gy", AtMost("Brainstem", HottestMean(40.0), 0.0)),
        ("D0.03cc <= 54 Gy", AtMost("Brainstem", Eud(12.0), 0.0)),
        ("D1cc <= 54 Gy", AtMost("Brainstem", HottestMean(50.0), 0.0)),
    ],
)
def test_each_kind_of_goal_has_a_convex_term_without_its_limit(text, term):
    assert wish(parse_goal("brainstem", text), POINTS, RX) == term
