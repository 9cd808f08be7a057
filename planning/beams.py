"""Beams and their geometry, in the angles of IEC 61217."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from imaging.shapes import Point, Points


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


def expect_angles(beam: Beam) -> Beam:
    """This beam, if its angles and its isocentre can be.

    Raises
    ------
    ValueError
        If an angle is outside 0..360 degrees or the isocentre is not finite.
    """
    for name in ("gantry", "couch", "collimator"):
        angle = getattr(beam, name)
        if not 0 <= angle <= 360:
            raise ValueError(f"expected a {name} angle of 0-360 degrees (IEC 61217), got {angle:g}")
    if not np.isfinite(beam.isocenter).all():
        raise ValueError("expected a finite isocentre in LPS mm; give it as x, y, z")
    return beam


def is_arc(beam: Beam) -> bool:
    """Whether the gantry turns while it delivers."""
    return any(point.gantry != beam.control_points[0].gantry for point in beam.control_points)


def n_segments(beam: Beam) -> int:
    """How many spans between control points deliver something: segments of a standing field."""
    return sum(last.meterset > first.meterset for first, last in pairwise(beam.control_points))


def bev_axes(beam: Beam) -> Float64[np.ndarray, "3 3"]:
    """Rows: the x, y and z axis of the beam limiting device in LPS, head first supine.

    IEC 61217. At gantry 0, couch 0, collimator 0 the source is in front of (above) the patient,
    x points to the patient's left, y to the head, z to the source.

    - gantry, degrees: clockwise as seen by who faces the gantry from the foot end; 90 puts the
      source at the patient's left.
    - couch, degrees: the table turns counter-clockwise as seen from above; in the patient's frame
      the source turns the other way, so gantry 90 with couch 270 enters through the vertex.
    - collimator, degrees: counter-clockwise as seen from the source.
    """
    g, c, k = np.deg2rad([beam.gantry, -beam.couch, beam.collimator])
    gantry = np.array([[np.cos(g), 0, -np.sin(g)], [0, 1, 0], [np.sin(g), 0, np.cos(g)]])
    collimator = np.array([[np.cos(k), np.sin(k), 0], [-np.sin(k), np.cos(k), 0], [0, 0, 1]])
    couch = np.array([[np.cos(c), np.sin(c), 0], [-np.sin(c), np.cos(c), 0], [0, 0, 1]])
    # Rows: the fixed system's x, y and z, which are the patient's left, head and front.
    to_lps = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    return collimator @ gantry @ couch @ to_lps


def source_position(beam: Beam, sad: float) -> Point:
    """Where the radiation comes from (LPS, mm), ``sad`` mm from the isocentre."""
    return beam.isocenter + sad * bev_axes(beam)[2]


def to_bev(beam: Beam, points: Points) -> Points:
    """Points (LPS, mm) in the beam limiting device's axes, from the isocentre (mm)."""
    return (points - beam.isocenter) @ bev_axes(beam).T


def project(beam: Beam, points: Points, sad: float) -> Float64[np.ndarray, "n 2"]:
    """Where points (LPS, mm) are seen from the source: x and y on the isocentre plane (mm)."""
    bev = to_bev(beam, points)
    return bev[:, :2] * (sad / (sad - bev[:, 2:]))
