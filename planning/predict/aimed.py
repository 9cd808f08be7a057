"""What beams aimed at a target would do to a patient, before any plan."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from scipy.spatial import cKDTree
from torch import Tensor

from imaging.grid import Grid, positions
from imaging.shapes import Mask, Point, Points
from imaging.volume import Quantity, Volume
from planning.arcs import Arc
from planning.beams import Beam, project, source_position
from planning.dose.fan import fan_depth

_SAD = 1000.0  # mm
_MARGIN = 5.0  # mm around the target, as fields are shaped
_EDGE = 6.0  # mm over which a field's edge falls
_PIXEL = 2.0  # mm on the isocentre plane
_ATTENUATION = 0.0046  # per mm of water: of a 6 MV beam behind its build-up, about
_GREATEST = 4.0  # of what is expected at the isocentre: nothing else is so near a source

Plane = Float[Tensor, "i j k"]
Shares = Float[np.ndarray, " n"]

_MOST_OF_ARCS = 18  # directions that stand for all of an arc's: another 20 degrees hardly shows


def coplanar(gantry: Sequence[float], isocenter: Point) -> tuple[Beam, ...]:
    """Beams in one plane at gantry angles (degrees, IEC 61217) about an isocentre (LPS, mm)."""
    return tuple(Beam(float(angle), 0.0, 0.0, isocenter) for angle in gantry)


def standing(
    gantry: Sequence[float], isocenter: Point, *, turning: bool = False, most: int = _MOST_OF_ARCS
) -> tuple[Beam, ...]:
    """Fields that stand for a plan's directions: its own, or some of the many that arcs pass.

    Parameters
    ----------
    gantry
        Gantry angles (degrees, IEC 61217) of fields, or of the control points of arcs one after another.
    isocenter
        LPS, mm.
    turning
        Whether they are of arcs; then at most so many, evenly taken, stand for them.
    most
        Of arcs.
    """
    if not turning or len(gantry) <= most:
        return coplanar(gantry, isocenter)
    taken = [gantry[round(n * (len(gantry) - 1) / most)] for n in range(most)]
    return coplanar(taken, isocenter)


def fields_of(beams: Sequence[Beam | Arc]) -> tuple[Beam, ...]:
    """Standing fields of a plan to come, or those that stand for its arcs (:func:`standing`)."""
    arcs = [beam for beam in beams if isinstance(beam, Arc)]
    if arcs:
        angles = [float(angle) for arc in arcs for angle in arc.angles]
        return standing(angles, arcs[0].isocenter, turning=True)
    return tuple(beam for beam in beams if isinstance(beam, Beam))


def middle_of(mask: Mask, grid: Grid) -> Point:
    """Centre of gravity of a structure (LPS, mm)."""
    return positions(grid, mask.nonzero().double().mean(dim=0, keepdim=True).numpy())[0]


def aimed(
    targets: Sequence[Mask], body: Mask, density: Volume, beams: Sequence[Beam]
) -> tuple[Float[Tensor, "n i j k"], Float[Tensor, "n i j k"]]:
    """For each target, the share of beams that see it where a voxel lies, and what open fields would leave.

    The second is the mean over beams of a field shaped to the target, falling with depth and distance, as a
    share of that at the isocentre: no dose, yet where dose cannot but be.

    Parameters
    ----------
    targets
        Shape ``(i, j, k)`` each, not empty.
    body
        Where it matters.
    density
        Electron density relative to water, on the same grid.
    beams
        One or more.

    Raises
    ------
    ValueError
        If there is no beam.
    """
    if not beams:
        raise ValueError("expected a beam or more to aim, got none; switch beams off")
    grid = density.expect(Quantity.DENSITY).grid
    at = positions(grid, body.nonzero().double().numpy())
    share = np.zeros((len(targets), len(at)))
    open_fields = np.zeros_like(share)
    for beam in beams:
        strength = _strength(density, beam, at)
        for n, target in enumerate(targets):
            seen = covered(target, grid, beam, at)
            share[n] += seen / len(beams)
            open_fields[n] += seen * strength / len(beams)
    return _planes(share, body), _planes(open_fields, body)


def covered(target: Mask, grid: Grid, beam: Beam, points: Points) -> Shares:
    """Whether a field shaped to a target, with its margin, covers points: 1 inside, 0 outside, ½ at its edge.

    Parameters
    ----------
    target
        Shape ``(i, j, k)``, not empty.
    grid
        Where it lies.
    beam
        Whose source sees it.
    points
        Shape ``(n, 3)`` (LPS, mm).
    """
    outline = project(beam, positions(grid, target.nonzero().double().numpy()), _SAD)
    reach = _MARGIN + float(grid.spacing.max()) / 2
    low = outline.min(axis=0) - reach - 2 * _EDGE
    size = np.ceil((outline.max(axis=0) + reach + 2 * _EDGE - low) / _PIXEL).astype(int) + 1
    pixels = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), axis=-1)
    away, _ = cKDTree(outline).query(low + _PIXEL * pixels)
    field = np.clip(0.5 + (reach - away) / _EDGE, 0, 1)
    seen = (project(beam, points, _SAD) - low) / _PIXEL
    return ndimage.map_coordinates(field, seen.T, order=1, mode="constant", cval=0.0)


def _strength(density: Volume, beam: Beam, points: Points) -> Shares:
    """What a broad beam leaves at points, as a share of that at the isocentre."""
    source = source_position(beam, _SAD)
    both = np.concatenate([points, beam.isocenter[None]])
    depth = fan_depth(density, source, both).double().numpy()
    away = np.linalg.norm(both - source, axis=1)
    left = np.exp(-_ATTENUATION * (depth - depth[-1])) * (_SAD / away) ** 2
    return np.minimum(left[:-1], _GREATEST)


def _planes(values: np.ndarray, body: Mask) -> Float[Tensor, "n i j k"]:
    out = torch.zeros((len(values), *body.shape))
    out[:, body] = torch.from_numpy(values.astype(np.float32))
    return out
