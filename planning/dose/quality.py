"""What a machine's beam consists of: the photons that meet its depth dose and its output factors.

The pencil beam of a machine holds its measured doses, but not its photons. Here the two numbers of
:func:`planning.dose.spectrum.filtered` are fitted such that the collapsed cone gives the same depth dose
in water, the scatter from the linac's head such that small fields have the same output, and the scale such
that both engines give the same dose at reference conditions.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from scipy.optimize import least_squares

from imaging.grid import axial
from imaging.volume import Quantity, Volume
from planning.beams import Beam
from planning.machine import Machine

from .aperture import FluenceMap
from .bixel_dose import FULL_CUTOFF, blocks
from .bixels import Bixels
from .calibration import DEPTH, FIELD, reference_dose
from .cones import Cones, cones, in_grid, spread
from .spectrum import Spectrum, filtered, kernels, single
from .terma import Source, released

# Depths of the fit (mm): behind most of what electrons from the linac's head reach, which we do not follow.
FITTED = (20.0, 250.0)
# Sides of the fields whose output tells the scatter from the linac's head (mm).
_OUTPUT = (30.0, 60.0)
_MOST_SCATTER = 0.15
# Voxels of the water: an odd number of them across.
_STEP = 5.0
# Water to either side of the axis and behind the isocentre (mm): for the depth dose, and for one dose.
_LARGE, _SMALL = (152.5, 200.0), (102.5, 60.0)
_STORED = Path(__file__).parent / "kernels" / "depth_dose.npz"


@cache
def spectrum_for(machine: Machine) -> Spectrum:
    """The spectrum whose depth dose in the reference field is nearest to the machine's own.

    Least squares of their ratio over greatest energy (up to the machine's potential) and absorber, on
    the axis of a 100 mm field, SSD 900 mm, both normalised at 100 mm. The depth dose of a spectrum is
    the sum of those of its lines, which are stored (:func:`depth_doses`).
    """
    with np.load(_STORED, allow_pickle=False) as stored:
        depth, lines = stored["depth"], stored["dose"].astype(np.float64)
    fitted = (depth >= FITTED[0]) & (depth <= FITTED[1])
    own = _pencil_depth_dose(machine, depth[fitted])

    def miss(p: np.ndarray) -> np.ndarray:
        ours = (filtered(p[0], p[1]).fluence @ lines)[fitted]
        return ours / np.interp(DEPTH, depth[fitted], ours) / own - 1

    most = min(machine.energy_mv, kernels().energy[-1])
    bounds = ([most / 2, 0.0], [most, 600.0])
    found = least_squares(
        miss, [0.9 * most, 150.0], bounds=bounds, diff_step=[1e-3, 1e-3], x_scale=[1.0, 50.0]
    )
    return filtered(found.x[0], found.x[1])


@dataclass(frozen=True, eq=False)
class Quality:
    """A machine's beam as the collapsed cone needs it.

    Parameters
    ----------
    photons
        Their spectrum, and the share that the linac's head scatters.
    cones
        The cones of the spectrum.
    gray
        Dose (Gy) for each energy per mass that the cones leave.
    """

    photons: Source
    cones: Cones
    gray: float


@cache
def quality(machine: Machine) -> Quality:
    """What the machine's beam consists of, found once in water.

    The share of head scatter is that which brings the doses of 30 and 60 mm fields over that of
    100 mm, at reference depth, nearest to the machine's own.
    """
    spectrum = spectrum_for(machine)
    kernel = cones(spectrum)
    fields = (*_OUTPUT, FIELD)
    # Dose is linear in the share: from all of it in the focus to all of it in the head.
    focus, head = (
        np.array([_at_isocenter(Source(spectrum, share), kernel, machine, field) for field in fields])
        for share in (0.0, 1.0)
    )
    own = np.array([reference_dose(machine, field) for field in fields])

    def miss(p: np.ndarray) -> np.ndarray:
        ours = (1 - p[0]) * focus + p[0] * head
        return (ours / ours[-1])[:-1] / (own / own[-1])[:-1] - 1

    share = float(least_squares(miss, [0.05], bounds=([0.0], [_MOST_SCATTER])).x[0])
    scale = own[-1] / ((1 - share) * focus[-1] + share * head[-1])
    return Quality(Source(spectrum, share), kernel, float(scale))


def depth_doses(machine: Machine) -> Float64[np.ndarray, "n depths"]:
    """Energy per mass of one photon per mm² of each line of the kernels, on the axis of the reference field.

    What ``kernels/depth_dose.npz`` holds for the generic machine, at the depths beside it.
    """
    found = []
    for energy in kernels().energy.tolist():
        line = single(energy)
        found.append(on_axis(Source(line), cones(line), machine, FIELD, _LARGE))
    return np.stack(found)


def depths(size: tuple[float, float] = _LARGE) -> Float64[np.ndarray, " depths"]:
    """Depths of the voxels on the axis of :func:`on_axis` (mm)."""
    return (np.arange(round((DEPTH + size[1]) / _STEP)) + 0.5) * _STEP


def on_axis(
    photons: Source, kernel: Cones, machine: Machine, field: float, size: tuple[float, float] = _LARGE
) -> Float64[np.ndarray, " depths"]:
    """Energy per mass on the axis of an open square field in water, isocentre at 100 mm, for weight 1."""
    half, behind = size
    grid = axial(np.array([-half, -DEPTH, -half]), np.array([half, behind, half]), (_STEP, _STEP, _STEP))
    water = Volume(torch.ones((1, *grid.shape)), grid, Quantity.DENSITY)
    beam, n = Beam(0.0, 0.0, 0.0, np.zeros(3)), round(field)
    opening = FluenceMap(torch.ones((n, n)), ((1 - n) / 2, (1 - n) / 2), 1.0)
    source = released(beam, opening, water, machine, photons)
    directions = in_grid(kernel, beam, grid)
    found = spread(source[0], source[1], water.data[0], grid.spacing, directions, kernel)
    return found[grid.shape[0] // 2, :, grid.shape[2] // 2].double().numpy()


def _at_isocenter(photons: Source, kernel: Cones, machine: Machine, field: float) -> float:
    return float(np.interp(DEPTH, depths(_SMALL), on_axis(photons, kernel, machine, field, _SMALL)))


def _pencil_depth_dose(machine: Machine, depth: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """The machine's own depth dose in the reference field, 1 at 100 mm."""
    grid = axial(np.array([-150.0, -DEPTH, -150.0]), np.array([150.0, _LARGE[1], 150.0]), (5.0, 5.0, 5.0))
    water = Volume(torch.ones((1, *grid.shape)), grid, Quantity.DENSITY)
    edge = np.arange(-FIELD / 2 + 2.5, FIELD / 2, 5.0)
    bixels = Bixels(np.stack([a.ravel() for a in np.meshgrid(edge, edge, indexing="ij")], axis=1))
    points = np.zeros((len(depth) + 1, 3))
    points[:-1, 1] = depth - DEPTH
    dose = np.zeros(len(points))
    beam = Beam(0.0, 0.0, 0.0, np.zeros(3))
    for block in blocks(beam, bixels, water, points, machine, cutoff=FULL_CUTOFF):
        dose[block.voxels.numpy()] += block.dose.sum(dim=1).double().numpy()
    return dose[:-1] / dose[-1]
