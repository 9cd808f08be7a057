import json
import tomllib
from importlib import resources

import numpy as np
import pytest

from planning.check.dvh import Dvh
from planning.check.judge import as_json, judge, limit_of
from planning.goals import Comparison, Goal, about, brain_goals, parse_goal, read_sheet, same_name
from planning.plan import Prescription

RX = Prescription(60.0, 30)


def ramp(low, high, volume_cc=10.0, inside=1.0):
    """Histogram of doses spread evenly from ``low`` to ``high``."""
    return Dvh(np.linspace(low, high, 10001).astype(np.float32), volume_cc, inside)


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("D95% >= 95%", 52.0, False),
        ("D20% >= 95%", 58.0 + 0.0, True),
        ("D50% <= 55 Gy", 55.0, True),
        ("D1cc <= 58 Gy", 59.0, False),
        ("Dmean <= 107%", 55.0, True),
        ("Dmax <= 60 Gy", 60.0, True),
        ("Dmin >= 50 Gy", 50.0, True),
        ("V55Gy <= 60%", 50.0, True),
        ("V55Gy <= 4 cc", 5.0, False),
        ("V95% >= 25%", 30.0, True),
    ],
)
def test_metrics_of_an_even_spread_of_dose_are_known(text, value, met):
    dvh = ramp(50, 60)
    if text.startswith(("D95%", "D20%")):
        dvh = ramp(51.5, 61.5) if text.startswith("D95%") else ramp(50, 60)
    (result,) = judge([parse_goal("PTV", text)], {"PTV": dvh}, RX)
    assert result.value == pytest.approx(value, abs=0.01)
    assert result.met is met


def test_a_goal_is_read_as_it_is_written():
    goal = parse_goal("Lens_L", "D0.03cc <= 10 Gy", priority=3, source="here", alpha_beta=1.0)
    assert goal == Goal("Lens_L", "D0.03cc", Comparison.AT_MOST, 10.0, "Gy", 3, "here", False, 1.0)
    assert parse_goal("Lens_L", goal.text, priority=3, source="here", alpha_beta=1.0) == goal


@pytest.mark.parametrize(
    "text",
    [
        "D95%",
        "D95% > 95%",
        "E95% >= 95%",
        "V45 <= 10%",
        "V45Gy <= 10 Gy",
        "D5% <= 3 cc",
        "D101% >= 50 Gy",
        "V45Gy <= 101%",
    ],
)
def test_a_goal_that_is_not_one_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        parse_goal("PTV", text)


def test_a_goal_without_its_structure_is_not_evaluated():
    (result,) = judge([parse_goal("Lens_L", "D0.03cc <= 10 Gy")], {"PTV": ramp(0, 1)}, RX)
    assert result.met is None
    assert result.value is None
    assert as_json([result])[0]["status"] == "not evaluated"


def test_a_structure_off_the_dose_grid_is_not_evaluated():
    (result,) = judge([parse_goal("Cord", "Dmax <= 45 Gy")], {"Cord": ramp(0, 1, inside=0.6)}, RX)
    assert result.met is None
    assert "60 %" in result.reason


def test_two_structures_of_one_name_are_not_guessed_between():
    dvhs = {"Eye_L": ramp(0, 1), "eye l": ramp(50, 60)}
    (result,) = judge([parse_goal("EYE-L", "Dmax <= 45 Gy")], dvhs, RX)
    assert result.met is None


def test_names_match_without_case_and_punctuation():
    (result,) = judge([parse_goal("Brainstem", "Dmax <= 45 Gy")], {"BRAIN STEM": ramp(0, 1)}, RX)
    assert result.met is True


def test_an_eqd2_limit_in_large_fractions_is_the_physical_dose_of_the_same_effect():
    goal = parse_goal("Brainstem", "D0.03cc <= 54 Gy", alpha_beta=2.0)
    # 15 fractions of d: 15 d (d + 2) / 4 = 54 gives d² + 2 d = 14.4, d = 2.9243 Gy.
    assert limit_of(goal, Prescription(40.0, 15)) == pytest.approx(15 * (np.sqrt(15.4) - 1))
    assert limit_of(goal, Prescription(54.0, 27)) == pytest.approx(54)
    assert limit_of(goal, RX) == 54  # never looser than written


def test_the_brain_sheet_says_where_each_number_is_from():
    goals = brain_goals()
    assert all(goal.source for goal in goals)
    assert {g.text for g in about(goals, "ptv")} == {"D95% >= 95 %", "D98% >= 95 %", "D2% <= 107 %"}
    assert not any(goal.verified for goal in goals if "Lambrecht" in goal.source)
    assert {g.limit for g in about(goals, "lens l")} == {10.0}


