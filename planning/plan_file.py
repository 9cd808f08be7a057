"""A plan as JSON, to the last bit; RTPLAN rounds to the 16 characters of a decimal string."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from .beams import Beam, ControlPoint
from .plan import Plan, Prescription


def write_plan(plan: Plan, path: Path) -> None:
    """A plan written as JSON; every number is kept exactly."""
    path.write_text(json.dumps(dataclasses.asdict(plan), default=_as_list, indent=1))


def read_plan(path: Path) -> Plan:
    """A plan as ``write_plan`` wrote it.

    Raises
    ------
    ValueError
        If the file holds no such plan.
    """
    try:
        entry = json.loads(path.read_text())
        beams = tuple(_beam(beam) for beam in entry.pop("beams"))
        return Plan(beams=beams, prescription=Prescription(**entry.pop("prescription")), **entry)
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError("expected a plan as spindose writes it; make the plan again") from None


def _beam(entry: dict[str, Any]) -> Beam:
    points = tuple(
        ControlPoint(
            meterset=point["meterset"],
            gantry=point["gantry"],
            jaws_x=tuple(point["jaws_x"]),
            jaws_y=tuple(point["jaws_y"]),
            leaves=np.array(point["leaves"], dtype=np.float64),
        )
        for point in entry.pop("control_points")
    )
    isocenter = np.array(entry.pop("isocenter"), dtype=np.float64)
    return Beam(isocenter=isocenter, control_points=points, **entry)


def _as_list(array: object) -> list[object]:
    if isinstance(array, np.ndarray):
        return array.tolist()
    raise TypeError(f"expected numbers, got {type(array).__name__}")
