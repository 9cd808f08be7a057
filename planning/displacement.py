"""Anatomy that a scanner drew elsewhere than it lies: volumes and points moved to their true places."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from imaging.grid import Grid
from imaging.shapes import Points
from imaging.volume import Quantity, Volume, expect_finite
from imaging.warp import lattice, sample

# Nobody plans on a scan that is further off than this (mm): what is more is in other units.
_FURTHEST = 20.0
# A field that changes by less than its own length finds each place once; nearer to 1 the search drags.
_STEEPEST = 0.95
_CLOSE_ENOUGH = 1e-3  # mm
_MOST_STEPS = 200
_POINTS_AT_ONCE = 2_000_000


def expect_displacement(field: Volume, factor: float = 1.0) -> Volume:
    """This field, if tissue can be displaced by so many times it without folding.

    Parameters
    ----------
    field
        Displacement (mm), shape ``(3, i, j, k)``.
    factor
        How many times it counts.

    Raises
    ------
    ValueError
        If it is not a finite displacement with three components of a credible length, or it folds.
    """
    expect_finite(field.expect(Quantity.DISPLACEMENT))
    if field.data.shape[0] != 3:
        raise ValueError(
            f"expected a displacement with three components, got {field.data.shape[0]}; "
            "give x, y and z in LPS mm"
        )
    furthest = abs(factor) * float(torch.linalg.vector_norm(field.data.float(), dim=0).max())
    if furthest > _FURTHEST:
        raise ValueError(
            f"expected a displacement of at most {_FURTHEST:g} mm, got {furthest:.0f} mm; check its unit"
        )
    if abs(factor) * steepness(field) > _STEEPEST:
        raise ValueError(
            "expected a displacement that moves neighbours alike, got one that folds tissue over "
            f"(it changes by {abs(factor) * steepness(field):.2f} mm in a mm); smooth it, or take less of it"
        )
    return field


def steepness(field: Volume) -> float:
    """By how many mm a displacement changes in a mm at most: a bound on its Lipschitz constant."""
    changes = [
        float(torch.linalg.vector_norm(field.data.float().diff(dim=axis + 1), dim=0).max()) / spacing
        for axis, spacing in enumerate(field.grid.spacing)
        if field.grid.shape[axis] > 1
    ]
    return sum(change**2 for change in changes) ** 0.5


def most_of(field: Volume) -> float:
    """How many times a displacement may be taken before it could fold or is longer than one can be."""
    steepest, furthest = steepness(field), float(torch.linalg.vector_norm(field.data.float(), dim=0).max())
    rounding = 1 - 1e-6
    return min(
        rounding * limit / value if value > 0 else float("inf")
        for limit, value in ((_STEEPEST, steepest), (_FURTHEST, furthest))
    )


def displaced(volume: Volume, field: Volume, factor: float = 1.0) -> Volume:
    """A volume as it truly lies: its value at x is the drawn one's at x + factor · u(x).

    u is what the scanner does: tissue at x appears at x + u(x). Trilinear; beyond the edge the nearest
    value holds. A voxel that is not displaced keeps its value to the bit.

    Parameters
    ----------
    volume
        What was drawn, any values that can be mixed.
    field
        Displacement u (mm).
    factor
        How many times it counts.
    """
    drawn = volume.data.float().cpu()
    out = drawn.clone()
    flat = out.view(drawn.shape[0], -1)
    in_plane = volume.grid.shape[1] * volume.grid.shape[2]
    step = max(1, _POINTS_AT_ONCE // in_plane)
    for first in range(0, volume.grid.shape[0], step):
        points = lattice(volume.grid, first, first + step)
        u = factor * sample(field.data.float().cpu(), field.grid, points).T
        moved = (u != 0).any(dim=1)
        start = first * in_plane
        flat[:, start : start + len(points)][:, moved] = sample(drawn, volume.grid, points[moved] + u[moved])
    return Volume(out.to(volume.data.device), volume.grid, volume.quantity, volume.frame)


def true_places(drawn: Points, field: Volume, factor: float = 1.0) -> Points:
    """Where points of the drawn scan truly lie: the x with x + factor · u(x) = y for each y.

    Doses read there are those that each piece of tissue gets, as if the structures had been deformed with it,
    without a second rounding of their edges to voxels; each part keeps the volume that was drawn. By
    fixed-point iteration, which converges as u is not steep.

    Parameters
    ----------
    drawn
        Points y (LPS, mm), shape ``(n, 3)``.
    field
        Displacement u (mm): tissue at x was drawn at x + factor · u(x).
    factor
        How many times it counts.

    Raises
    ------
    ValueError
        If the field folds.
    """
    expect_displacement(field, factor)
    if factor == 0 or not bool(field.data.any()):
        return drawn
    out, there = np.empty_like(drawn), field.data.float().cpu()
    for first in range(0, len(drawn), _POINTS_AT_ONCE):
        part = slice(first, first + _POINTS_AT_ONCE)
        out[part] = _solved(drawn[part], there, field.grid, factor)
    return out


def _solved(drawn: Points, field: Float[Tensor, "3 i j k"], grid: Grid, factor: float) -> Points:
    there = torch.from_numpy(drawn).float()
    places = there
    for _ in range(_MOST_STEPS):
        shift = factor * sample(field, grid, places).T
        change = float((there - shift - places).abs().max())
        places = there - shift
        if change < _CLOSE_ENOUGH:
            return drawn - shift.double().numpy()
    raise ValueError("expected a displacement that can be undone, got one that folds tissue over; smooth it")
