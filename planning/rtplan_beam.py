"""One beam as an item of an RTPLAN's Beam Sequence (PS3.3 C.8.8.14)."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from pydicom.dataset import Dataset

from imaging.dicom.header import RESEARCH_ONLY, decimal

from .beams import Beam, ControlPoint
from .machine import Machine
from .motion import schedule
from .rtplan_devices import boundaries, positions
from .rtplan_machine import is_flattened

_STEP = 1e-9  # smaller steps of meterset, degrees or mm are none
_DOSE_RATE = 2  # decimals of a dose rate in MU/min

# Source to surface distance (mm): of the whole beam, or of each control point that has one.
SurfaceDistance = float | Sequence[float | None] | None


def item(**attributes: object) -> Dataset:
    """A sequence item with these attributes."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def beam_item(number: int, beam: Beam, machine: Machine, surface_distance: SurfaceDistance = None) -> Dataset:
    """A beam with its devices and control points.

    The first control point holds the whole state, the others what changes. Dose rates are those of the
    fastest delivery that the machine's limits allow (:func:`planning.motion.schedule`).

    Parameters
    ----------
    number
        The beam's number in the plan.
    beam
        A sequenced beam.
    machine
        The linac it is for.
    surface_distance
        Source to surface distance (mm): one, or one for each control point.

    Raises
    ------
    ValueError
        If there is another number of distances than control points, or the gantry turns by half a circle
        or more between two control points, so that nothing says which way.
    """
    points = beam.control_points
    return item(
        Manufacturer="Spindose",
        PrimaryFluenceModeSequence=[_fluence_mode(machine)],
        TreatmentMachineName=machine.name,
        PrimaryDosimeterUnit="MU",
        SourceAxisDistance=decimal(machine.sad),
        BeamLimitingDeviceSequence=_devices(machine),
        BeamNumber=number,
        BeamName=beam.name or f"Beam {number}",
        BeamDescription=RESEARCH_ONLY,
        BeamType="STATIC" if _is_static(points) else "DYNAMIC",
        RadiationType="PHOTON",
        TreatmentDeliveryType="TREATMENT",
        NumberOfWedges=0,
        NumberOfCompensators=0,
        NumberOfBoli=0,
        NumberOfBlocks=0,
        FinalCumulativeMetersetWeight="1",
        NumberOfControlPoints=len(points),
        ControlPointSequence=_control_points(beam, machine, _each(surface_distance, beam)),
        ReferencedPatientSetupNumber=1,
        ReferencedToleranceTableNumber=1,
    )


def _fluence_mode(machine: Machine) -> Dataset:
    if is_flattened(machine):
        return item(FluenceMode="STANDARD")
    return item(FluenceMode="NON_STANDARD", FluenceModeID="FFF")


def _devices(machine: Machine) -> list[Dataset]:
    items = []
    for name, edges in boundaries(machine).items():
        made = item(
            RTBeamLimitingDeviceType=name, NumberOfLeafJawPairs=1 if edges is None else len(edges) - 1
        )
        if edges is not None:
            made.LeafPositionBoundaries = [decimal(edge) for edge in edges]
        items.append(made)
    return items


def _each(surface_distance: SurfaceDistance, beam: Beam) -> list[float | None]:
    """The distance of each control point; that of a whole beam stands at its first."""
    n_points = len(beam.control_points)
    if surface_distance is None or isinstance(surface_distance, float | int):
        return [surface_distance] + [None] * (n_points - 1)
    if len(surface_distance) != n_points:
        raise ValueError(
            f"expected a surface distance for each of the {n_points} control points of beam {beam.name}, "
            f"got {len(surface_distance)}"
        )
    return list(surface_distance)


def _same_shape(a: ControlPoint, b: ControlPoint) -> bool:
    return (
        np.allclose(a.leaves, b.leaves, rtol=0, atol=_STEP)
        and np.allclose([a.jaws_x, a.jaws_y], [b.jaws_x, b.jaws_y], rtol=0, atol=_STEP)
        and abs(a.gantry - b.gantry) <= _STEP
    )


