"""What a plan is asked to reach: dose–volume goals and the sheets that list them."""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any

_NUMBER = r"\d+(?:\.\d+)?"
_METRIC = re.compile(
    rf"D(?P<share>{_NUMBER})%|D(?P<cc>{_NUMBER})cc|V(?P<level>{_NUMBER})(?P<of>Gy|%)|Dmean|Dmax|Dmin",
    re.ASCII,
)
_GOAL = re.compile(
    rf"(?P<metric>\S+?)\s*(?P<comparison><=|>=)\s*(?P<limit>{_NUMBER})\s*(?P<unit>Gy|%|cc)", re.ASCII
)
# What each word of a sheet may hold, and how one says so.
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "structures": (
        lambda v: isinstance(v, list) and bool(v) and all(isinstance(n, str) and _letters(n) for n in v),
        'a list of names such as ["PTV"]',
    ),
    "goal": (lambda v: isinstance(v, str), "a text such as 'D95% >= 95%'"),
    "priority": (lambda v: type(v) is int and 1 <= v <= 4, "a whole number from 1 (given up last) to 4"),
    "source": (lambda v: isinstance(v, str), "a text"),
    "verified": (lambda v: isinstance(v, bool), "true or false"),
    "alpha_beta": (lambda v: type(v) in (int, float) and 0 < v <= 100, "a number above 0 and at most 100 Gy"),
}


class Comparison(StrEnum):
    """Which way a value must lie from its limit."""

    AT_LEAST = ">="
    AT_MOST = "<="


@dataclass(frozen=True)
class Goal:
    """One demand on one structure, such as ``D95% >= 95 %`` on the PTV.

    Parameters
    ----------
    structure
        Name of the structure; case and punctuation do not matter when it is looked up.
    metric
        ``D95%`` (dose that 95 % of the volume receives at least), ``D0.03cc``, ``V45Gy`` or ``V95%``
        (volume that receives at least 45 Gy, or 95 % of the prescription), ``Dmean``, ``Dmax``, ``Dmin``.
    comparison
        Which way the value must lie from the limit.
    limit
        The limit, in ``unit``.
    unit
        For a dose ``Gy`` or ``%`` of the prescription; for a volume ``%`` of the structure or ``cc``.
    priority
        1 comes first: what to give up last.
    source
        Where the number comes from.
    verified
        Whether it was read there, rather than taken from a secondary source.
    alpha_beta
        α/β (Gy) where the limit is an equivalent dose in 2 Gy fractions; None for a physical dose.

    Raises
    ------
    ValueError
        If the metric or the unit is not one of these, they do not fit each other, or there is more than
        100 % of a volume.
    """

    structure: str
    metric: str
    comparison: Comparison
    limit: float
    unit: str
    priority: int = 1
    source: str = ""
    verified: bool = False
    alpha_beta: float | None = None

    def __post_init__(self) -> None:
        if not _METRIC.fullmatch(self.metric):
            raise ValueError(
                f"expected a metric such as D95%, D0.03cc, V45Gy, V95%, Dmean or Dmax, got {self.metric}"
            )
        units = ("%", "cc") if self.metric.startswith("V") else ("Gy", "%")
        if self.unit not in units:
            raise ValueError(f"expected the limit of {self.metric} in {' or '.join(units)}, got {self.unit}")
        kind, number = parts(self.metric)
        shares = [number] * (kind == "D%") + [self.limit] * (kind.startswith("V") and self.unit == "%")
        if any(share > 100 for share in shares):
            raise ValueError(f"expected at most 100 % of a volume, got {self.text}; correct the goal")

    @property
    def text(self) -> str:
        """The demand as one writes it, without its structure."""
        return f"{self.metric} {self.comparison} {self.limit:g} {self.unit}"


# Letters of names that AAPM TG-263 has other words for.
_ALSO_CALLED = {"opticnerve": "opticnrv", "lacrimalgland": "glndlacrimal"}


