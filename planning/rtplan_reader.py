"""Plans in from a DICOM RT Plan (PS3.3 A.20)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from pydicom.dataset import Dataset
from pydicom.uid import RTPlanStorage

from imaging.dicom.opening import complete_object, open_object

from .beams import Beam, ControlPoint
from .machine import Machine
from .plan import Plan, Prescription

# A linac without jaws along x or y (Agility, Halcyon) bounds the field by leaves alone; this
# is wider than any field.
_NO_JAW = (-200.0, 200.0)
_DEGREES = 1e-3
_MM = 1e-3


@dataclass(frozen=True, eq=False)
class _State:
    """What holds at a control point, carried on from the one before."""

    gantry: float
    collimator: float
    couch: float
    isocenter: Float64[np.ndarray, "3"]
    devices: Mapping[str, Float64[np.ndarray, " n"]]


def read_rtplan(
    path: Path,
    *,
    machine: Machine | None = None,
    prescription: Prescription | None = None,
    fraction_group: int | None = None,
) -> Plan:
    """The plan of an RTPLAN: photon beams, fixed, step and shoot, sliding window or arcs.

    Beams and monitor units are matched by number; set-up beams are left out. A control point
    holds what the one before it held where it says nothing.

    Parameters
    ----------
    path
        The file.
    machine
        Where given, the plan must be for its leaves and its source to axis distance.
    prescription
        What is prescribed; what the file says where None.
    fraction_group
        Number of the fraction group to read, where there are several.

    Raises
    ------
    ValueError
        If the file is no whole RTPLAN, or holds what a plan here cannot: other particles,
        wedges, blocks, compensators or boli, leaves along y, a table or collimator that
        turns during a beam, several machines, a patient not head first
        supine, a beam without monitor units.
    """
    dataset = open_object(path, RTPlanStorage)
    with complete_object("RT Plan"):
        return _plan(dataset, machine, prescription, fraction_group)


def _plan(
    dataset: Dataset, machine: Machine | None, prescription: Prescription | None, fraction_group: int | None
) -> Plan:
    _check_position(dataset)
    group = _fraction_group(dataset, fraction_group)
    metersets = {
        int(r.ReferencedBeamNumber): float(r.get("BeamMeterset") or 0)
        for r in group.get("ReferencedBeamSequence") or []
    }
    items = [b for b in dataset.get("BeamSequence") or [] if int(b.BeamNumber) in metersets and _treats(b)]
    if not items:
        raise ValueError("expected a plan with at least one treatment beam, got none")
    for item in items:
        _check_beam(item, machine)
    names = {str(item.get("TreatmentMachineName") or "") for item in items}
    if len(names) != 1:
        raise ValueError(f"expected all beams on one machine, got {len(names)} machines")
    return Plan(
        beams=tuple(_beam(item, metersets) for item in items),
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


def _treats(item: Dataset) -> bool:
    """Whether a beam treats: set-up, portal and verification images do not."""
    return str(item.get("TreatmentDeliveryType") or "TREATMENT") in {"TREATMENT", "CONTINUATION"}


def _check_beam(item: Dataset, machine: Machine | None) -> None:
    number = int(item.BeamNumber)
    wanted = {"RadiationType": "PHOTON", "PrimaryDosimeterUnit": "MU"}
    for keyword, value in wanted.items():
        found = str(item.get(keyword) or value)
        if found != value:
            raise ValueError(f"expected beam {number} with {keyword} {value}, got {found}")
    for keyword in ("NumberOfWedges", "NumberOfCompensators", "NumberOfBoli", "NumberOfBlocks"):
        if int(item.get(keyword) or 0):
            raise ValueError(f"expected an unmodified beam {number}, got {keyword} {item.get(keyword)}")
    devices = {str(d.RTBeamLimitingDeviceType): d for d in item.get("BeamLimitingDeviceSequence") or []}
    unknown = set(devices) - {"X", "Y", "ASYMX", "ASYMY", "MLCX"}
    if unknown:
        raise ValueError(f"expected jaws and leaves along x in beam {number}, got {sorted(unknown)}")
    if machine is not None:
        _check_machine(item, devices, machine)


def _check_machine(item: Dataset, devices: Mapping[str, Dataset], machine: Machine) -> None:
    """Refuse a plan for other leaves: the same positions would make another field."""
    number = int(item.BeamNumber)
    sad = float(item.get("SourceAxisDistance") or machine.sad)
    if abs(sad - machine.sad) > _MM:
        raise ValueError(f"expected a source to axis distance of {machine.sad:g} mm, got {sad:g} mm")
    if "MLCX" not in devices:
        return
    edges = np.asarray(devices["MLCX"].LeafPositionBoundaries, dtype=np.float64)
    same = edges.shape == machine.mlc.boundaries.shape
    if not same or np.abs(edges - machine.mlc.boundaries).max() > _MM:
        raise ValueError(
            f"expected the {len(machine.mlc.boundaries) - 1} leaf pairs of {machine.name} in beam {number}, "
            f"got {len(edges) - 1} others; choose the plan's machine"
        )


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


def _beam(item: Dataset, metersets: Mapping[int, float]) -> Beam:
    number = int(item.BeamNumber)
    mu = metersets.get(number, 0.0)
    points = item.get("ControlPointSequence") or []
    final = float(item.get("FinalCumulativeMetersetWeight") or 0)
    if mu <= 0 or final <= 0 or len(points) < 2:
        raise ValueError(f"expected monitor units and control points in beam {number}, got none")
    states = list(_states(points, number))
    shares = [float(p.get("CumulativeMetersetWeight") or 0) / final for p in points]
    first = states[0]
    for state in states:
        moved = max(
            abs(_difference(state.collimator, first.collimator)), abs(_difference(state.couch, first.couch))
        )
        if moved > _DEGREES or np.abs(state.isocenter - first.isocenter).max() > _MM:
            raise ValueError(f"expected couch, collimator and isocentre of beam {number} to rest")
    return Beam(
        gantry=first.gantry,
        couch=first.couch,
        collimator=first.collimator,
        isocenter=first.isocenter,
        name=str(item.get("BeamName") or f"Beam {number}"),
        mu=mu,
        control_points=tuple(_control_point(s, share) for s, share in zip(states, shares, strict=True)),
    )


def _difference(a: float, b: float) -> float:
    """How far one angle lies from another (degrees), -180..180."""
    return (a - b + 180) % 360 - 180


def _states(points: Sequence[Dataset], number: int) -> Iterator[_State]:
    """The whole state at each control point, in the order of their index."""
    known: dict[str, Float64[np.ndarray, " n"]] = {}
    devices: dict[str, Float64[np.ndarray, " n"]] = {}
    for point in points:
        for keyword in _CARRIED:
            value = point.get(keyword)
            if value is not None and value != "":
                known[keyword] = np.atleast_1d(np.asarray(value, dtype=np.float64))
        for device in point.get("BeamLimitingDevicePositionSequence") or []:
            devices[str(device.RTBeamLimitingDeviceType)] = np.asarray(
                device.LeafJawPositions, dtype=np.float64
            )
        if any(abs(known[k][0]) > _DEGREES for k in _TILTS if k in known):
            raise ValueError(f"expected no pitch, roll or eccentric turn in beam {number}, got one")
        missing = [k for k in _NEEDED if k not in known]
        if missing:
            raise ValueError(f"expected {missing} at the start of beam {number}, got none")
        yield _State(
            gantry=float(known["GantryAngle"][0]),
            collimator=float(known["BeamLimitingDeviceAngle"][0]),
            couch=float(known["PatientSupportAngle"][0]),
            isocenter=known["IsocenterPosition"],
            devices=dict(devices),
        )


_NEEDED = ("GantryAngle", "BeamLimitingDeviceAngle", "PatientSupportAngle", "IsocenterPosition")
_TILTS = ("GantryPitchAngle", "TableTopPitchAngle", "TableTopRollAngle", "TableTopEccentricAngle")
_CARRIED = _NEEDED + _TILTS


def _control_point(state: _State, share: float) -> ControlPoint:
    leaves = state.devices.get("MLCX", np.zeros(0))
    if len(leaves) % 2:
        raise ValueError(f"expected leaf positions in pairs, got {len(leaves)}; export the plan again")
    return ControlPoint(
        meterset=share,
        gantry=state.gantry,
        jaws_x=_jaws(state.devices, "ASYMX", "X"),
        jaws_y=_jaws(state.devices, "ASYMY", "Y"),
        leaves=leaves.reshape(2, -1),  # all of bank A, then all of bank B
    )


def _jaws(devices: Mapping[str, Float64[np.ndarray, " n"]], *names: str) -> tuple[float, float]:
    for name in names:
        if name in devices:
            low, high = devices[name]
            return float(low), float(high)
    return _NO_JAW