def test_every_entry_of_the_brain_sheet_has_a_source_a_flag_and_a_priority():
    # Read as it is written: a default would hide what is left out.
    text = resources.files("planning").joinpath("goal_sheets/brain.toml").read_text("utf-8")
    for entry in tomllib.loads(text)["goal"]:
        assert set(entry) >= {"structures", "goal", "priority", "source", "verified"}
        assert len(entry["source"]) > 20
        assert isinstance(entry["verified"], bool)
        assert entry["priority"] in (1, 2, 3, 4)
        # Limits of organs are EQD2 and need their α/β; those of the target are physical.
        assert ("alpha_beta" in entry) is (entry["structures"] != ["PTV"])


@pytest.mark.parametrize(
    ("structure", "text"),
    [
        ("PTV", "D98% >= 95 %"),
        ("PTV", "D2% <= 107 %"),
        ("Brainstem", "D0.03cc <= 60 Gy"),
        ("BrainstemInterior", "D0.03cc <= 54 Gy"),
        *((name, "D0.03cc <= 55 Gy") for name in ("OpticChiasm", "OpticNerve_L", "OpticNerve_R")),
        *((f"Retina_{side}", "D0.03cc <= 45 Gy") for side in "LR"),
        *((f"Lens_{side}", "D0.03cc <= 10 Gy") for side in "LR"),
        *((f"Cornea_{side}", "D0.03cc <= 50 Gy") for side in "LR"),
        *((f"Cochlea_{side}", f"Dmean <= {limit} Gy") for side in "LR" for limit in (45, 32)),
        *((f"LacrimalGland_{side}", "Dmean <= 25 Gy") for side in "LR"),
        ("Pituitary", "Dmean <= 45 Gy"),
        ("Hippocampi", "D40% <= 7.3 Gy"),
        ("Skin", "D0.03cc <= 25 Gy"),
    ],
)
def test_the_brain_sheet_holds_every_goal_of_the_consensus_on_file(structure, text):
    assert text in {goal.text for goal in about(brain_goals(), structure)}


def test_organs_are_found_by_other_names_too():
    for name, other in (
        ("OpticNrv_L", "Optic Nerve L"),
        ("Glnd_Lacrimal_R", "LacrimalGland_R"),
        ("OpticChiasm", "chiasm"),
    ):
        assert same_name(name, other)
    assert not same_name("OpticNrv_L", "OpticNerve_R")


def test_a_sheet_with_an_unknown_word_is_refused():
    with pytest.raises(ValueError, match="unknown: prioritty"):
        read_sheet('[[goal]]\nstructures = ["PTV"]\ngoal = "D95% >= 95%"\nprioritty = 1\n')
    with pytest.raises(ValueError, match="missing: structures"):
        read_sheet('[[goal]]\ngoal = "D95% >= 95%"\n')


PTV = '[[goal]]\nstructures = ["PTV"]\ngoal = "D95% >= 95%"\n'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "a sheet of \\[\\[goal\\]\\] tables and nothing else, got none"),
        (PTV.replace("[[goal]]", "[[goals]]"), "nothing else, got goals"),
        (PTV.replace("[[goal]]", "[goal]"), "a sheet of"),
        ("goal = 3", "a sheet of"),
        ("D95% of the PTV", "sheet of goals in TOML, got something else .* line 1"),
        (PTV.replace('["PTV"]', '"PTV"'), "structures of a goal as a list of names"),
        (PTV.replace('["PTV"]', "[]"), "structures of a goal as a list of names"),
        (PTV.replace('["PTV"]', '["--"]'), "structures of a goal as a list of names"),
        (PTV.replace('"D95% >= 95%"', "95"), "the goal of a goal as a text"),
        (PTV.replace('95%"', '9.5.1%"'), "expected a goal such as"),
        (PTV.replace("D95%", "D9.5.1%"), "expected a metric such as"),
        (PTV + "priority = 0", "priority of a goal as a whole number from 1"),
        (PTV + "priority = true", "priority of a goal as a whole number from 1"),
        (PTV + 'verified = "yes"', "verified of a goal as true or false"),
        (PTV + "source = 1", "source of a goal as a text"),
        (PTV + "alpha_beta = 0", "alpha_beta of a goal as a number above 0"),
        (PTV + "alpha_beta = nan", "alpha_beta of a goal as a number above 0"),
    ],
)
def test_a_sheet_that_is_not_one_is_refused_in_one_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence) as told:
        read_sheet(text)
    assert "\n" not in str(told.value)


def test_a_goal_of_a_sheet_is_asked_of_each_of_its_structures():
    goals = read_sheet('[[goal]]\nstructures = ["Eye_L", "Eye_R"]\ngoal = "D0.03cc<=45Gy"\nalpha_beta = 3')
    assert [(g.structure, g.text, g.alpha_beta, g.priority) for g in goals] == [
        (name, "D0.03cc <= 45 Gy", 3.0, 1) for name in ("Eye_L", "Eye_R")
    ]


def test_results_are_ready_for_json():
    results = judge(brain_goals(), {"PTV": ramp(58, 61)}, RX)
    rows = json.loads(json.dumps(as_json(results)))
    assert len(rows) == len(brain_goals())
    assert {row["status"] for row in rows if row["structure"] == "PTV"} == {"met"}
