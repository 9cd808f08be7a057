"""The linac: its geometry, its leaves, its beam."""

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from planning.beams import Beam, expect_angles

_FOLDER = Path(__file__).parent / "machines"
_OWN = "SPINDOSE_MACHINES"


@dataclass(frozen=True, eq=False)
class Mlc:
    """A multileaf collimator, in one layer or two, whose leaves travel along x of the beam limiting device.

    Parameters
    ----------
    boundaries
        Edges of the leaf pairs along y, ascending (mm at the isocentre); n + 1 for n pairs. Those of the
        upper layer, nearer to the source, where there are two.
    transmission
        Share of the open fluence that passes the leaves of one layer.
    min_gap
        Smallest opening of a leaf pair that is not closed (mm at the isocentre).
    max_position
        Furthest that a leaf opens from the axis (mm at the isocentre).
    interdigitation
        Whether a leaf may pass the opposite leaf of the neighbouring pair.
    dosimetric_gap
        Dosimetric leaf gap (mm at the isocentre): how much wider than its position says an opening
        between rounded leaf ends is to the beam, half of it at each leaf; in each layer.
    lower
        Edges of the leaf pairs of a second layer below the first, ascending (mm at the isocentre); empty
        where there is one layer.
    max_span
        Furthest apart that two leaves of one bank of a layer may stand (mm at the isocentre).
    max_overtravel
        Furthest that a leaf goes beyond the axis to the other bank's side (mm at the isocentre).
    """

    boundaries: Float64[np.ndarray, " n_edges"]
    transmission: float
    min_gap: float
    max_position: float
    interdigitation: bool
    dosimetric_gap: float = 0.0
    lower: Float64[np.ndarray, " n_lower"] = field(default_factory=lambda: np.zeros(0))
    max_span: float = math.inf
    max_overtravel: float = math.inf

    @property
    def layers(self) -> tuple[Float64[np.ndarray, " _"], ...]:
        """Edges of the leaf pairs of each layer, the upper one first."""
        return (self.boundaries, self.lower) if len(self.lower) else (self.boundaries,)

    @property
    def n_pairs(self) -> int:
        """Leaf pairs of all layers; positions are those of the upper layer, then those of the lower one."""
        return sum(len(edges) - 1 for edges in self.layers)


@dataclass(frozen=True, eq=False)
class PencilBeam:
    """Depth and lateral factors of a photon pencil beam by singular value decomposition.

    Bortfeld, Schlegel, Rhein, Med. Phys. 20, 311 (1993); arrays as in matRad's machine files.

    Parameters
    ----------
    attenuation
        Attenuation of the primary fluence, m (1/mm).
    betas
        Build-up coefficients β_i (1/mm), shape ``(3,)``.
    ssd
        Source to surface distances of the kernels (mm).
    radius
        Distances from the axis of the kernels (mm).
    kernels
        Lateral kernels K_i, shape ``(n_ssd, 3, n_radius)``.
    penumbra_fwhm
        Widths of the Gaussians that blur edges along x and y of the beam limiting device at the isocentre
        (mm): leaf ends and jaws stand at different heights, and the source need not be round.
    off_axis_radius
        Distances from the axis on the isocentre plane (mm), ascending from 0.
    off_axis_fluence
        Open fluence there, 1 on the axis: the horns that a flattening filter leaves.
    off_axis_depth
        Factor on the radiological depth there, 1 on the axis: off-axis rays are softer.
    """

    attenuation: float
    betas: Float64[np.ndarray, "3"]
    ssd: Float64[np.ndarray, " n_ssd"]
    radius: Float64[np.ndarray, " n_radius"]
    kernels: Float64[np.ndarray, "n_ssd 3 n_radius"]
    penumbra_fwhm: Float64[np.ndarray, "2"]
    off_axis_radius: Float64[np.ndarray, " n_off"] = field(default_factory=lambda: np.zeros(1))
    off_axis_fluence: Float64[np.ndarray, " n_off"] = field(default_factory=lambda: np.ones(1))
    off_axis_depth: Float64[np.ndarray, " n_off"] = field(default_factory=lambda: np.ones(1))


@dataclass(frozen=True)
class Limits:
    """How far and how fast a linac moves.

    Parameters
    ----------
    gantry, couch, collimator
        Least and greatest angle (degrees, IEC 61217), counted from -180 to 180.
    max_gantry_speed
        Degrees per second.
    max_leaf_speed, max_jaw_speed
        mm per second at the isocentre.
    max_dose_rate
        MU per minute.
    """

    gantry: tuple[float, float] = (-180.0, 180.0)
    couch: tuple[float, float] = (-95.0, 95.0)
    collimator: tuple[float, float] = (-180.0, 180.0)
    max_gantry_speed: float = 6.0
    max_leaf_speed: float = 25.0
    max_jaw_speed: float = 25.0
    max_dose_rate: float = 600.0


