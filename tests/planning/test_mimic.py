"""Plans that mimic a dose, and organs that are pressed: a ball to treat beside two organs in a cylinder."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import axial, positions
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.arrange import arrange
from planning.check.dvh import dose_at_cc, dose_at_share, histograms, mean
from planning.check.judge import GoalResult, judge
from planning.dose.forward import calculate
from planning.goals import brain_goals, parse_goal
from planning.machine import load_machine
from planning.optimise.automatic import plan_automatically
from planning.optimise.from_goals import sample
from planning.optimise.making import Task
from planning.optimise.mimic import Likeness, mimicking, plan_mimicking
from planning.optimise.pressing import lowered
from planning.optimise.settings import Settings
from planning.optimise.voxelwise import MimicDvh
from planning.plan import Prescription

RX = Prescription(60.0, 30)
EDGE = np.array([70.0, 80.0, 60.0])
FINE = axial(-EDGE, EDGE, (2.5, 2.5, 2.5))
COARSE = axial(-EDGE, EDGE, (5.0, 5.0, 5.0))
POINTS = positions(FINE, np.argwhere(np.ones(FINE.shape)).astype(np.float64))


def ball(center: tuple[float, float, float], radius: float) -> torch.Tensor:
    inside = ((POINTS - np.array(center)) ** 2).sum(axis=1) <= radius**2
    return torch.from_numpy(inside.reshape(FINE.shape))


BODY = torch.from_numpy((np.hypot(POINTS[:, 0] / 65, POINTS[:, 1] / 75) <= 1).reshape(FINE.shape))
DRAWN = StructureSet(
    FINE,
    {
        "Body": Structure(BODY, RoiType.EXTERNAL, (0, 255, 0)),
        "Brainstem": Structure(ball((-8, 8, -12), 9), RoiType.ORGAN, (0, 0, 255)),
        "OpticChiasm": Structure(ball((18, -34, -12), 5), RoiType.ORGAN, (0, 0, 255)),
        "PTV": Structure(ball((18, -10, 10), 16), RoiType.PTV, (255, 0, 0), 60.0),
    },
)
WATER = Volume(BODY[None].float(), FINE, Quantity.DENSITY)
QUICK = Settings(n_segments=25, leaf_iterations=20, n_rounds=0, max_iterations=25)
MACHINE = load_machine("generic-6mv")
GOALS = brain_goals()
TASK = Task(WATER, DRAWN, RX, MACHINE, arrange(DRAWN, 5), GOALS, COARSE, settings=QUICK)


def dose_of(plan):
    return calculate(plan, WATER, COARSE, MACHINE)


def spared(dose):
    """Hottest 0.03 cc of both organs (Gy)."""
    found = histograms(dose, DRAWN)
    return [dose_at_cc(found[name], 0.03) for name in ("Brainstem", "OpticChiasm")]


@pytest.fixture(scope="module")
def pressed():
    return dose_of(plan_automatically(replace(TASK, settings=replace(QUICK, n_presses=3)))[0])


@pytest.fixture(scope="module")
def plain():
    return dose_of(plan_automatically(TASK)[0])


def test_pressed_organs_receive_less_and_no_goal_is_lost(pressed, plain):
    for less, more in zip(spared(pressed), spared(plain), strict=True):
        assert less < 0.9 * more
    for dose in (pressed, plain):
        assert [r.goal.text for r in judge(GOALS, histograms(dose, DRAWN), RX) if r.met is False] == []


def test_a_limit_is_lowered_below_what_was_reached_and_never_raised():
    goal = parse_goal("Brainstem", "D0.03cc <= 54 Gy")
    reached = GoalResult(goal, 30.0, 54.0, "Gy", True)
    assert lowered(reached).limit == pytest.approx(24.0)
    assert lowered(replace(reached, value=100.0)).limit == 54.0
    share = parse_goal("Brainstem", "V20Gy <= 40 %")
    assert lowered(GoalResult(share, 10.0, 40.0, "%", True)) == replace(share, limit=8.0)


def test_a_plan_that_mimics_a_dose_spares_what_that_dose_spares(pressed, plain):
    made = dose_of(plan_mimicking(TASK, pressed)[0])
    for got, wanted, without in zip(spared(made), spared(pressed), spared(plain), strict=True):
        assert abs(got - wanted) < 0.5 * (without - wanted)
    assert [r.goal.text for r in judge(GOALS, histograms(made, DRAWN), RX) if r.met is False] == []


def test_the_target_is_covered_whatever_the_reference_says(pressed):
    cold = replace(pressed, data=0.3 * pressed.data)
    made = histograms(dose_of(plan_mimicking(TASK, cold)[0]), DRAWN)
    assert dose_at_share(made["PTV"], 95.0) >= 0.95 * RX.dose_gy
    assert mean(made["Brainstem"]) < 20.0


def test_corrections_only_lower_the_number_of_missed_goals(pressed):
    hard = (*GOALS, parse_goal("OpticChiasm", f"D0.03cc <= {spared(pressed)[1] + 1:.2f} Gy"))
    missed = []
    for n in (0, 3):
        task = replace(TASK, goals=hard, settings=replace(QUICK, n_corrections=n))
        plan, _ = plan_mimicking(task, pressed)
        missed.append(sum(r.met is False for r in judge(hard, histograms(dose_of(plan), DRAWN), RX)))
    assert missed[1] <= missed[0]


def test_a_reference_without_dose_in_the_target_is_refused(pressed):
    drawn = sample(DRAWN, COARSE, ["Brainstem"])
    nothing = replace(pressed, data=torch.zeros_like(pressed.data))
    with pytest.raises(ValueError, match="expected a reference dose in the target, got none"):
        mimicking(nothing, GOALS, drawn, "PTV", RX, Likeness())
    against = [parse_goal("PTV", "D95% >= 60 Gy"), parse_goal("PTV", "D2% <= 50 Gy")]
    with pytest.raises(ValueError, match="expected"):
        mimicking(pressed, against, drawn, "PTV", RX, Likeness())
    with pytest.raises(ValueError, match="a share of points"):
        Likeness(share=0.0)


def test_a_histogram_like_the_reference_costs_nothing_wherever_its_dose_lies():
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(50, generator=generator, dtype=torch.float64)
    share = torch.full((50,), 1 / 50, dtype=torch.float64)
    term = MimicDvh("Organ", reference, over=2.0, under=1.0, priority=3.0)
    assert term.term(reference.flip(0), share)[0] == pytest.approx(0.0, abs=1e-12)
    # A whole histogram that is moved: the square of the way, times what it counts.
    assert term.term(reference + 0.1, share)[0] == pytest.approx(3 * 2 * 0.01)
    assert term.term(reference - 0.1, share)[0] == pytest.approx(3 * 1 * 0.01)
    dose = torch.rand(50, generator=generator, dtype=torch.float64)
    value, slope = term.term(dose, share)
    for n in (0, 17, 49):
        step = torch.zeros_like(dose)
        step[n] = 1e-7
        assert (term.term(dose + step, share)[0] - value) / 1e-7 == pytest.approx(float(slope[n]), abs=1e-4)
    with pytest.raises(ValueError, match="expected a value for each of the 50 points"):
        MimicDvh("Organ", reference[:10]).term(dose, share)
