"""Which linac an RTPLAN is for: by its name, or by its leaves, jaws and energy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RTPlanStorage

from imaging.dicom.opening import complete_object, open_object

from .machine import Machine, load_machine, machines
from .rtplan_devices import JAWS, LEAVES, TWO_LAYERS, Edges

_MM = 1e-3
_MV = 0.1
# Open fluence 100 mm off the axis, over that on it: about 1.03 behind a flattening filter, 0.8 without.
_FLAT, _OFF_AXIS = 0.9, 100.0


@dataclass(frozen=True, eq=False)
class Head:
    """What an RTPLAN says of the linac that a beam is for.

    Parameters
    ----------
    name
        What the plan calls it.
    sad
        Source to axis distance (mm); None where the plan says nothing.
    energy_mv
        Nominal energy (MV); None where the plan says nothing.
    flattened
        Whether the beam passes a flattening filter; a plan that says nothing means so.
    jaws
        Axes that jaws move along, of "x" and "y".
    leaves
        Edges of the leaf pairs (mm) of each layer by its name.
    """

    name: str
    sad: float | None
    energy_mv: float | None
    flattened: bool
    jaws: tuple[str, ...]
    leaves: Mapping[str, Edges]

    @property
    def n_pairs(self) -> int:
        """Leaf pairs of all layers."""
        return sum(len(edges) - 1 for edges in self.leaves.values())


def head_of(beam: Dataset) -> Head:
    """The linac that an item of the Beam Sequence is for.

    Raises
    ------
    ValueError
        If it has leaves along y, or other devices that no machine here has.
    """
    number = int(beam.BeamNumber)
    devices = {str(d.RTBeamLimitingDeviceType): d for d in beam.get("BeamLimitingDeviceSequence") or []}
    unknown = set(devices) - {*JAWS["x"], *JAWS["y"], LEAVES, *TWO_LAYERS}
    if unknown:
        raise ValueError(f"expected jaws and leaves along x in beam {number}, got {sorted(unknown)}")
    points = beam.get("ControlPointSequence") or [Dataset()]
    energy, sad = points[0].get("NominalBeamEnergy"), beam.get("SourceAxisDistance")
    modes = [str(m.get("FluenceMode") or "") for m in beam.get("PrimaryFluenceModeSequence") or []]
    return Head(
        name=str(beam.get("TreatmentMachineName") or ""),
        sad=float(sad) if sad else None,
        energy_mv=float(energy) if energy else None,
        flattened="NON_STANDARD" not in modes,
        jaws=tuple(axis for axis, names in JAWS.items() if set(names) & set(devices)),
        leaves={
            name: np.asarray(d.LeafPositionBoundaries, dtype=np.float64)
            for name, d in devices.items()
            if name in (LEAVES, *TWO_LAYERS)
        },
    )


def layer_names(head: Head, machine: Machine | None = None) -> tuple[str, ...]:
    """Names of a plan's layers of leaves, the upper one first.

    A machine tells by its edges which one that is; otherwise they are named as in Halcyon plans.
    """
    if len(head.leaves) < 2:
        return tuple(head.leaves)
    if machine is not None and _same_edges([head.leaves[n] for n in reversed(TWO_LAYERS)], machine):
        return tuple(reversed(TWO_LAYERS))
    return TWO_LAYERS


def _same_edges(edges: Sequence[Edges], machine: Machine) -> bool:
    own = machine.mlc.layers
    return len(edges) == len(own) and all(
        a.shape == b.shape and bool(np.abs(a - b).max() <= _MM) for a, b in zip(edges, own, strict=True)
    )


def fits(head: Head, machine: Machine) -> bool:
    """Whether a machine has a plan's leaves; a plan without leaves fits every machine."""
    return not head.leaves or _same_edges([head.leaves[n] for n in layer_names(head, machine)], machine)


