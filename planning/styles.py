"""Planning styles: what a planner changes in the same sheet of goals."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from .goals import Goal, read_sheet, same_name

SURROUND = "Surround"  # tissue around the target, which styles may ask something of
_WORDS = {"about", "change", "goal", "press"}
_CHANGE = {"structures", "earlier", "limit_factor"}


@dataclass(frozen=True)
class Change:
    """What a style changes in the goals of some structures.

    Parameters
    ----------
    structures
        Their names.
    earlier
        By how much their priorities come earlier; none comes before 1 or after 4.
    limit_factor
        What their limits are multiplied by.

    Raises
    ------
    ValueError
        If no structure is named or the factor is not above 0.
    """

    structures: tuple[str, ...]
    earlier: int = 0
    limit_factor: float = 1.0

    def __post_init__(self) -> None:
        if not self.structures or not self.limit_factor > 0:
            raise ValueError(
                "expected a change of named structures with a limit_factor above 0, got "
                f"{len(self.structures)} names and {self.limit_factor}; correct the style"
            )


@dataclass(frozen=True)
class Style:
    """A way of planning.

    Parameters
    ----------
    name
        What it is called.
    about
        What it stands for, in a sentence.
    changes
        What it changes in goals that are there.
    added
        Goals that it adds.
    press
        Priority of sparing organs beyond their goals (:mod:`planning.optimise.pressing`).

    Raises
    ------
    ValueError
        If that priority is not above 0.
    """

    name: str
    about: str = ""
    changes: tuple[Change, ...] = ()
    added: tuple[Goal, ...] = ()
    press: float = 10.0

    def __post_init__(self) -> None:
        if not self.press > 0:
            raise ValueError(f"expected a style with press above 0, got {self.press}; correct it")


def goals_in_style(goals: Sequence[Goal], style: Style) -> tuple[Goal, ...]:
    """The goals as a style has them: those it names changed, those it adds last, all others as they are."""
    out = list(goals)
    for change in style.changes:
        out = [_changed(goal, change) for goal in out]
    return (*out, *style.added)


@cache
def styles() -> Mapping[str, Style]:
    """The styles that the project ships, by name."""
    return read_styles(resources.files("planning").joinpath("styles.toml").read_text("utf-8"))


def read_styles(text: str) -> dict[str, Style]:
    """Styles of a TOML text: a table for each, with ``about``, ``change`` and ``goal`` tables.

    Raises
    ------
    ValueError
        If the text is not TOML, holds no style, or a style holds anything else.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"expected styles in TOML, got something else ({error}); correct it") from None
    if not tables:
        raise ValueError("expected at least one style, got none; write a table for each")
    return {name: _style(name, table) for name, table in tables.items()}


def _style(name: str, table: Any) -> Style:
    if not isinstance(table, dict) or set(table) - _WORDS:
        raise ValueError(f"expected style {name} as a table of {', '.join(sorted(_WORDS))}; correct it")
    added = read_sheet(_written(table["goal"])) if table.get("goal") else ()
    press = table.get("press", Style.press)
    if type(press) not in (int, float):
        raise ValueError(f"expected style {name} with a number for press, got {press!r}; correct it")
    changes = tuple(map(_change, table.get("change", [])))
    return Style(name, str(table.get("about", "")), changes, added, float(press))


def _change(entry: Any) -> Change:
    fits = (
        isinstance(entry, dict)
        and not set(entry) - _CHANGE
        and isinstance(entry.get("structures"), list)
        and all(isinstance(one, str) for one in entry["structures"])
        and type(entry.get("earlier", 0)) is int
        and type(entry.get("limit_factor", 1.0)) in (int, float)
    )
    if not fits:
        raise ValueError(
            "expected a change with structures (names), earlier (whole number) and limit_factor (number), "
            f"got {entry!r}; correct the style"
        )
    factor = float(entry.get("limit_factor", 1.0))
    return Change(tuple(entry["structures"]), entry.get("earlier", 0), factor)


def _written(entries: Sequence[Mapping[str, Any]]) -> str:
    """Goals as a sheet of their own, so that one reader says what a goal is.

    Texts, numbers and lists of them are the same in JSON and TOML.
    """
    return "\n".join(
        "[[goal]]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in entry.items())
        for entry in entries
    )


def _changed(goal: Goal, change: Change) -> Goal:
    if not any(same_name(goal.structure, name) for name in change.structures):
        return goal
    priority = min(max(goal.priority - change.earlier, 1), 4)
    return replace(goal, priority=priority, limit=goal.limit * change.limit_factor)
