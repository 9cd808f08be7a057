"""What a linac does between the control points of an RTPLAN, from what each of them says."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float64
from pydicom.dataset import Dataset

from .beams import ControlPoint
from .rtplan_devices import jaws, leaves

_DEGREES = 1e-3
# Directions are not held against rounding of the angles (degrees).
_WIGGLE = 0.1
# A gantry is stopped before it turns round and round; some turn a little past a circle.
_CIRCLE = 365.0
# Dose is computed at the middle of the gantry's way between two points: further than this is divided.
_WIDE = 10.0

_NEEDED = ("GantryAngle", "BeamLimitingDeviceAngle", "PatientSupportAngle", "IsocenterPosition")
_TILTS = ("GantryPitchAngle", "TableTopPitchAngle", "TableTopRollAngle", "TableTopEccentricAngle")
_CARRIED = _NEEDED + _TILTS


@dataclass(frozen=True, eq=False)
class State:
    """What holds at a control point, carried on from the one before."""

    gantry: float
    collimator: float
    couch: float
    isocenter: Float64[np.ndarray, "3"]
    devices: Mapping[str, Float64[np.ndarray, " _"]]
    turn: str


def difference(a: float, b: float) -> float:
    """How far one angle lies from another (degrees), -180..180."""
    return (a - b + 180) % 360 - 180


def states(points: Sequence[Dataset], number: int) -> Iterator[State]:
    """The whole state at each control point of the beam of this number, in the order of their index.

    Raises
    ------
    ValueError
        If the first one leaves something open, or the gantry pitches or the table tilts.
    """
    known: dict[str, Float64[np.ndarray, " _"]] = {}
    devices: dict[str, Float64[np.ndarray, " _"]] = {}
    turn = "NONE"
    for point in points:
        for keyword in _CARRIED:
            value = point.get(keyword)
            if value is not None and value != "":
                known[keyword] = np.atleast_1d(np.asarray(value, dtype=np.float64))
        for device in point.get("BeamLimitingDevicePositionSequence") or []:
            devices[str(device.RTBeamLimitingDeviceType)] = np.asarray(
                device.LeafJawPositions, dtype=np.float64
            )
        turn = str(point.get("GantryRotationDirection") or turn)
        if any(abs(known[k][0]) > _DEGREES for k in _TILTS if k in known):
            raise ValueError(f"expected no pitch, roll or eccentric turn in beam {number}, got one")
        missing = [k for k in _NEEDED if k not in known]
        if missing:
            raise ValueError(f"expected {missing} at the start of beam {number}, got none")
        yield State(
            gantry=float(known["GantryAngle"][0]),
            collimator=float(known["BeamLimitingDeviceAngle"][0]),
            couch=float(known["PatientSupportAngle"][0]),
            isocenter=known["IsocenterPosition"],
            devices=dict(devices),
            turn=turn,
        )


def control_points(
    found: Sequence[State], shares: Sequence[float], number: int, layers: Sequence[str], beyond: float
) -> tuple[ControlPoint, ...]:
    """The control points of a beam, with more of them where the gantry turns far between two.

    Leaves, jaws, gantry and monitor units move evenly from one control point to the next, so that points
    between change nothing; a turn of half a circle or more has no meaning without them.

    Parameters
    ----------
    found
        The state at each control point.
    shares
        Share of the beam's monitor units delivered there.
    number
        The beam's number.
    layers
        Names of the layers of leaves, as in :func:`planning.rtplan_devices.leaves`.
    beyond
        Where the field is open to along an axis without jaws (mm).

    Raises
    ------
    ValueError
        If the directions of the gantry contradict its angles.
    """
    points = [
        ControlPoint(
            meterset=share,
            gantry=state.gantry,
            jaws_x=jaws(state.devices, "x", beyond),
            jaws_y=jaws(state.devices, "y", beyond),
            leaves=leaves(state.devices, layers),
        )
        for state, share in zip(found, shares, strict=True)
    ]
    ways = [_way(a.gantry, b.gantry, a.turn, number) for a, b in pairwise(found)]
    _expect_within_a_circle(ways, number)
    divided = points[:1]
    for (first, last), way in zip(pairwise(points), ways, strict=True):
        divided += [*_between(first, last, way), last]
    return tuple(divided)


def _way(start: float, end: float, turn: str, number: int) -> float:
    """How far the gantry turns (degrees), clockwise positive: in its direction, or the shorter way."""
    shorter = difference(end, start)
    if abs(shorter) <= _WIGGLE:
        return shorter
    if turn == "CW":
        return (end - start) % 360
    if turn == "CC":
        return -((start - end) % 360)
    if abs(shorter) >= 180 - _DEGREES:
        raise ValueError(
            f"expected a direction for half a turn of the gantry in beam {number}, got none; "
            "export the plan again"
        )
    return shorter


def _expect_within_a_circle(ways: Sequence[float], number: int) -> None:
    """Refuse directions that wind the gantry up: they belong to other angles."""
    reached = np.cumsum([0.0, *ways])
    if reached.max() - reached.min() > _CIRCLE:
        raise ValueError(
            f"expected the gantry of beam {number} to turn within one circle, got directions that "
            "contradict its angles; export the plan again"
        )


def _between(first: ControlPoint, last: ControlPoint, way: float) -> list[ControlPoint]:
    n_parts = int(np.ceil((abs(way) - _DEGREES) / _WIDE))
    return [_part(first, last, way, part / n_parts) for part in range(1, n_parts)]


def _part(first: ControlPoint, last: ControlPoint, way: float, share: float) -> ControlPoint:
    """The state after this share of the way."""

    def mixed(a: float, b: float) -> float:
        return (1 - share) * a + share * b

    return replace(
        first,
        meterset=mixed(first.meterset, last.meterset),
        gantry=(first.gantry + share * way) % 360,
        jaws_x=(mixed(first.jaws_x[0], last.jaws_x[0]), mixed(first.jaws_x[1], last.jaws_x[1])),
        jaws_y=(mixed(first.jaws_y[0], last.jaws_y[0]), mixed(first.jaws_y[1], last.jaws_y[1])),
        leaves=(1 - share) * first.leaves + share * last.leaves,
    )
