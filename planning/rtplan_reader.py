"""Plans in from a DICOM RT Plan (PS3.3 A.20)."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RTPlanStorage

from imaging.dicom.opening import complete_object, open_object

from .beams import Beam
from .machine import Machine
from .plan import Plan, Prescription
from .rtplan_devices import open_leaves
from .rtplan_machine import expect_machine, head_of, layer_names, treatment_beams
from .rtplan_states import control_points, difference, states

# A linac without jaws along x or y (Agility, Halcyon) bounds the field by leaves alone; this
# is wider than any field.
_NO_JAW = 200.0
_DEGREES = 1e-3
_MM = 1e-3


def read_rtplan(
    path: Path,
    *,
    machine: Machine | None = None,
    prescription: Prescription | None = None,
    fraction_group: int | None = None,
    any_energy: bool = False,
) -> Plan:
    """The plan of an RTPLAN: photon beams, fixed, step and shoot, sliding window or arcs.

    Beams and monitor units are matched by number; set-up beams are left out. A control point
    holds what the one before it held where it says nothing. Where the gantry turns by more than 10 degrees
    from one control point to the next, or the longer way round, others are put between. Leaves that a beam
    does not use stand open.

    Parameters
    ----------
    path
        The file.
    machine
        Where given, the plan must be for its leaves, its source to axis distance and its beam.
    prescription
        What is prescribed; what the file says where None.
    fraction_group
        Number of the fraction group to read, where there are several.
    any_energy
        Read beams of other energies than the machine's too.

    Raises
    ------
    ValueError
        If the file is no whole RTPLAN, or holds what a plan here cannot: other particles,
        wedges, blocks, compensators or boli, leaves along y, a table or collimator that
        turns during a beam, several machines, a patient not head first
        supine, a beam without monitor units; or if it is for another machine than the one given.
    """
    dataset = open_object(path, RTPlanStorage)
    try:
        with complete_object("RT Plan"):
            return _plan(dataset, machine, prescription, fraction_group, any_energy=any_energy)
    except ValueError as error:
        if str(error).startswith("expected "):
            raise
        # What others say of a value quotes it, and a value can be a name.
        raise ValueError(
            "expected a complete RT Plan, got one with unreadable values; export it again"
        ) from None


def _plan(
    dataset: Dataset,
    machine: Machine | None,
    prescription: Prescription | None,
    fraction_group: int | None,
    *,
    any_energy: bool,
) -> Plan:
    _check_position(dataset)
    group = _fraction_group(dataset, fraction_group)
    metersets = {
        int(r.ReferencedBeamNumber): float(r.get("BeamMeterset") or 0)
        for r in group.get("ReferencedBeamSequence") or []
    }
    items = [beam for beam in treatment_beams(dataset) if int(beam.BeamNumber) in metersets]
    if not items:
        raise ValueError("expected a plan with at least one treatment beam, got none")
    for item in items:
        _check_beam(item)
        if machine is not None:
            expect_machine(head_of(item), machine, int(item.BeamNumber), any_energy=any_energy)
    names = {str(item.get("TreatmentMachineName") or "") for item in items}
    if len(names) != 1:
        raise ValueError(f"expected all beams on one machine, got {len(names)} machines")
    return Plan(
        beams=tuple(_beam(item, metersets, machine) for item in items),
        prescription=_prescription(dataset, group, prescription),
        machine=names.pop(),
        name=str(dataset.get("RTPlanName") or dataset.get("RTPlanLabel") or ""),
    )


def _fraction_group(dataset: Dataset, number: int | None) -> Dataset:
    """The fraction group of that number, or the only one."""
    groups = {int(g.FractionGroupNumber): g for g in dataset.get("FractionGroupSequence") or []}
    if number is None and len(groups) == 1:
        return next(iter(groups.values()))
    if number is None or number not in groups:
        raise ValueError(
            f"expected one fraction group, or the number of one of {sorted(groups)}, got {number or 'none'}"
        )
    return groups[number]


def _check_position(dataset: Dataset) -> None:
    positions = {str(s.get("PatientPosition") or "") for s in dataset.get("PatientSetupSequence") or []}
    if positions - {"HFS", ""}:
        raise ValueError(
            "expected a patient head first supine (HFS), got "
            f"{', '.join(sorted(positions))}; beam angles would mean other directions"
        )


def _check_beam(item: Dataset) -> None:
    number = int(item.BeamNumber)
    wanted = {"RadiationType": "PHOTON", "PrimaryDosimeterUnit": "MU"}
    for keyword, value in wanted.items():
        found = str(item.get(keyword) or value)
        if found != value:
            raise ValueError(f"expected beam {number} with {keyword} {value}, got {found}")
    for keyword in ("NumberOfWedges", "NumberOfCompensators", "NumberOfBoli", "NumberOfBlocks"):
        if int(item.get(keyword) or 0):
            raise ValueError(f"expected an unmodified beam {number}, got {keyword} {item.get(keyword)}")
    head_of(item)


def _prescription(dataset: Dataset, group: Dataset, given: Prescription | None) -> Prescription:
    """What is given, or the largest dose prescribed to a target in the fractions of the group."""
    if given is not None:
        return given
    doses = [
        float(r.TargetPrescriptionDose)
        for r in dataset.get("DoseReferenceSequence") or []
        if r.get("DoseReferenceType") == "TARGET" and r.get("TargetPrescriptionDose")
    ]
    # What each of several groups adds to a prescribed total is nowhere said.
    if not doses or len(dataset.FractionGroupSequence) > 1:
        raise ValueError("expected one prescribed dose in the plan, got none; give one such as 60/30")
    return Prescription(max(doses), int(group.get("NumberOfFractionsPlanned") or 0))


def _beam(item: Dataset, metersets: Mapping[int, float], machine: Machine | None) -> Beam:
    number = int(item.BeamNumber)
    mu = metersets.get(number, 0.0)
    points = item.get("ControlPointSequence") or []
    final = float(item.get("FinalCumulativeMetersetWeight") or 0)
    if mu <= 0 or final <= 0 or len(points) < 2:
        raise ValueError(f"expected monitor units and control points in beam {number}, got none")
    found = list(states(points, number))
    shares = [float(p.get("CumulativeMetersetWeight") or 0) / final for p in points]
    first = found[0]
    for state in found:
        moved = max(
            abs(difference(state.collimator, first.collimator)), abs(difference(state.couch, first.couch))
        )
        if moved > _DEGREES or np.abs(state.isocenter - first.isocenter).max() > _MM:
            raise ValueError(f"expected couch, collimator and isocentre of beam {number} to rest")
    layers = layer_names(head_of(item), machine)
    beyond = _NO_JAW if machine is None else machine.max_jaw
    reached = control_points(found, shares, number, layers, beyond)
    if machine is not None and not layers:
        reached = tuple(replace(point, leaves=open_leaves(machine)) for point in reached)
    return Beam(
        gantry=first.gantry,
        couch=first.couch,
        collimator=first.collimator,
        isocenter=first.isocenter,
        name=str(item.get("BeamName") or f"Beam {number}"),
        mu=mu,
        control_points=reached,
    )
