"""Jaws and leaves as an RTPLAN names them (PS3.3 C.8.8.14)."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from .beams import ControlPoint
from .machine import Machine

JAWS = {"x": ("ASYMX", "X"), "y": ("ASYMY", "Y")}
LEAVES = "MLCX"
# The standard has no name for layers. Halcyon plans call the lower (distal) one MLCX1 and the upper MLCX2;
# this is the upper one first, as leaves are counted here.
TWO_LAYERS = ("MLCX2", "MLCX1")

Edges = Float64[np.ndarray, " _"]
Positions = Mapping[str, Float64[np.ndarray, " _"]]


def layers(machine: Machine) -> dict[str, Edges]:
    """Edges of the leaf pairs of each layer by its name in the file, the upper one first."""
    names = TWO_LAYERS if len(machine.mlc.layers) == 2 else (LEAVES,)
    return dict(zip(names, machine.mlc.layers, strict=True))


def boundaries(machine: Machine) -> dict[str, Edges | None]:
    """Every device of a machine with the edges of its leaf pairs, None for jaws, in the order of the file."""
    leaves_by_name = layers(machine)
    return {
        **{JAWS[axis][0]: None for axis in ("x", "y") if axis in machine.jaws},
        **{name: leaves_by_name[name] for name in sorted(leaves_by_name)},
    }


def positions(point: ControlPoint, machine: Machine) -> dict[str, Float64[np.ndarray, " _"]]:
    """Where every device of a machine stands (mm): jaws low and high; leaves all of bank A, then bank B."""
    found = {"ASYMX": np.array(point.jaws_x), "ASYMY": np.array(point.jaws_y)}
    first = 0
    for name, edges in layers(machine).items():
        last = first + len(edges) - 1
        found[name] = point.leaves[:, first:last].ravel()
        first = last
    return {name: found[name] for name in boundaries(machine)}


def leaves(stand: Positions, names: Sequence[str]) -> Float64[np.ndarray, "2 pairs"]:
    """Leaf positions of bank A and bank B (mm) of these layers, one after the other.

    Raises
    ------
    ValueError
        If a layer has none, or they do not come in pairs.
    """
    missing = [name for name in names if name not in stand]
    if missing:
        raise ValueError(f"expected positions of {missing} at the start of each beam, got none")
    parts = [stand[name] for name in names]
    for part in parts:
        if len(part) % 2:
            raise ValueError(f"expected leaf positions in pairs, got {len(part)}; export the plan again")
    return np.concatenate([part.reshape(2, -1) for part in parts] or [np.zeros((2, 0))], axis=1)


def open_leaves(machine: Machine) -> Float64[np.ndarray, "2 pairs"]:
    """Leaves that are parked: as far open as they go (mm)."""
    ends = np.array([[-machine.mlc.max_position], [machine.mlc.max_position]])
    return np.repeat(ends, machine.mlc.n_pairs, axis=1)


def jaws(stand: Positions, axis: str, beyond: float) -> tuple[float, float]:
    """Positions of the jaws along x or y (mm); ``beyond`` either way where there are none."""
    for name in JAWS[axis]:
        if name in stand:
            low, high = stand[name]
            return float(low), float(high)
    return -beyond, beyond
