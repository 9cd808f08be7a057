"""A plan beam by beam: what leaves and jaws let through at each control point, as a strip or a page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from pydicom.dataset import Dataset
from pydicom.uid import RTPlanStorage

from imaging.dicom.header import software_version
from imaging.dicom.opening import complete_object, open_object
from planning.beams import Beam
from planning.check.incoming_beams import n_fractions, prescribed
from planning.plan import Prescription
from planning.rtplan_machine import Head, head_of, layer_names, treatment_beams
from planning.rtplan_reader import read_rtplan

from .review.facts import Provenance

_OPEN = 0.1  # mm that a pair must be apart to be worth showing
_AROUND = 12.0  # mm shown around what opens


@dataclass(frozen=True, eq=False)
class BeamView:
    """What is drawn of one beam.

    Parameters
    ----------
    beam
        Its angles, monitor units and control points.
    edges
        Edges of the leaf pairs (mm) of each layer, the upper one first.
    jaws
        Axes that jaws move along, of "x" and "y".
    energy_mv
        Nominal energy (MV), where the plan says it.
    """

    beam: Beam
    edges: tuple[Float64[np.ndarray, " _"], ...]
    jaws: tuple[str, ...]
    energy_mv: float | None

    @property
    def gantry(self) -> Float64[np.ndarray, " points"]:
        """Gantry angle at each control point (degrees)."""
        return np.array([point.gantry for point in self.beam.control_points])

    @property
    def shares(self) -> Float64[np.ndarray, " points"]:
        """Share of the monitor units delivered at each control point."""
        return np.array([point.meterset for point in self.beam.control_points])

    @property
    def is_arc(self) -> bool:
        """Whether the gantry turns."""
        return bool(np.abs(self.gantry - self.gantry[0]).max() > 1e-3)

    def layers(self, point: int) -> list[Float64[np.ndarray, "2 pairs"]]:
        """Leaf positions of each layer at a control point (mm)."""
        ends = np.cumsum([0, *(len(edges) - 1 for edges in self.edges)])
        return [self.beam.control_points[point].leaves[:, a:b] for a, b in pairwise(ends)]

    def facts(self) -> dict[str, str]:
        """The beam in words."""
        said = {
            "Monitor units": f"{self.beam.mu:.1f}",
            "Control points": str(len(self.beam.control_points)),
            "Gantry": self._turn() if self.is_arc else f"{self.gantry[0]:g}°",
            "Collimator": f"{round(self.beam.collimator, 3):g}°",
            "Couch": f"{round(self.beam.couch, 3):g}°",
        }
        return said if self.energy_mv is None else {**said, "Energy": f"{self.energy_mv:g} MV"}

    def _turn(self) -> str:
        """From where to where the gantry turns, and which way, seen by who faces it."""
        steps = (np.diff(self.gantry) + 180) % 360 - 180
        ends = f"{self.gantry[0]:g}° to {self.gantry[-1]:g}°"
        if steps.min() < 0 < steps.max():
            return f"{ends}, back and forth"
        return f"{ends}, {'clockwise' if steps.sum() > 0 else 'counter-clockwise'}"


@dataclass(frozen=True, eq=False)
class PlanView:
    """What is drawn of a plan; it names no patient.

    Parameters
    ----------
    beams
        Its beams.
    facts
        The plan in words.
    provenance
        Which file it is.
    """

    beams: tuple[BeamView, ...]
    facts: Mapping[str, str]
    provenance: Provenance


def plan_view(rtplan: Path, fraction_group: int | None = None) -> PlanView:
    """What is drawn of an RTPLAN, whose leaves need no machine that is described here.

    Parameters
    ----------
    rtplan
        The plan.
    fraction_group
        Number of the fraction group, where there are several.

    Raises
    ------
    ValueError
        If the plan cannot be read.
    """
    header = open_object(rtplan, RTPlanStorage)
    with complete_object("RT Plan"):
        heads = {_name(item): head_of(item) for item in treatment_beams(header)}
        dose, fractions = prescribed(header), n_fractions(header)
    # A picture needs no prescription, and not every plan has one.
    plan = read_rtplan(rtplan, prescription=Prescription(1.0, 1), fraction_group=fraction_group)
    beams = tuple(_beam_view(beam, heads[beam.name]) for beam in plan.beams)
    facts = {
        "Beams": str(len(beams)),
        "Monitor units": f"{sum(beam.mu for beam in plan.beams):.1f} a fraction",
        "Machine": plan.machine or "not named",
    }
    if dose is not None and fractions is not None:
        facts["Prescription"] = f"{dose:g} Gy in {fractions} fractions"
    digest = sha256(rtplan.read_bytes()).hexdigest()
    return PlanView(beams, facts, Provenance(software_version(), inputs={"RTPLAN": digest}))


def _name(item: Dataset) -> str:
    return str(item.get("BeamName") or f"Beam {int(item.BeamNumber)}")


def _beam_view(beam: Beam, head: Head) -> BeamView:
    edges = tuple(head.leaves[name] for name in layer_names(head))
    return BeamView(beam, edges, head.jaws, head.energy_mv)


def window(shown: BeamView) -> tuple[float, float, float]:
    """Centre and half side of the square that holds all that a beam ever opens (mm)."""
    spans = [span for n in range(len(shown.beam.control_points)) for span in _opened(shown, n)]
    low_x, high_x, low_y, high_y = np.array(spans or [(-50.0, 50.0, -50.0, 50.0)]).T
    ends = low_x.min(), high_x.max(), low_y.min(), high_y.max()
    half = max(ends[1] - ends[0], ends[3] - ends[2]) / 2 + _AROUND
    return float(ends[0] + ends[1]) / 2, float(ends[2] + ends[3]) / 2, float(half)


def _opened(shown: BeamView, n: int) -> Iterator[tuple[float, float, float, float]]:
    """What each layer opens at a control point, within the jaws: low x, high x, low y, high y (mm)."""
    point = shown.beam.control_points[n]
    for edges, (left, right) in zip(shown.edges, shown.layers(n), strict=True):
        from_x, to_x = np.maximum(left, point.jaws_x[0]), np.minimum(right, point.jaws_x[1])
        from_y, to_y = np.maximum(edges[:-1], point.jaws_y[0]), np.minimum(edges[1:], point.jaws_y[1])
        seen = (to_x - from_x > _OPEN) & (to_y - from_y > _OPEN)
        if seen.any():
            yield from_x[seen].min(), to_x[seen].max(), from_y[seen].min(), to_y[seen].max()
    if not shown.edges:
        yield (*point.jaws_x, *point.jaws_y)
