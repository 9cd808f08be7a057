import numpy as np
import pytest

from planning.check.consistent import expect_consistent
from planning.check.dvh import Dvh
from planning.check.judge import judge
from planning.goals import brain_goals, parse_goal
from planning.plan import Prescription

RX = Prescription(60.0, 30)


def sheet(*texts, structure="PTV"):
    return [parse_goal(structure, text) for text in texts]


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("D95% >= 95%", "Dmax <= 50%"),
        ("D98% >= 57 Gy", "D2% <= 56 Gy"),
        ("Dmin >= 40 Gy", "Dmax <= 39 Gy"),
        ("Dmin >= 40 Gy", "D0.03cc <= 39 Gy"),
        ("D0.03cc >= 60 Gy", "Dmax <= 59 Gy"),
        ("D5cc >= 30 Gy", "D1cc <= 29 Gy"),
        ("Dmean >= 50 Gy", "Dmax <= 49 Gy"),
        ("Dmean >= 50 Gy", "Dmean <= 49 Gy"),
        ("D95% >= 60 Gy", "Dmean <= 50 Gy"),
        ("V60Gy >= 90%", "Dmean <= 53 Gy"),
        ("V95% >= 98%", "D50% <= 50 Gy"),
        ("V40Gy >= 20%", "V40Gy <= 10%"),
        ("V50Gy >= 20%", "V40Gy <= 19%"),
        ("D20% >= 45 Gy", "V45Gy <= 10%"),
        ("V45Gy >= 10 cc", "V45Gy <= 5 cc"),
        ("Dmean >= 100%", "Dmax <= 59 Gy"),
    ],
)
def test_goals_that_no_dose_can_meet_are_refused_and_both_named(asked, allowed):
    low, high = sheet(asked, allowed)
    for goals in ([low, high], [high, low]):
        with pytest.raises(ValueError, match="expected goals that one dose can meet") as told:
            expect_consistent(goals, RX)
        assert f"PTV {low.text} and PTV {high.text}" in str(told.value)


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("D95% >= 95%", "D2% <= 107%"),
        ("D2% >= 60 Gy", "D98% <= 10 Gy"),
        ("Dmax >= 60 Gy", "Dmean <= 10 Gy"),
        ("Dmin >= 40 Gy", "Dmax <= 40 Gy"),
        ("D10% >= 45 Gy", "V45Gy <= 10%"),
        ("V40Gy >= 20%", "V41Gy <= 10%"),
        ("D95% >= 60 Gy", "Dmean <= 57 Gy"),
        ("Dmean >= 50 Gy", "D50% <= 40 Gy"),
        ("D50% >= 50 Gy", "D0.03cc <= 40 Gy"),
    ],
)
def test_goals_that_some_dose_meets_are_let_pass(asked, allowed):
    expect_consistent(sheet(asked, allowed), RX)


def test_with_its_volume_a_structure_has_its_cubic_centimetres_compared_with_percent():
    goals = sheet("D50% >= 50 Gy", "D0.03cc <= 40 Gy")
    with pytest.raises(ValueError, match=r"D50% >= 50 Gy and PTV D0\.03cc <= 40 Gy"):
        expect_consistent(goals, RX, {"ptv": 1.0})
    # Of a structure of 0.04 cc, 0.03 cc are three quarters.
    expect_consistent(goals, RX, {"ptv": 0.04})


def test_structures_of_other_names_do_not_contradict_each_other():
    expect_consistent([*sheet("D95% >= 95%"), *sheet("Dmax <= 10 Gy", structure="Brainstem")], RX)
    with pytest.raises(ValueError, match="brain stem Dmin >= 50 Gy and BrainStem Dmax <= 10 Gy"):
        expect_consistent(
            [
                *sheet("Dmax <= 10 Gy", structure="BrainStem"),
                *sheet("Dmin >= 50 Gy", structure="brain stem"),
            ],
            RX,
        )


def test_an_equivalent_dose_is_compared_as_the_physical_dose_that_it_is():
    # 54 Gy in 2 Gy fractions at α/β 2 Gy are 15 (√15.4 - 1) = 43.9 Gy in 15 fractions.
    goals = [parse_goal("PTV", "Dmax <= 54 Gy", alpha_beta=2.0), *sheet("Dmin >= 44 Gy")]
    expect_consistent(goals, RX)
    with pytest.raises(ValueError, match="change one of them"):
        expect_consistent(goals, Prescription(40.0, 15))


def test_the_brain_sheet_is_consistent_in_any_usual_prescription():
    for prescription in (RX, Prescription(54.0, 30), Prescription(40.0, 15), Prescription(59.4, 33)):
        expect_consistent(brain_goals(), prescription)


def test_goals_that_a_dose_meets_are_never_refused():
    texts = [
        f"{metric} {side} {limit}"
        for metric in ("D95%", "D50%", "D5%", "D1cc", "D8cc", "Dmean", "Dmax", "Dmin")
        for side in ("<=", ">=")
        for limit in ("20 Gy", "50%", "45 Gy")
    ] + [
        f"{metric} {side} {limit}"
        for metric in ("V20Gy", "V30Gy", "V75%")
        for side in ("<=", ">=")
        for limit in ("10%", "50%", "1 cc", "8 cc")
    ]
    random = np.random.default_rng(0)
    goals, n_met = sheet(*texts), 0
    for _ in range(30):
        low, high = np.sort(random.uniform(0, 70, 2))
        doses = np.sort(low + (high - low) * random.random(2001) ** random.uniform(0.2, 5)).astype(np.float32)
        met = [r.goal for r in judge(goals, {"PTV": Dvh(doses, 10.0)}, RX) if r.met]
        expect_consistent(met, RX)
        expect_consistent(met, RX, {"PTV": 10.0})
        n_met += len(met)
    assert n_met > 500
