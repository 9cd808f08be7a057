"""What a review page shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from imaging.shapes import Point
from imaging.structures import StructureSet
from imaging.volume import Volume


@dataclass(frozen=True, eq=False)
class Curve:
    """A cumulative dose–volume histogram.

    Parameters
    ----------
    structure
        Name of the structure; one that the page's structure set holds takes its colour.
    dose_gy
        Doses, ascending (Gy).
    volume_percent
        Share of the structure's volume that receives at least each dose (%).
    """

    structure: str
    dose_gy: Float64[np.ndarray, " n"]
    volume_percent: Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class GoalRow:
    """One clinical goal and what became of it.

    Parameters
    ----------
    structure, goal, value
        In words, such as ``PTV``, ``D95% ≥ 57.0 Gy``, ``58.2 Gy``.
    met
        Whether it is met; None where it was not evaluated.
    source
        Where the goal comes from.
    """

    structure: str
    goal: str
    value: str
    met: bool | None
    source: str = ""


@dataclass(frozen=True)
class CheckRow:
    """One figure of a comparison, such as a gamma pass rate, and what was expected of it."""

    what: str
    value: str
    expected: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from; no field may name a patient.

    Parameters
    ----------
    version
        Of the software.
    seed
        Of every random choice; None where there was none.
    inputs
        SHA-256 of each input, by what it is (never by its file name or the patient's).
    parameters
        What was asked for, in words.
    notes
        Anything else worth knowing, one sentence each.
    """

    version: str
    seed: int | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ReviewPage:
    """Everything on a review page.

    Parameters
    ----------
    title
        Heading; must not name a patient.
    scans
        Backgrounds by name, the first shown first.
    doses
        Doses (Gy) by name, the first shown first; the second is also compared with it.
    structures
        Contours.
    prescription_gy
        Prescribed dose, to which isodose lines are relative.
    provenance
        Where all of it comes from.
    curves
        Dose–volume histograms by what they were computed on; the first set is drawn solid, the
        second dashed, any other dotted.
    goals
        Clinical goals.
    checks
        Comparison with another calculation.
    facts
        Short statements under the heading, such as ``Technique``: ``7 beams, step and shoot``.
    center
        Where the planes meet at first (LPS, mm); by default the target's centre.
    """

    title: str
    scans: Mapping[str, Volume]
    doses: Mapping[str, Volume]
    structures: StructureSet
    prescription_gy: float
    provenance: Provenance
    curves: Mapping[str, tuple[Curve, ...]] = field(default_factory=dict)
    goals: tuple[GoalRow, ...] = ()
    checks: tuple[CheckRow, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    center: Point | None = None

    def __post_init__(self) -> None:
        if not self.scans or not self.doses:
            raise ValueError("expected at least one scan and one dose to review, got none; pass both")
        if not self.prescription_gy > 0:
            raise ValueError(f"expected a prescription above 0 Gy, got {self.prescription_gy:g}")
