"""Smooth deformations that can be undone.

A displacement u whose change per millimetre stays below one, |u(a) - u(b)| <= L |a - b| with L < 1, makes
x + u(x) one to one and onto, with a positive Jacobian everywhere: it is a contraction away from the identity
(Banach's fixed point theorem gives the inverse). Between the nodes of a lattice u is linear along each axis,
so that its greatest change is found at the edges of the lattice and can be bounded exactly.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from imaging.grid import Grid, axial, corners
from imaging.volume import Quantity, Volume
from imaging.warp import lattice, sample

from .subject import Subject

STEEPEST = 0.5  # change of the displacement per mm: half of what would fold
_NODES_MM = 6.0
_PLANES_AT_ONCE = 300_000
_INVERSIONS = 40  # steps; each halves the error

Places = Float[Tensor, "n 3"]


def random_field(
    generator: torch.Generator, grid: Grid, amplitude_mm: float, knots_mm: float = 50.0
) -> Volume:
    """A smooth random displacement (mm) over a grid.

    A cubic B-spline of independent knots, weakened where it would change by more than half a millimetre in
    a millimetre.

    Parameters
    ----------
    generator
        Draws the knots.
    grid
        What to cover.
    amplitude_mm
        Standard deviation of each component (mm).
    knots_mm
        Distance of the knots.

    Raises
    ------
    ValueError
        If the amplitude is negative or the knots are not apart.
    """
    if not (math.isfinite(amplitude_mm) and amplitude_mm >= 0 and knots_mm > 0):
        raise ValueError(
            f"expected an amplitude >= 0 mm and knots > 0 mm apart, got {amplitude_mm}, {knots_mm}"
        )
    ends = corners(grid)
    nodes = axial(ends.min(axis=0), ends.max(axis=0), (_NODES_MM,) * 3)
    counts = [max(math.ceil(n * _NODES_MM / knots_mm), 1) + 3 for n in nodes.shape]
    knots = torch.randn(3, *counts, generator=generator)
    for axis, n in enumerate(nodes.shape):
        at = torch.arange(n, dtype=torch.float32) * (_NODES_MM / knots_mm)
        weight = _spline(at, counts[axis])
        pairs = zip(weight.unbind(1), knots.unbind(axis + 1), strict=True)
        knots = torch.stack([_along(w, axis) * k.unsqueeze(axis + 1) for w, k in pairs]).sum(dim=0)
    field = Volume(amplitude_mm * knots.contiguous() / _SPREAD, nodes, Quantity.DISPLACEMENT)
    scale = min(1.0, STEEPEST / max(steepest(field), 1e-9))
    return Volume(field.data * scale, nodes, Quantity.DISPLACEMENT)


def _along(weight: Float[Tensor, " n"], axis: int) -> Float[Tensor, "1 _ _ _"]:
    shape = [1, 1, 1, 1]
    shape[axis + 1] = len(weight)
    return weight.reshape(shape)


def _spline(at: Float[Tensor, " n"], count: int) -> Float[Tensor, "n knots"]:
    """Weights of a uniform cubic B-spline; the first knot lies one step before the start."""
    d = (at[:, None] + 1 - torch.arange(count)).abs()
    near = 2 / 3 - d**2 + d**3 / 2
    far = (2 - d).clamp(min=0) ** 3 / 6
    return torch.where(d < 1, near, far)


# Mean square of a spline of unit knots is the integral of its kernel squared, 151/315 along each axis.
_SPREAD = (151 / 315) ** 1.5


def steepest(field: Volume) -> float:
    """Bound of a displacement's change per mm, exact for values read linearly between nodes."""
    field.expect(Quantity.DISPLACEMENT)
    spacing = field.grid.spacing
    total = 0.0
    for axis in range(3):
        if field.data.shape[axis + 1] > 1:
            step = torch.linalg.vector_norm(field.data.double().diff(dim=axis + 1), dim=0)
            total += (float(step.max()) / float(spacing[axis])) ** 2
    return math.sqrt(total)


def moved(field: Volume, places: Places) -> Places:
    """Where a deformation reads from: x + u(x) (LPS, mm); beyond the lattice its edge goes on."""
    return places + sample(field.data.to(places.dtype), field.grid, places).T


def undone(field: Volume, places: Places) -> Places:
    """The places x with x + u(x) = ``places``, by fixed-point steps.

    Raises
    ------
    ValueError
        If the displacement may fold, so that there is no inverse.
    """
    if (bound := steepest(field)) >= 1:
        raise ValueError(f"expected a displacement that changes by less than 1 mm in a mm, got {bound:.2f}")
    x = places
    for _ in range(_INVERSIONS):
        x = places - sample(field.data.to(places.dtype), field.grid, x).T
    return x


def deformed(subject: Subject, field: Volume, grid: Grid) -> Subject:
    """A subject whose label at x is the one at x + u(x), nearest voxel, on a grid.

    Around the labels lies the outside, below them their lowest plane goes on.
    """
    labels, organs = subject.labels, subject.organs
    inverse = torch.from_numpy(np.linalg.inv(labels.grid.affine)).float()
    size = torch.tensor(labels.grid.shape)
    out = [torch.zeros((1, *grid.shape), dtype=torch.uint8) for _ in range(2)]
    step = max(1, _PLANES_AT_ONCE // (grid.shape[1] * grid.shape[2]))
    for first in range(0, grid.shape[0], step):
        places = moved(field, lattice(grid, first, first + step))
        index = (places @ inverse[:3, :3].T + inverse[:3, 3] + 0.5).floor().long()
        index[:, 2].clamp_(min=0)
        inside = ((index >= 0) & (index < size)).all(dim=1)
        i, j, k = index.clamp(min=torch.zeros(3, dtype=torch.long), max=size - 1).unbind(-1)
        for to, volume in zip(out, (labels, organs), strict=True):
            read = torch.where(inside, volume.data[0, i, j, k], 0)
            to[0, first : first + step] = read.reshape(-1, *grid.shape[1:]).to(torch.uint8)
    frame = labels.frame
    return Subject(
        Volume(out[0], grid, Quantity.LABEL, frame),
        Volume(out[1], grid, Quantity.LABEL, frame),
        subject.traits,
    )
