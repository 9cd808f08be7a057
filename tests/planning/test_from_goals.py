import numpy as np
import pytest
import torch

from planning.check.dvh import Dvh
from planning.check.judge import judge
from planning.goals import parse_goal
from planning.optimise.dose_volume import AtLeast, AtMost, HottestMean, Mean, MinDvh
from planning.optimise.fluence import Ended, minimise
from planning.optimise.from_goals import Sample, all_met, objectives_for
from planning.optimise.objectives import SquaredMean, SquaredOverdose, evaluate, prepare
from planning.plan import Prescription

RX = Prescription(60.0, 30)
REGIONS = {"PTV": torch.arange(100), "Hippocampi": torch.arange(100, 300), "Lens_L": torch.arange(300, 320)}
DRAWN = Sample(np.zeros((320, 3)), REGIONS, {"PTV": 100.0, "Hippocampi": 8.0, "Lens_L": 0.2})
# A term aims within its limit by these factors: see the module.
BELOW, ABOVE = 0.95, 1.02


def only(structure, text, **fields):
    """The terms of one goal, without those that every plan has."""
    goals = [parse_goal(structure, text, **fields)]
    always = objectives_for([], DRAWN, "PTV", RX)
    return [term for term in objectives_for(goals, DRAWN, "PTV", RX) if term not in always]


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("Dmax <= 40 Gy", SquaredOverdose("Hippocampi", BELOW * 40 / 30, 20.0)),
        ("D2% <= 40 Gy", SquaredOverdose("Hippocampi", BELOW * 40 / 30, 20.0)),
        ("D0.03cc <= 40 Gy", SquaredOverdose("Hippocampi", BELOW * 40 / 30, 20.0)),
        ("V40Gy <= 1%", SquaredOverdose("Hippocampi", BELOW * 40 / 30, 20.0)),
        ("D40% <= 7.5 Gy", AtMost("Hippocampi", HottestMean(40.0), BELOW * 7.5 / 30, 20.0)),
        ("D2cc <= 15 Gy", AtMost("Hippocampi", HottestMean(25.0), BELOW * 15 / 30, 20.0)),
        ("V12Gy <= 40%", AtMost("Hippocampi", HottestMean(40.0), BELOW * 12 / 30, 20.0)),
        ("V20% <= 4 cc", AtMost("Hippocampi", HottestMean(50.0), BELOW * 12 / 30, 20.0)),
        ("D9cc <= 15 Gy", SquaredOverdose("Hippocampi", BELOW * 15 / 30, 20.0)),
        ("Dmean <= 9 Gy", SquaredMean("Hippocampi", BELOW * 9 / 30, 20.0)),
        ("Dmean >= 9 Gy", AtLeast("Hippocampi", Mean(), ABOVE * 9 / 30, 20.0)),
        ("D95% >= 30 Gy", MinDvh("Hippocampi", ABOVE * 30 / 30, 95.0, 20.0)),
        ("Dmin >= 30 Gy", MinDvh("Hippocampi", ABOVE * 30 / 30, 100.0, 20.0)),
        ("V30Gy >= 4 cc", MinDvh("Hippocampi", ABOVE * 30 / 30, 50.0, 20.0)),
    ],
)
def test_every_metric_has_its_term(text, term):
    assert only("hippocampi", text, priority=3) == [term]


def test_a_limit_on_a_drop_of_a_lens_is_one_on_its_maximum():
    assert only("Lens_L", "D0.03cc <= 10 Gy") == [SquaredOverdose("Lens_L", BELOW * 10 / 30, 100.0)]


def test_the_targets_own_terms_stand_for_what_its_prescription_meets():
    for text in ("D95% >= 95%", "D98% >= 57 Gy", "D2% <= 107%", "V95% >= 98%", "Dmax <= 66 Gy"):
        assert only("PTV", text) == []
    assert only("PTV", "D50% >= 110%") == [MinDvh("PTV", ABOVE * 66 / 30, 50.0, 100.0)]
    assert only("PTV", "Dmax <= 55 Gy") == [SquaredOverdose("PTV", BELOW * 55 / 30, 100.0)]


@pytest.mark.parametrize(
    "text",
    ["D40% <= 20 Gy", "D2cc <= 20 Gy", "V20Gy <= 30%", "Dmax <= 20 Gy", "D95% >= 20 Gy", "V20Gy >= 6 cc"],
)
def test_a_dose_whose_terms_are_zero_meets_its_goals(text):
    goals = [parse_goal("Hippocampi", text)]
    terms = only("Hippocampi", text)
    random, n_zero = np.random.default_rng(0), 0
    for _ in range(200):
        doses = np.sort(random.uniform(0, 40) + random.uniform(0, 20) * random.random(200)).astype(np.float32)
        dose = torch.cat([torch.zeros(100), torch.from_numpy(doses) / 30, torch.zeros(20)])
        if evaluate(terms, REGIONS, dose)[0] == 0:
            n_zero += 1
            assert judge(goals, {"Hippocampi": Dvh(doses, 8.0)}, RX)[0].met
    assert n_zero > 10


def test_goals_that_contradict_each_other_are_refused_before_planning():
    goals = [parse_goal("PTV", "D95% >= 95%"), parse_goal("PTV", "Dmax <= 50%")]
    with pytest.raises(ValueError, match="got PTV D95% >= 95 % and PTV Dmax <= 50 %"):
        objectives_for(goals, DRAWN, "PTV", RX)
    # 0.03 cc of a lens of 0.2 cc are 15 %.
    goals = [parse_goal("Lens_L", "D50% >= 9 Gy"), parse_goal("Lens_L", "D0.03cc <= 8 Gy")]
    with pytest.raises(ValueError, match=r"got Lens_L D50% >= 9 Gy and Lens_L D0\.03cc <= 8 Gy"):
        objectives_for(goals, DRAWN, "PTV", RX)


def test_a_search_stops_at_the_first_dose_that_meets_all_goals():
    goals = [
        parse_goal("PTV", "D95% >= 95%"),
        parse_goal("Hippocampi", "Dmean <= 20 Gy"),
        parse_goal("Chiasm", "Dmax <= 1 Gy"),
    ]
    met = all_met(goals, DRAWN, RX)
    random = torch.Generator().manual_seed(0)
    matrix = 0.9 + 0.2 * torch.rand(320, 30, generator=random)
    matrix[100:] *= 0.3 * torch.rand(30, generator=random)
    parts = (
        lambda w: matrix @ w,
        lambda g: matrix.T @ g,
        prepare(objectives_for(goals, DRAWN, "PTV", RX), REGIONS, like=matrix),
        torch.full((30,), 0.01),
    )
    answers = []
    found = minimise(*parts, stop=lambda dose: answers.append(met(dose)) or answers[-1])
    assert found.ended is Ended.GOALS_MET
    dose = (matrix @ found.weights * 30).numpy()
    assert np.quantile(dose[:100], 0.05, method="hazen") >= 57
    assert dose[100:300].mean() <= 20
    assert answers == [False] * (len(found.history) - 1) + [True]


def test_where_nothing_can_be_judged_nothing_is_met():
    assert not all_met([parse_goal("Chiasm", "Dmax <= 1 Gy")], DRAWN, RX)(torch.zeros(320))
    assert all_met([parse_goal("Lens_L", "Dmax <= 1 Gy")], DRAWN, RX)(torch.zeros(320))