def _is_static(points: Sequence[ControlPoint]) -> bool:
    """Whether nothing moves while the beam is on: step and shoot is STATIC (PS3.3 C.8.8.14)."""
    return all(_same_shape(a, b) for a, b in pairwise(points) if b.meterset - a.meterset > _STEP)


def _control_points(beam: Beam, machine: Machine, distances: Sequence[float | None]) -> list[Dataset]:
    """The first state in full, then what changes."""
    points = beam.control_points
    turns = [_turn(a.gantry, b.gantry, beam.name) for a, b in pairwise(points)] + ["NONE"]
    rates = [*_dose_rates(beam, machine), None]
    items = [_first_state(beam, machine, turns[0])]
    for n in range(1, len(points)):
        now, before = points[n], points[n - 1]
        made = item(ControlPointIndex=n)
        devices = _positions(now, before, machine)
        if devices:
            made.BeamLimitingDevicePositionSequence = devices
        if abs(now.gantry - before.gantry) > _STEP:
            made.GantryAngle = _angle(now.gantry)
        if turns[n] != turns[n - 1]:
            made.GantryAngle = _angle(now.gantry)
            made.GantryRotationDirection = turns[n]
        made.CumulativeMetersetWeight = decimal(now.meterset)
        items.append(made)
    held: float | None = None
    for made, rate, distance in zip(items, rates, distances, strict=True):
        if rate is not None and rate != held:
            made.DoseRateSet = decimal(rate)
            held = rate
        if distance is not None:
            made.SourceToSurfaceDistance = decimal(distance)
    return items


def _dose_rates(beam: Beam, machine: Machine) -> list[float | None]:
    """MU per minute after each control point but the last; None where no dose is given."""
    rates = schedule(beam, machine).dose_rate
    return [round(float(rate), _DOSE_RATE) or None for rate in rates]


def _angle(degrees: float) -> str:
    """An angle in 0..360, without 360 itself."""
    return decimal(round(degrees, 6) % 360)


def _turn(start: float, end: float, name: str) -> str:
    """Which way the gantry turns between two angles: the shorter one."""
    change = (end - start + 180) % 360 - 180
    if abs(abs(change) - 180) <= _STEP:
        raise ValueError(
            f"expected less than half a turn of the gantry between control points of beam {name}, got one; "
            "put control points between"
        )
    return "NONE" if abs(change) <= _STEP else "CW" if change > 0 else "CC"


def _first_state(beam: Beam, machine: Machine, turn: str) -> Dataset:
    point = beam.control_points[0]
    return item(
        ControlPointIndex=0,
        NominalBeamEnergy=decimal(machine.energy_mv),
        BeamLimitingDevicePositionSequence=_positions(point, None, machine),
        GantryAngle=_angle(point.gantry),
        GantryRotationDirection=turn,
        BeamLimitingDeviceAngle=_angle(beam.collimator),
        BeamLimitingDeviceRotationDirection="NONE",
        PatientSupportAngle=_angle(beam.couch),
        PatientSupportRotationDirection="NONE",
        TableTopEccentricAngle="0",
        TableTopEccentricRotationDirection="NONE",
        TableTopVerticalPosition=None,
        TableTopLongitudinalPosition=None,
        TableTopLateralPosition=None,
        IsocenterPosition=[decimal(v) for v in beam.isocenter],
        CumulativeMetersetWeight=decimal(point.meterset),
        TableTopPitchAngle=0.0,
        TableTopPitchRotationDirection="NONE",
        TableTopRollAngle=0.0,
        TableTopRollRotationDirection="NONE",
    )


def _positions(now: ControlPoint, before: ControlPoint | None, machine: Machine) -> list[Dataset]:
    """Positions of the devices that are not where they were."""
    old = positions(before or now, machine)
    return [
        item(RTBeamLimitingDeviceType=name, LeafJawPositions=[decimal(v) for v in new])
        for name, new in positions(now, machine).items()
        if before is None or not np.allclose(new, old[name], rtol=0, atol=_STEP)
    ]
