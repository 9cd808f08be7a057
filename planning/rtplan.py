"""Plans out to a DICOM RT Plan (PS3.3 A.20)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RTPlanStorage, RTStructureSetStorage

from imaging.dicom.header import RESEARCH_ONLY, date, decimal, new_object, save, time
from imaging.source import Source
from imaging.uids import fresh_uid, seeded_uid

from .beams import Beam, ControlPoint
from .deliverable import expect_deliverable
from .machine import Machine
from .plan import Plan
from .rtplan_reader import read_rtplan

__all__ = ["read_rtplan", "write_rtplan"]

_DEVICES = ("ASYMX", "ASYMY", "MLCX")
_STEP = 1e-9  # smaller steps of meterset, degrees or mm are none


def write_rtplan(
    plan: Plan,
    machine: Machine,
    source: Source,
    path: Path,
    *,
    structure_set_uid: str,
    target: str = "PTV",
    target_roi: int | None = None,
    surface_distances: Mapping[str, float] | None = None,
    series_uid: str = "",
    instance_uid: str = "",
    when: datetime | None = None,
) -> str:
    """Write a deliverable plan, unapproved and for research; gives the SOP instance UID.

    Parameters
    ----------
    plan
        Beams with their monitor units and control points.
    machine
        The linac that the plan is for.
    source
        Patient, study and frame of reference; the patient lies head first supine.
    path
        The file; it appears whole or not at all.
    structure_set_uid
        SOP instance UID of the RTSTRUCT that the plan was made on.
    target, target_roi
        Name of the prescribed structure, and its ROI number there where known.
    surface_distances
        Source to surface distance of beams by name (mm), where known.
    series_uid, instance_uid
        Identity of the new object; fresh where empty.
    when
        When it was made; now where not given.

    Raises
    ------
    ValueError
        If the plan is for another machine, a beam delivers nothing, or the machine cannot take
        a state.
    """
    expect_deliverable(plan, machine)
    if source.position != "HFS":
        raise ValueError(
            f"expected a patient head first supine (HFS), got {source.position or 'no position'}; "
            "beam angles would mean other directions"
        )
    when = when or datetime.now().astimezone()
    instance_uid = instance_uid or fresh_uid()
    dataset = new_object(
        source,
        sop_class=RTPlanStorage,
        modality="RTPLAN",
        description="plan",
        series_uid=series_uid or fresh_uid(),
        instance_uid=instance_uid,
        series_number=3,
        when=when,
    )
    dataset.RTPlanLabel = plan.name[:16]
    dataset.RTPlanName = plan.name[:64]
    dataset.RTPlanDescription = RESEARCH_ONLY
    dataset.RTPlanDate = date(when)
    dataset.RTPlanTime = time(when)
    dataset.PlanIntent = "RESEARCH"
    dataset.RTPlanGeometry = "PATIENT"
    reference_uid = seeded_uid(instance_uid, "dose reference")
    dataset.DoseReferenceSequence = [_dose_reference(plan, target, target_roi, reference_uid)]
    dataset.ToleranceTableSequence = [_item(ToleranceTableNumber=1, ToleranceTableLabel="RESEARCH")]
    dataset.FractionGroupSequence = [_fraction_group(plan)]
    dataset.BeamSequence = [
        _beam(number, beam, machine, (surface_distances or {}).get(beam.name))
        for number, beam in enumerate(plan.beams, start=1)
    ]
    dataset.PatientSetupSequence = [
        _item(PatientSetupNumber=1, PatientPosition="HFS", SetupTechnique="ISOCENTRIC")
    ]
    dataset.ReferencedStructureSetSequence = [
        _item(ReferencedSOPClassUID=RTStructureSetStorage, ReferencedSOPInstanceUID=structure_set_uid)
    ]
    dataset.ApprovalStatus = "UNAPPROVED"
    save(dataset, path)
    return instance_uid


def _item(**attributes: object) -> Dataset:
    """A sequence item with these attributes."""
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _dose_reference(plan: Plan, target: str, target_roi: int | None, uid: str) -> Dataset:
    item = _item(
        DoseReferenceNumber=1,
        DoseReferenceUID=uid,
        DoseReferenceStructureType="SITE" if target_roi is None else "VOLUME",
        DoseReferenceDescription=target[:64],
        DoseReferenceType="TARGET",
        TargetPrescriptionDose=decimal(plan.prescription.dose_gy),
    )
    if target_roi is not None:
        item.ReferencedROINumber = target_roi
    return item


def _fraction_group(plan: Plan) -> Dataset:
    return _item(
        FractionGroupNumber=1,
        NumberOfFractionsPlanned=plan.prescription.n_fractions,
        NumberOfBeams=len(plan.beams),
        NumberOfBrachyApplicationSetups=0,
        ReferencedBeamSequence=[
            _item(BeamMeterset=decimal(beam.mu), ReferencedBeamNumber=number)
            for number, beam in enumerate(plan.beams, start=1)
        ],
        ReferencedDoseReferenceSequence=[_item(ReferencedDoseReferenceNumber=1)],
    )


def _beam(number: int, beam: Beam, machine: Machine, surface_distance: float | None) -> Dataset:
    points = beam.control_points
    return _item(
        Manufacturer="Spindose",
        PrimaryFluenceModeSequence=[_item(FluenceMode="STANDARD")],
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
        ControlPointSequence=_control_points(beam, machine, surface_distance),
        ReferencedPatientSetupNumber=1,
        ReferencedToleranceTableNumber=1,
    )


def _devices(machine: Machine) -> list[Dataset]:
    boundaries = [decimal(edge) for edge in machine.mlc.boundaries]
    items = [
        _item(RTBeamLimitingDeviceType=name, NumberOfLeafJawPairs=n)
        for name, n in zip(_DEVICES, (1, 1, len(boundaries) - 1), strict=True)
    ]
    items[-1].LeafPositionBoundaries = boundaries
    return items


def _same_shape(a: ControlPoint, b: ControlPoint) -> bool:
    return (
        np.allclose(a.leaves, b.leaves, rtol=0, atol=_STEP)
        and np.allclose([a.jaws_x, a.jaws_y], [b.jaws_x, b.jaws_y], rtol=0, atol=_STEP)
        and abs(a.gantry - b.gantry) <= _STEP
    )


def _is_static(points: Sequence[ControlPoint]) -> bool:
    """Whether nothing moves while the beam is on: step and shoot is STATIC (PS3.3 C.8.8.14)."""
    return all(_same_shape(a, b) for a, b in pairwise(points) if b.meterset - a.meterset > _STEP)


def _control_points(beam: Beam, machine: Machine, surface_distance: float | None) -> list[Dataset]:
    """The first state in full, then what changes."""
    points = beam.control_points
    turns = [_turn(a.gantry, b.gantry) for a, b in pairwise(points)] + ["NONE"]
    items = [_first_state(beam, machine, surface_distance, turns[0])]
    for n in range(1, len(points)):
        now, before = points[n], points[n - 1]
        item = _item(ControlPointIndex=n)
        devices = _positions(now, before)
        if devices:
            item.BeamLimitingDevicePositionSequence = devices
        if abs(now.gantry - before.gantry) > _STEP:
            item.GantryAngle = _angle(now.gantry)
        if turns[n] != turns[n - 1]:
            item.GantryAngle = _angle(now.gantry)
            item.GantryRotationDirection = turns[n]
        item.CumulativeMetersetWeight = decimal(now.meterset)
        items.append(item)
    return items


def _angle(degrees: float) -> str:
    """An angle in 0..360, without 360 itself."""
    return decimal(round(degrees, 6) % 360)


def _turn(start: float, end: float) -> str:
    """Which way the gantry turns between two angles: the shorter one."""
    change = (end - start + 180) % 360 - 180
    return "NONE" if abs(change) <= _STEP else "CW" if change > 0 else "CC"


def _first_state(beam: Beam, machine: Machine, surface_distance: float | None, turn: str) -> Dataset:
    point = beam.control_points[0]
    item = _item(
        ControlPointIndex=0,
        NominalBeamEnergy=decimal(machine.energy_mv),
        BeamLimitingDevicePositionSequence=_positions(point, None),
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
    if surface_distance is not None:
        item.SourceToSurfaceDistance = decimal(surface_distance)
    return item


def _positions(now: ControlPoint, before: ControlPoint | None) -> list[Dataset]:
    """Positions of the devices that are not where they were; leaves are bank A, then bank B."""
    return [
        _item(RTBeamLimitingDeviceType=name, LeafJawPositions=[decimal(v) for v in new])
        for name, new, old in zip(_DEVICES, _devices_of(now), _devices_of(before or now), strict=True)
        if before is None or not np.allclose(new, old, rtol=0, atol=_STEP)
    ]


def _devices_of(point: ControlPoint) -> tuple[list[float], list[float], list[float]]:
    """Positions of x jaws, y jaws and leaves, in the order of the file."""
    return list(point.jaws_x), list(point.jaws_y), point.leaves.ravel().tolist()
