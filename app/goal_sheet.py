"""Which goals a plan is held against: the brain sheet, or a planner's own."""

from pathlib import Path

from planning.check.consistent import expect_consistent
from planning.goals import Goal, brain_goals, read_sheet

from .request import Request
from .steps import file_hash

_FILE = "goals.toml"


def goals_of(request: Request) -> tuple[Goal, ...]:
    """The goals that a plan is asked for.

    Raises
    ------
    ValueError
        If the sheet is not one, or two of its goals contradict each other.
    """
    if request.goal_sheet is None:
        return brain_goals()
    try:
        text = request.goal_sheet.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError("expected a sheet of goals in TOML, got a file that is no UTF-8 text") from None
    goals = read_sheet(text)
    expect_consistent(goals, request.prescription)
    return goals


def asked(request: Request) -> dict[str, object]:
    """What a request says of goals, for the key of a step; nothing where it says nothing."""
    return {} if request.goal_sheet is None else {"goals": file_hash(request.goal_sheet)}


def inputs(request: Request) -> dict[str, str]:
    """Hash of a planner's own sheet, for a reader."""
    return {} if request.goal_sheet is None else {"goal sheet": file_hash(request.goal_sheet)}


def parameters(request: Request) -> dict[str, str]:
    """Which sheet it was, for a reader."""
    return {"goals": "the brain sheet" if request.goal_sheet is None else "a sheet of the planner's own"}


def keep(request: Request, here: Path) -> None:
    """A planner's own sheet beside the plan that was made from it."""
    if request.goal_sheet is not None:
        (here / _FILE).write_bytes(request.goal_sheet.read_bytes())


def kept(here: Path) -> Path | None:
    """The sheet that :func:`keep` left beside a plan, where there is one."""
    path = here / _FILE
    return path if path.is_file() else None