@dataclass(frozen=True, eq=False)
class Machine:
    """A linac with one photon beam.

    Parameters
    ----------
    name
        What plans call it.
    energy_mv
        Nominal accelerating potential (MV).
    sad
        Source to axis distance (mm).
    max_jaw
        Furthest that a jaw, or a fixed collimator in its stead, opens from the axis (mm at the isocentre).
    mlc
        Its leaves.
    beam
        Its pencil beam.
    fluence_per_mu
        Pencil-beam weight that one monitor unit stands for.
    calibration
        The reference conditions that ``fluence_per_mu`` follows from, in words.
    limits
        How far and how fast it moves.
    jaws
        Along which axes it has jaws, of "x" and "y". Along another axis the fixed collimator is the window
        and control points hold ``(-max_jaw, max_jaw)``.
    """

    name: str
    energy_mv: float
    sad: float
    max_jaw: float
    mlc: Mlc
    beam: PencilBeam
    fluence_per_mu: float
    calibration: str
    limits: Limits = Limits()
    jaws: tuple[str, ...] = ("x", "y")


def machines() -> list[str]:
    """Names of the machines that are described here, and in the folder that SPINDOSE_MACHINES names."""
    return sorted(_described())


def load_machine(name: str) -> Machine:
    """The machine of this name.

    Raises
    ------
    ValueError
        If there is none (the message lists those that there are), or its description cannot be read.
    """
    found = _described()
    if name not in found:
        raise ValueError(
            f"expected one of the machines {', '.join(sorted(found))}, got {name!r}; SPINDOSE_MACHINES names "
            "the folder of your own"
        )
    return read_machine(found[name])


def _described() -> dict[str, Path]:
    own = os.environ.get(_OWN)
    folders = [_FOLDER] if own is None else [_FOLDER, Path(own)]
    return {path.parent.name: path.parent for folder in folders for path in folder.glob("*/machine.json")}


def read_machine(folder: Path) -> Machine:
    """The machine that a folder describes, as :func:`save_machine` writes it.

    A description may take its beam from a machine that is described here (``"beam": "generic-6mv"``).

    Raises
    ------
    ValueError
        If the description is not whole, or its name is not the folder's.
    """
    try:
        described = json.loads((folder / "machine.json").read_text(encoding="utf-8"))
        mlc, limits = described.pop("mlc"), described.pop("limits", {})
        upper, lower = (np.array(mlc.pop(key, []), dtype=np.float64) for key in ("boundaries", "lower"))
        shared = described.pop("beam", None)
        machine = Machine(
            mlc=_expect_leaves(Mlc(upper, lower=lower, **mlc)),
            beam=_read_beam(folder if shared is None else _FOLDER / Path(shared).name),
            jaws=_expect_axes(described.pop("jaws", ("x", "y"))),
            # JSON knows lists, not pairs.
            limits=Limits(**{k: tuple(v) if isinstance(v, list) else v for k, v in limits.items()}),  # type: ignore[arg-type]
            **described,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"expected a whole description of the machine {folder.name} in machine.json and beam.npz, got "
            f"one that cannot be read ({type(error).__name__}); commission it again"
        ) from error
    if machine.name != folder.name:
        raise ValueError(
            f"expected a folder named like its machine, got {folder.name} for {machine.name}; "
            "rename the folder"
        )
    return machine


def _expect_leaves(mlc: Mlc) -> Mlc:
    for edges in mlc.layers:
        if len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise ValueError("expected ascending edges of one leaf pair or more in each layer")
    return mlc


def _expect_axes(jaws: Sequence[str]) -> tuple[str, ...]:
    if not set(jaws) <= {"x", "y"}:
        raise ValueError(f"expected jaws along x and y, got {jaws}")
    return tuple(jaws)


def _read_beam(folder: Path) -> PencilBeam:
    with np.load(folder / "beam.npz", allow_pickle=False) as stored:
        beam = {key: stored[key].astype(np.float64) for key in stored.files}
    return PencilBeam(
        attenuation=float(beam.pop("attenuation")),
        penumbra_fwhm=np.broadcast_to(beam.pop("penumbra_fwhm"), 2),
        **beam,
    )


def save_machine(machine: Machine, folder: Path) -> None:
    """``machine.json`` and ``beam.npz`` (float32) in a folder, which has the machine's name."""
    described = {key: value for key, value in asdict(machine).items() if key != "beam"}
    # Infinity is no number of JSON: what nothing limits, and layers that there are not, are left out.
    described["mlc"] = {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in described["mlc"].items()
        if np.size(value) and np.isfinite(value).all()
    }
    text = json.dumps(described, indent=2)
    # Leaves in one line.
    text = re.sub(
        r"\[[^\[\]]*\]", lambda found: " ".join(found[0].split()).replace("[ ", "[").replace(" ]", "]"), text
    )
    (folder / "machine.json").write_text(text + "\n", encoding="utf-8")
    arrays = {key: np.asarray(value, dtype=np.float32) for key, value in vars(machine.beam).items()}
    np.savez_compressed(folder / "beam.npz", allow_pickle=False, **arrays)


def expect_in_range(beam: Beam, machine: Machine) -> Beam:
    """This beam, if the machine can turn to its angles.

    Raises
    ------
    ValueError
        If an angle is not one, or beyond the machine's range.
    """
    expect_angles(beam)
    for name in ("gantry", "couch", "collimator"):
        low, high = getattr(machine.limits, name)
        angle = (getattr(beam, name) + 180) % 360 - 180
        # 180 and -180 are one angle.
        if not (low <= angle <= high or (angle == -180 and high >= 180)):
            raise ValueError(
                f"expected a {name} angle from {low % 360:g} to {high % 360:g} degrees on {machine.name}, "
                f"got {getattr(beam, name):g}; choose another angle or machine"
            )
    return beam
