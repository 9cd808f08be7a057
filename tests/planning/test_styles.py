"""Styles of planning: what a style changes in a sheet of goals, and what it leaves."""

import dataclasses

import pytest

from planning.goals import brain_goals, parse_goal, same_name
from planning.styles import Change, Style, goals_in_style, read_styles, styles


def test_balanced_style_is_the_sheet_itself() -> None:
    assert goals_in_style(brain_goals(), styles()["balanced"]) == brain_goals()


def test_conformal_style_only_adds_goals_about_the_surrounding_tissue() -> None:
    sheet = brain_goals()
    found = goals_in_style(sheet, styles()["conformal"])
    assert found[: len(sheet)] == sheet
    added = found[len(sheet) :]
    assert added
    assert {goal.structure for goal in added} == {"Surround"}


def test_sparing_style_presses_more_and_lowers_limits_of_organs_and_nothing_else() -> None:
    sheet, style = brain_goals(), styles()["sparing"]
    found = goals_in_style(sheet, style)
    assert len(found) == len(sheet)
    (change,) = style.changes
    for before, after in zip(sheet, found, strict=True):
        if any(same_name(before.structure, name) for name in change.structures):
            assert after.limit == pytest.approx(0.7 * before.limit)
            assert dataclasses.replace(after, limit=before.limit) == before
        else:
            assert after == before
    assert all(a == b for a, b in zip(sheet, found, strict=True) if a.structure in {"PTV", "Brainstem"})
    assert style.press > styles()["balanced"].press == styles()["conformal"].press == 10.0


def test_priorities_stay_within_one_and_four() -> None:
    goals = (parse_goal("A", "Dmean <= 10 Gy", priority=1), parse_goal("A", "Dmax <= 20 Gy", priority=4))
    for earlier, expected in ((3, [1, 1]), (-3, [4, 4])):
        style = Style("x", changes=(Change(("a",), earlier=earlier),))
        assert [goal.priority for goal in goals_in_style(goals, style)] == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least one style"),
        ("[x", "TOML"),
        ("x = 1", "as a table"),
        ("[x]\npress = 0", "above 0"),
        ('[x]\npress = "much"', "a number for press"),
        ("[x]\nfoo = 1", "as a table"),
        ("[[x.change]]\nearlier = 1", "structures"),
        ('[[x.change]]\nstructures = ["A"]\nlimit_factor = 0', "above 0"),
        ('[[x.change]]\nstructures = ["A"]\nearlier = 0.5', "whole number"),
        ('[[x.goal]]\nstructures = ["A"]\ngoal = "less"', "expected a goal such as"),
    ],
)
def test_bad_styles_are_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_styles(text)
