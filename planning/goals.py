"""What a plan is asked to reach: dose–volume goals and the sheets that list them."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources

_METRIC = re.compile(r"D(?P<share>[\d.]+)%|D(?P<cc>[\d.]+)cc|V(?P<level>[\d.]+)(?P<of>Gy|%)|Dmean|Dmax|Dmin")
_GOAL = re.compile(r"(?P<metric>\S+)\s*(?P<comparison><=|>=)\s*(?P<limit>[\d.]+)\s*(?P<unit>Gy|%|cc)")
_FIELDS = {"structures", "goal", "priority", "source", "verified", "alpha_beta"}


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
        If a table lacks structures or a goal, or holds a word that is not known.
    """
    goals: list[Goal] = []
    for entry in tomllib.loads(text).get("goal", []):
        missing, unknown = {"structures", "goal"} - set(entry), set(entry) - _FIELDS
        if missing or unknown:
            raise ValueError(
                f"expected goals with {', '.join(sorted(_FIELDS))}; missing: "
                f"{', '.join(sorted(missing)) or 'none'}, unknown: {', '.join(sorted(unknown)) or 'none'}"
            )
        fields = {key: value for key, value in entry.items() if key not in {"structures", "goal"}}
        if "alpha_beta" in fields:
            fields["alpha_beta"] = float(fields["alpha_beta"])
        goals += [parse_goal(name, entry["goal"], **fields) for name in entry["structures"]]
    return tuple(goals)


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
    """Whether two structure names differ only in case and punctuation."""
    return _letters(name) == _letters(other)


def about(goals: Sequence[Goal], structure: str) -> tuple[Goal, ...]:
    """The goals of one structure."""
    return tuple(goal for goal in goals if same_name(goal.structure, structure))


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
