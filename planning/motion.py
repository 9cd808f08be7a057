"""How fast a linac moves through a plan, and how long delivering it takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from .beams import Beam
from .machine import Machine
from .plan import Plan

# Moving the gantry, jaws and leaves from one field to the next without a beam: verifying and starting it.
_BETWEEN_FIELDS = 10.0


@dataclass(frozen=True, eq=False)
class Schedule:
    """The fastest way through a beam's control points that no part of the machine is too slow for.

    Parameters
    ----------
    seconds
        Time between each control point and the next, shape ``(n - 1,)``.
    gantry
        Speed of the gantry there (degrees/s).
    leaf, jaw
        Speed of the fastest leaf and jaw there (mm/s at the isocentre).
    dose_rate
        Monitor units per minute there.
    """

    seconds: Float64[np.ndarray, " spans"]
    gantry: Float64[np.ndarray, " spans"]
    leaf: Float64[np.ndarray, " spans"]
    jaw: Float64[np.ndarray, " spans"]
    dose_rate: Float64[np.ndarray, " spans"]


def schedule(beam: Beam, machine: Machine) -> Schedule:
    """When each control point of a beam is reached.

    Each span takes as long as its slowest part needs at full speed; all others go slower then, so that
    none exceeds its limit. Acceleration is not modelled.

    Parameters
    ----------
    beam
        A sequenced beam.
    machine
        Its limits.

    Raises
    ------
    ValueError
        If the beam has fewer than two control points.
    """
    points = beam.control_points
    if len(points) < 2:
        raise ValueError(
            f"expected control points in beam {beam.name}, got {len(points)}; sequence the plan first"
        )
    turn = np.array([abs((b.gantry - a.gantry + 180) % 360 - 180) for a, b in pairwise(points)])
    leaf = np.array([np.abs(b.leaves - a.leaves).max() for a, b in pairwise(points)])
    jaw = np.array(
        [np.abs(np.subtract([b.jaws_x, b.jaws_y], [a.jaws_x, a.jaws_y])).max() for a, b in pairwise(points)]
    )
    dose = beam.mu * np.diff([point.meterset for point in points])
    limits = machine.limits
    needs = (
        turn / limits.max_gantry_speed,
        leaf / limits.max_leaf_speed,
        jaw / limits.max_jaw_speed,
        60 * dose / limits.max_dose_rate,
    )
    seconds = np.maximum.reduce(needs)
    still = np.where(seconds > 0, seconds, 1.0)
    return Schedule(seconds, turn / still, leaf / still, jaw / still, 60 * dose / still)


def delivery_seconds(plan: Plan, machine: Machine) -> float:
    """Estimate of the time that one fraction takes (s), from the first beam on to the last beam off.

    Beams in their order; between two of them the gantry turns the shorter way, and at least ten
    seconds pass. Couch turns, which need staff, are not counted.
    """
    total = sum(float(schedule(beam, machine).seconds.sum()) for beam in plan.beams)
    for first, last in pairwise(plan.beams):
        turn = abs((_ends(last)[0] - _ends(first)[1] + 180) % 360 - 180)
        total += max(turn / machine.limits.max_gantry_speed, _BETWEEN_FIELDS)
    return total


def _ends(beam: Beam) -> Sequence[float]:
    return beam.control_points[0].gantry, beam.control_points[-1].gantry