def parse_goal(structure: str, text: str, **fields: object) -> Goal:
    """The goal written as ``D95% >= 95%``, ``Dmean <= 45 Gy`` or ``V12Gy <= 5 cc``.

    Parameters
    ----------
    structure
        What it is asked of.
    text
        The demand.
    fields
        Priority, source, verified and alpha_beta of :class:`Goal`.

    Raises
    ------
    ValueError
        If the text is anything else.
    """
    found = _GOAL.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"expected a goal such as 'D95% >= 95%', 'Dmean <= 45 Gy' or 'V12Gy <= 5 cc', got '{text}'"
        )
    return Goal(
        structure,
        found["metric"],
        Comparison(found["comparison"]),
        float(found["limit"]),
        found["unit"],
        **fields,  # type: ignore[arg-type]
    )


def read_sheet(text: str) -> tuple[Goal, ...]:
    """The goals of a TOML sheet: ``[[goal]]`` tables with ``structures``, ``goal`` and the rest.

    Raises
    ------
    ValueError
        If the text is not TOML, holds no goal or anything else, or a table lacks structures or a goal,
        holds a word that is not known, or something that its word does not stand for.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(
            f"expected a sheet of goals in TOML, got something else ({error}); correct it"
        ) from None
    entries = tables.pop("goal", None)
    if tables or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(
            "expected a sheet of [[goal]] tables and nothing else, got "
            f"{', '.join(sorted(tables)) or 'none'}; correct the sheet"
        )
    return tuple(goal for entry in entries for goal in _goals_of(entry))


def _goals_of(entry: Mapping[str, Any]) -> list[Goal]:
    """One table of a sheet: the same demand on each of its structures."""
    missing, unknown = {"structures", "goal"} - set(entry), set(entry) - set(_FIELDS)
    if missing or unknown:
        raise ValueError(
            f"expected goals with {', '.join(sorted(_FIELDS))}; missing: "
            f"{', '.join(sorted(missing)) or 'none'}, unknown: {', '.join(sorted(unknown)) or 'none'}"
        )
    for word, value in entry.items():
        fits, said = _FIELDS[word]
        if not fits(value):
            raise ValueError(f"expected the {word} of a goal as {said}, got {value!r}; correct the sheet")
    fields = {key: value for key, value in entry.items() if key not in {"structures", "goal"}}
    if "alpha_beta" in fields:
        fields["alpha_beta"] = float(fields["alpha_beta"])
    return [parse_goal(name, entry["goal"], **fields) for name in entry["structures"]]


def brain_goals() -> tuple[Goal, ...]:
    """The goals for a glioma in the brain that the project ships."""
    return read_sheet(resources.files("planning").joinpath("goal_sheets/brain.toml").read_text("utf-8"))


def parts(metric: str) -> tuple[str, float]:
    """Kind and number of a metric, such as ``("D%", 95.0)``, ``("VGy", 45.0)`` or ``("Dmean", 0.0)``."""
    found = _METRIC.fullmatch(metric)
    if found is None:
        raise ValueError(f"expected a metric such as D95%, D0.03cc, V45Gy, Dmean or Dmax, got {metric}")
    if found["share"]:
        return "D%", float(found["share"])
    if found["cc"]:
        return "Dcc", float(found["cc"])
    if found["level"]:
        return f"V{found['of']}", float(found["level"])
    return metric, 0.0


def same_name(name: str, other: str) -> bool:
    """Whether two structure names differ only in case, punctuation or how an organ is also called."""
    return _letters(name) == _letters(other)


def about(goals: Sequence[Goal], structure: str) -> tuple[Goal, ...]:
    """The goals of one structure."""
    return tuple(goal for goal in goals if same_name(goal.structure, structure))


def _letters(name: str) -> str:
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    for other, usual in _ALSO_CALLED.items():
        letters = letters.replace(other, usual)
    return "opticchiasm" if letters == "chiasm" else letters
