"""Figures of a plan as the body that QATrack+ takes for a performed test list.

After its API guide (docs/api/guide.rst, the state of QATrack+ 3.1 to 3.2, "Uploading Data"): ``POST
/api/qa/testlistinstances/`` with ``unit_test_collection``, ``work_started``, ``work_completed``,
``tests`` by macro name and ``attachments`` in base64. Nothing is sent: a site posts the file with its token.

A QATrack+ defines its units, lists and tolerances itself, so a sheet says which figure is which test::

    unit_test_collection = "https://qatrack.example/api/qa/unittestcollections/327/"
    comment = "Plan check"

    [tests]
    ptv_d95 = "structures/PTV/d95_gy"
    gamma = "independent/gamma_3_2_percent"
    ptv_covered = "goals/PTV D95% >= 95 %/met"
"""

import base64
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from imaging.atomic import whole_file
from imaging.dicom.header import RESEARCH_ONLY, software_version

# What QATrack+ calls a macro name: a variable of Python.
_SLUG = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_COLLECTION = re.compile(r"(?:https?://[^/\s]+)?/\S*qa/unittestcollections/\d+/", re.ASCII)
_WORDS = {"unit_test_collection": str, "tests": dict, "comment": str, "day": int, "in_progress": bool}


@dataclass(frozen=True)
class TestList:
    """A test list of somebody's QATrack+.

    Parameters
    ----------
    unit_test_collection
        URL of the list as it is assigned to a unit.
    tests
        Which figure each test takes, by macro name: the way to it through the evaluation, with slashes.
    comment
        Of the whole list.
    day
        Which day of a cycle of lists; None for a list that stands alone.
    in_progress
        Whether somebody will go on with it in QATrack+.
    """

    __test__ = False  # not a test of pytest's, for all its name

    unit_test_collection: str
    tests: Mapping[str, str]
    comment: str = ""
    day: int | None = None
    in_progress: bool = False


def expect_both(out: Path | None, sheet: Path | None) -> None:
    """Refuse a body without the sheet that says what goes in it, and the other way round.

    Raises
    ------
    ValueError
        If only one of them is given.
    """
    if (out is None) != (sheet is None):
        raise ValueError(
            "expected --qatrack FILE.json together with --qatrack-list FILE.toml, which names the list of "
            "your QATrack+ and the figure for each of its tests; got one of them"
        )


def read_test_list(path: Path) -> TestList:
    """The list that a TOML sheet describes.

    Raises
    ------
    ValueError
        If the sheet is not TOML, says something else, names no list or no test, or a name that
        QATrack+ cannot have.
    """
    try:
        told: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ValueError("expected a list of tests in TOML, got something else; correct it") from None
    wrong = [word for word, value in told.items() if type(value) is not _WORDS.get(word)]
    if wrong or not {"unit_test_collection", "tests"} <= set(told):
        raise ValueError(
            f"expected unit_test_collection (a URL), [tests], and comment, day or in_progress, got "
            f"{', '.join(wrong) or 'less'}; correct the list"
        )
    if not _COLLECTION.fullmatch(told["unit_test_collection"]):
        raise ValueError(
            "expected the URL of a list on a unit, such as "
            f"https://HOST/api/qa/unittestcollections/327/, got {told['unit_test_collection']!r}"
        )
    bad = [
        slug for slug, way in told["tests"].items() if not (_SLUG.fullmatch(slug) and isinstance(way, str))
    ]
    if bad or not told["tests"]:
        raise ValueError(
            "expected tests by macro name (letters, digits, _) with the way to a figure, got "
            f"{', '.join(map(repr, bad)) or 'no test'}; correct the list"
        )
    return TestList(**told)


def body(
    wanted: TestList,
    found: Mapping[str, object],
    started: datetime,
    completed: datetime,
    attachments: Sequence[Path] = (),
) -> dict[str, object]:
    """The body of the request.

    A figure that the evaluation could not give is a skipped test with the reason, never a value.

    Parameters
    ----------
    wanted
        The list and its tests.
    found
        What :func:`app.evaluate.evaluate_plan` gives.
    started, completed
        When the evaluation began and ended, with their time zone.
    attachments
        Files that go along, in base64, by their file name.

    Raises
    ------
    ValueError
        If a test asks for something that no evaluation has, or the times are the wrong way round.
    """
    if completed < started:
        raise ValueError("expected work to end after it began, got it the other way round")
    told: dict[str, object] = {
        "unit_test_collection": wanted.unit_test_collection,
        "in_progress": wanted.in_progress,
        "work_started": started.isoformat(timespec="seconds"),
        "work_completed": completed.isoformat(timespec="seconds"),
        "comment": " ".join(
            filter(None, [wanted.comment, f"Spindose {software_version()}. {RESEARCH_ONLY}."])
        ),
        "tests": {slug: _test(found, way) for slug, way in wanted.tests.items()},
        "attachments": [_attachment(path) for path in attachments],
    }
    return told if wanted.day is None else {**told, "day": wanted.day}


def write_body(
    path: Path,
    wanted: TestList,
    found: Mapping[str, object],
    started: datetime,
    completed: datetime,
    attachments: Sequence[Path] = (),
) -> None:
    """The same as a JSON file; parameters as in :func:`body`."""
    told = body(wanted, found, started, completed, attachments)
    with whole_file(path) as part:
        part.write_text(json.dumps(told, indent=1, allow_nan=False), encoding="utf-8")


def _test(found: Mapping[str, object], way: str) -> dict[str, object]:
    """One test: the figure that the way leads to."""
    value: object = found
    for number, word in enumerate(way.split("/")):
        if isinstance(value, Mapping) and "not_evaluated" in value:
            return _skipped(str(value["not_evaluated"]))
        value = _next(value, word, way, top=number == 0)
        if value is None:
            return _skipped(f"{way} was not evaluated")
    if isinstance(value, bool):
        return {"value": int(value)}
    if isinstance(value, int | float | str):
        return {"value": value}
    raise ValueError(
        f"expected the way to one figure, got {way!r}, which leads to several; go on to one of them"
    )


def _next(value: object, word: str, way: str, *, top: bool) -> object:
    if isinstance(value, Mapping):
        if word in value or not top:
            return value.get(word)
        raise ValueError(f"expected a way that begins with one of {', '.join(value)}, got {way!r}")
    if isinstance(value, list):
        return next((one for one in value if word in _names(one)), None)
    return None


def _names(entry: Mapping[str, object]) -> tuple[str, ...]:
    """What an entry of a list goes by: a goal by its structure and text, a model by its name."""
    return (f"{entry.get('structure', '')} {entry.get('goal', '')}", str(entry.get("model", "")))


def _skipped(reason: str) -> dict[str, object]:
    return {"value": None, "skipped": True, "comment": reason}


def _attachment(path: Path) -> dict[str, str]:
    return {
        "filename": path.name,
        "value": base64.b64encode(path.read_bytes()).decode("ascii"),
        "encoding": "base64",
    }