def expect_machine(head: Head, machine: Machine, number: int, *, any_energy: bool = False) -> None:
    """Nothing, if a beam is for this machine's leaves, distance and energy.

    Raises
    ------
    ValueError
        If not: the same positions would make another field, the same monitor units another dose.
    """
    if head.sad is not None and abs(head.sad - machine.sad) > _MM:
        raise ValueError(f"expected a source to axis distance of {machine.sad:g} mm, got {head.sad:g} mm")
    if not fits(head, machine):
        raise ValueError(
            f"expected the {machine.mlc.n_pairs} leaf pairs of {machine.name} in beam {number}, "
            f"got {head.n_pairs} others; choose the plan's machine"
        )
    if any_energy or _same_energy(head, machine):
        return
    raise ValueError(
        f"expected {_beam(machine.energy_mv, is_flattened(machine))} of {machine.name} in beam {number}, got "
        f"{_beam(head.energy_mv or 0, head.flattened)}; choose a machine with that beam"
    )


def _beam(energy_mv: float, flattened: bool) -> str:
    return f"{energy_mv:g} MV {'with' if flattened else 'without'} flattening filter"


def _same_energy(head: Head, machine: Machine) -> bool:
    return head.energy_mv is None or (
        abs(head.energy_mv - machine.energy_mv) <= _MV and head.flattened == is_flattened(machine)
    )


def is_flattened(machine: Machine) -> bool:
    """Whether a machine's beam passes a flattening filter, by its horns."""
    beam = machine.beam
    return float(np.interp(_OFF_AXIS, beam.off_axis_radius, beam.off_axis_fluence)) > _FLAT


def treatment_beams(plan: Dataset) -> list[Dataset]:
    """Beams that treat: set-up, portal and verification images do not."""
    return [
        beam
        for beam in plan.get("BeamSequence") or []
        if str(beam.get("TreatmentDeliveryType") or "TREATMENT") in {"TREATMENT", "CONTINUATION"}
    ]


def head_of_plan(path: Path) -> Head:
    """The linac that an RTPLAN is for, by its first treatment beam.

    Raises
    ------
    ValueError
        If the file is no whole RTPLAN or has no treatment beam.
    """
    dataset = open_object(path, RTPlanStorage)
    with complete_object("RT Plan"):
        beams = treatment_beams(dataset)
        if not beams:
            raise ValueError("expected a plan with at least one treatment beam, got none")
        return head_of(beams[0])


def machine_for(head: Head) -> Machine:
    """The machine that is described under the plan's name for it, or the only one with its leaves.

    Among several with its leaves, source to axis distance and energy, those that have jaws along the same
    axes go first.

    Raises
    ------
    ValueError
        If there is none or several.
    """
    known = machines()
    if head.name in known:
        return load_machine(head.name)
    every = [load_machine(name) for name in known]
    same = [m for m in every if head.leaves and fits(head, m) and _like(head, m)]
    found = [m for m in same if set(m.jaws) == set(head.jaws)] or same
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"expected one machine with the plan's {head.n_pairs} leaf pairs and beam, got "
            f"{', '.join(m.name for m in found)}; choose with --machine"
        )
    raise ValueError(
        f"expected a machine with the plan's {head.n_pairs} leaf pairs and beam among {', '.join(known)}, "
        "got none; name one with --machine, with --plan-leaves to compute its beam with the plan's leaves"
    )


def _like(head: Head, machine: Machine) -> bool:
    return (head.sad is None or abs(head.sad - machine.sad) <= _MM) and _same_energy(head, machine)


def with_leaves_of(machine: Machine, head: Head) -> Machine:
    """The beam of a machine behind the leaves and jaws that a plan tells of.

    Transmission, gap and travel of the leaves stay the machine's.

    Raises
    ------
    ValueError
        If the plan tells of no leaves.
    """
    if not head.leaves:
        raise ValueError(
            "expected a plan that tells the edges of its leaves, got none; leave out --plan-leaves"
        )
    edges = [head.leaves[name] for name in layer_names(head)]
    mlc = replace(machine.mlc, boundaries=edges[0], lower=edges[1] if len(edges) == 2 else np.zeros(0))
    return replace(machine, mlc=mlc, jaws=head.jaws)
