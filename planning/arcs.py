"""Arcs: where the gantry turns while the beam is on."""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from imaging.shapes import Point

from .beams import Beam, expect_angles

_ANGLE = r"(\d+(?:\.\d+)?)"
_WRITTEN = re.compile(rf"{_ANGLE}:{_ANGLE}:(cw|ccw)(?::{_ANGLE}:{_ANGLE})?")


@dataclass(frozen=True, eq=False)
class Arc:
    """A turn of the gantry.

    Parameters
    ----------
    start, stop
        Gantry angles at its ends (degrees).
    clockwise
        Which way it turns, seen by who faces the gantry.
    isocenter
        Position (LPS, mm).
    couch, collimator
        Angles that stay (degrees).
    step
        Degrees from one control point to the next, as even as can be.
    name
        What the machine calls it.
    """

    start: float
    stop: float
    clockwise: bool
    isocenter: Point
    couch: float = 0.0
    collimator: float = 10.0
    step: float = 2.0
    name: str = "1"

    @property
    def angles(self) -> Float64[np.ndarray, " points"]:
        """Gantry angle of each control point (degrees, 0..360).

        Raises
        ------
        ValueError
            If it turns by nothing, or its step is not between 1 and 10 degrees.
        """
        turn = (self.stop - self.start) % 360 if self.clockwise else (self.start - self.stop) % 360
        if turn == 0 or not 1 <= self.step <= 10:
            raise ValueError(
                f"expected an arc that turns, in steps of 1-10 degrees, got {self.start:g} to {self.stop:g} "
                f"in steps of {self.step:g}; start at 181 and stop at 179 for a full one"
            )
        n_spans = max(1, round(turn / self.step))
        way = np.linspace(0, turn, n_spans + 1) * (1 if self.clockwise else -1)
        return (self.start + way) % 360

    @property
    def spacing(self) -> float:
        """Degrees from one control point to the next."""
        angles = self.angles
        return float(abs((angles[1] - angles[0] + 180) % 360 - 180))

    def spans(self) -> list[Beam]:
        """Where the gantry stands on average between each control point and the next."""
        angles = self.angles
        turn = (np.diff(angles) + 180) % 360 - 180
        return [
            Beam(float(angle % 360), self.couch, self.collimator, self.isocenter, self.name)
            for angle in angles[:-1] + turn / 2
        ]


def parse_arc(text: str, isocenter: Point, step: float = 2.0, name: str = "1") -> Arc:
    """The arc written as ``181:179:cw`` or ``181:179:cw:couch:collimator`` (degrees, IEC 61217).

    Raises
    ------
    ValueError
        If the text is anything else, or the arc does not turn.
    """
    found = _WRITTEN.fullmatch(text.replace(" ", ""))
    if not found:
        raise ValueError(
            "expected an arc as start:stop:cw or start:stop:ccw, or with :couch:collimator after it, such as "
            f"181:179:cw:0:10 (degrees), got {text}"
        )
    start, stop = float(found[1]), float(found[2])
    couch, collimator = (float(angle or default) for angle, default in ((found[4], 0), (found[5], 10)))
    arc = Arc(start, stop, found[3] == "cw", isocenter, couch, collimator, step, name)
    for beam in arc.spans():
        expect_angles(beam)
    return arc
