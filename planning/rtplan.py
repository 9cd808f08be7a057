"""Plans out to a DICOM RT Plan (PS3.3 A.20)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RTDoseStorage, RTPlanStorage, RTStructureSetStorage

from imaging.dicom.header import RESEARCH_ONLY, date, decimal, new_object, save, time
from imaging.shapes import Point
from imaging.source import Source
from imaging.uids import fresh_uid, seeded_uid

from .deliverable import expect_deliverable
from .machine import Machine
from .plan import Plan
from .rtplan_beam import SurfaceDistance, beam_item, item
from .rtplan_devices import LEAVES, boundaries
from .rtplan_reader import read_rtplan

__all__ = ["Tolerances", "read_rtplan", "write_rtplan"]

_ONE_POINT = 1e-6  # mm that isocentres of one plan may lie apart


@dataclass(frozen=True)
class Tolerances:
    """How far the linac may stand from what is planned before the beam is held.

    The defaults are what AAPM Task Group 142 asks of the indicators monthly (Klein et al., Med. Phys. 36,
    4197 (2009)); the numbers are from memory.

    Parameters
    ----------
    gantry, collimator, couch
        Degrees.
    jaws, leaves
        mm at the isocentre.
    """

    gantry: float = 1.0
    collimator: float = 1.0
    couch: float = 1.0
    jaws: float = 2.0
    leaves: float = 1.0


def write_rtplan(
    plan: Plan,
    machine: Machine,
    source: Source,
    path: Path,
    *,
    structure_set_uid: str,
    target: str = "PTV",
    target_roi: int | None = None,
    surface_distances: Mapping[str, SurfaceDistance] | None = None,
    dose_point: Point | None = None,
    beam_doses: Mapping[str, float] | None = None,
    tolerances: Tolerances = Tolerances(),
    dose_uid: str = "",
    predecessor_uid: str = "",
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
        Source to surface distance of beams by name (mm), or of each of their control points, where known.
    dose_point
        Where the doses of single beams are told (LPS, mm): the isocentre unless given, none where beams
        have several.
    beam_doses
        Dose of one fraction at that point (Gy) of beams by name, where known.
    tolerances
        How far the linac may stand from what is planned.
    dose_uid
        SOP instance UID of the RTDOSE of this plan, where it is known.
    predecessor_uid
        SOP instance UID of the RTPLAN that this one follows from, if any.
    series_uid, instance_uid
        Identity of the new object; fresh where empty.
    when
        When it was made; now where not given.

    Raises
    ------
    ValueError
        If the plan is for another machine, a beam delivers nothing, the machine cannot take
        a state, or doses of beams come without a point.
    """
    expect_deliverable(plan, machine)
    if source.position != "HFS":
        raise ValueError(
            f"expected a patient head first supine (HFS), got {source.position or 'no position'}; "
            "beam angles would mean other directions"
        )
    when = when or datetime.now().astimezone()
    instance_uid = instance_uid or fresh_uid()
    point = _common_isocenter(plan) if dose_point is None else dose_point
    if beam_doses and point is None:
        raise ValueError("expected a point for the doses of beams with several isocentres, got none")
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
    references = [_target(plan, target, target_roi, seeded_uid(instance_uid, "dose reference"))]
    if point is not None:
        references.append(_point(point, seeded_uid(instance_uid, "dose point")))
    dataset.DoseReferenceSequence = references
    dataset.ToleranceTableSequence = [_tolerance_table(tolerances, machine)]
    dataset.FractionGroupSequence = [_fraction_group(plan, references, point, beam_doses or {})]
    dataset.BeamSequence = [
        beam_item(number, beam, machine, (surface_distances or {}).get(beam.name))
        for number, beam in enumerate(plan.beams, start=1)
    ]
    dataset.PatientSetupSequence = [
        item(PatientSetupNumber=1, PatientPosition="HFS", SetupTechnique="ISOCENTRIC")
    ]
    dataset.ReferencedStructureSetSequence = [_reference(RTStructureSetStorage, structure_set_uid)]
    if dose_uid:
        dataset.ReferencedDoseSequence = [_reference(RTDoseStorage, dose_uid)]
    if predecessor_uid:
        before = _reference(RTPlanStorage, predecessor_uid)
        before.RTPlanRelationship = "PREDECESSOR"
        dataset.ReferencedRTPlanSequence = [before]
    dataset.ApprovalStatus = "UNAPPROVED"
    save(dataset, path)
    return instance_uid


def _reference(sop_class: str, uid: str) -> Dataset:
    return item(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=uid)


def _common_isocenter(plan: Plan) -> Point | None:
    """The isocentre, if all beams have one."""
    first = plan.beams[0].isocenter
    same = all(np.abs(beam.isocenter - first).max() <= _ONE_POINT for beam in plan.beams)
    return first if same else None


def _target(plan: Plan, target: str, target_roi: int | None, uid: str) -> Dataset:
    made = item(
        DoseReferenceNumber=1,
        DoseReferenceUID=uid,
        DoseReferenceStructureType="SITE" if target_roi is None else "VOLUME",
        DoseReferenceDescription=target[:64],
        DoseReferenceType="TARGET",
        TargetPrescriptionDose=decimal(plan.prescription.dose_gy),
    )
    if target_roi is not None:
        made.ReferencedROINumber = target_roi
    return made


def _point(point: Point, uid: str) -> Dataset:
    """A place, without a prescription: the target's is the volume's."""
    return item(
        DoseReferenceNumber=2,
        DoseReferenceUID=uid,
        DoseReferenceStructureType="COORDINATES",
        DoseReferenceDescription="Dose point",
        DoseReferencePointCoordinates=[decimal(v) for v in point],
        DoseReferenceType="TARGET",
    )


def _tolerance_table(tolerances: Tolerances, machine: Machine) -> Dataset:
    return item(
        ToleranceTableNumber=1,
        ToleranceTableLabel="RESEARCH",
        GantryAngleTolerance=decimal(tolerances.gantry),
        BeamLimitingDeviceAngleTolerance=decimal(tolerances.collimator),
        BeamLimitingDeviceToleranceSequence=[
            item(
                RTBeamLimitingDeviceType=name,
                BeamLimitingDevicePositionTolerance=decimal(
                    tolerances.leaves if name.startswith(LEAVES) else tolerances.jaws
                ),
            )
            for name in boundaries(machine)
        ],
        PatientSupportAngleTolerance=decimal(tolerances.couch),
    )


def _fraction_group(
    plan: Plan, references: list[Dataset], point: Point | None, beam_doses: Mapping[str, float]
) -> Dataset:
    beams = []
    for number, beam in enumerate(plan.beams, start=1):
        made = item(BeamMeterset=decimal(beam.mu), ReferencedBeamNumber=number)
        if point is not None and beam.name in beam_doses:
            made.BeamDose = decimal(beam_doses[beam.name])
            # Retired in favour of the reference, but what older systems read.
            made.BeamDoseSpecificationPoint = [decimal(v) for v in point]
            made.ReferencedDoseReferenceUID = references[1].DoseReferenceUID
        beams.append(made)
    return item(
        FractionGroupNumber=1,
        NumberOfFractionsPlanned=plan.prescription.n_fractions,
        NumberOfBeams=len(plan.beams),
        NumberOfBrachyApplicationSetups=0,
        ReferencedBeamSequence=beams,
        ReferencedDoseReferenceSequence=[
            item(ReferencedDoseReferenceNumber=r.DoseReferenceNumber) for r in references
        ],
    )
