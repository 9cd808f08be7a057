"""Beams and their geometry, in the angles of IEC 61217."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from imaging.shapes import Point


@dataclass(frozen=True, eq=False)
class ControlPoint:
    """One state of the linac during a beam.

    Parameters
    ----------
    meterset
        Share of the beam's monitor units delivered when this state is reached, 0..1.
    gantry
        Gantry angle (degrees).
    jaws_x, jaws_y
        Positions of the jaw pairs (mm at the isocentre).
    leaves
        Leaf positions of bank A (X1 side) and bank B (X2 side), shape ``(2, n)``
        (mm at the isocentre).
    """

    meterset: float
    gantry: float
    jaws_x: tuple[float, float]
    jaws_y: tuple[float, float]
    leaves: Float64[np.ndarray, "2 n"]


@dataclass(frozen=True, eq=False)
class Beam:
    """Where a beam comes from and, once sequenced, what it delivers.

    Parameters
    ----------
    gantry, couch, collimator
        Angles (degrees, IEC 61217, head first supine).
    isocenter
        Position (LPS, mm).
    name
        What the machine calls it.
    mu
        Monitor units per fraction; 0 before sequencing.
    control_points
        What is delivered, in order; empty before sequencing.
    """

    gantry: float
    couch: float
    collimator: float
    isocenter: Point
    name: str = ""
    mu: float = 0.0
    control_points: tuple[ControlPoint, ...] = ()
