"""How much matter lies before every point of a beam: a fan of rays, each traced once."""

import math

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from imaging.grid import indices
from imaging.shapes import Point, Points
from imaging.volume import Quantity, Volume

Depths = Float[Tensor, " n"]

# Rays a voxel, each way, where the beam is widest: between rays depth is interpolated.
_RAYS_A_VOXEL = 2.0
# So many stretches at once: more leave the cache, fewer leave threads waiting for one another (measured).
_STRETCHES_AT_ONCE = 262_144


def fan_depth(density: Volume, source: Point, points: Points, rays_a_voxel: float = _RAYS_A_VOXEL) -> Depths:
    """Depth of each point along its ray from the source (mm water), from a fan of traced rays.

    Rays from the source cross the planes of the lattice axis that they follow most closely, so many
    or more a voxel of the fan's furthest plane. On each ray the sum of lengths times densities is exact
    at every half voxel of that axis (Siddon, Med. Phys. 12, 252 (1985)); between rays and half
    voxels depth is linear. A point on a ray has the depth of
    :func:`planning.dose.raytrace.radiological_depth`, at some tenth of its cost, as voxels behind
    one another share their ray.

    Parameters
    ----------
    density
        Electron density relative to water, shape ``(1, i, j, k)``; none outside its grid. The
        computation runs where these data are.
    source
        Source position (LPS, mm), outside the lattice.
    points
        Where to report depth, shape ``(n, 3)`` (LPS, mm).
    rays_a_voxel
        How many rays meet a voxel, each way, on the furthest plane.
    """
    density.expect(Quantity.DENSITY)
    data = density.data[0].float()
    if len(points) == 0:
        return data.new_zeros(0)
    # Voxel n of the lattice reaches from n to n + 1.
    start = indices(density.grid, source[None])[0] + 0.5
    ends = indices(density.grid, points) + 0.5
    order, forward = _main_axis(start, ends, data.shape)
    start, ends, data = start[order], ends[:, order], data.permute(order)
    if not forward:
        # Always away from the source.
        start[0], ends[:, 0] = data.shape[0] - start[0], data.shape[0] - ends[:, 0]
        data = data.flip(0)
    first, last = _filled(data)
    data, start[0], ends[:, 0] = data[first:last], start[0] - first, ends[:, 0] - first
    slopes = (ends[:, 1:] - start[1:]) / (ends[:, :1] - start[0])
    low, step, counts = _lattice(slopes, data.shape[0] - start[0], rays_a_voxel)
    n_sub = max(2, 2 * math.ceil(float(np.abs([low, low + step * (counts - 1)]).max()) / 2))
    sums = _traced(data.contiguous(), start, low, step, counts, n_sub)
    at = [ends[:, 0] * n_sub, *((slopes - low) / step).T]
    seen = _between(sums, torch.from_numpy(np.stack(at, axis=1)).float().to(data.device))
    mm = np.linalg.norm(points - source, axis=1) / (ends[:, 0] - start[0])
    return seen * torch.from_numpy(mm).float().to(data.device)


def _main_axis(
    start: Float64[np.ndarray, "3"], ends: Float64[np.ndarray, "n 3"], shape: tuple[int, ...]
) -> tuple[list[int], bool]:
    """Axes with the main one first, and whether rays go up it.

    The main axis is the one along which the source is outside the lattice and the steepest ray
    is least steep.
    """
    box = np.stack([ends.min(axis=0), ends.max(axis=0)])
    best, axis = math.inf, -1
    for a in range(3):
        b, c = (n for n in range(3) if n != a)
        gaps = box[:, a] - start[a]
        outside = start[a] <= 0 or start[a] >= shape[a]
        if outside and gaps.prod() > 0:
            steep = max(np.abs(box[:, other] - start[other]).max() for other in (b, c))
            if steep / np.abs(gaps).min() < best:
                best, axis = steep / np.abs(gaps).min(), a
    if axis < 0:
        raise ValueError("expected a source outside the scan, got one inside it; move the isocentre")
    return [axis, *(n for n in range(3) if n != axis)], bool(start[axis] <= 0)


def _filled(data: Float[Tensor, "a b c"]) -> tuple[int, int]:
    """The layers from the first to the last that hold matter; at least one."""
    filled = torch.nonzero(data.flatten(1).any(dim=1))
    return (0, 1) if len(filled) == 0 else (int(filled[0]), int(filled[-1]) + 1)


def _lattice(
    slopes: Float64[np.ndarray, "n 2"], reach: float, rays_a_voxel: float
) -> tuple[Float64[np.ndarray, "2"], float, np.ndarray]:
    """Least slopes, the step between rays, and how many rays each way."""
    step = 1 / (rays_a_voxel * reach)
    # Whole steps from slope zero: the fan does not depend on which points are asked for.
    low = np.floor(slopes.min(axis=0) / step) * step
    counts = np.floor((slopes.max(axis=0) - low) / step).astype(int) + 2
    return low, step, counts


def _traced(
    data: Float[Tensor, "a b c"],
    start: Float64[np.ndarray, "3"],
    low: Float64[np.ndarray, "2"],
    step: float,
    counts: np.ndarray,
    n_sub: int,
) -> Float[Tensor, "p u v"]:
    """Density times travel along the main axis (voxels), up to each sub-plane, for every ray."""
    n_layers, n_rows, n_columns = data.shape
    n_planes = n_layers * n_sub
    device = data.device
    # One empty voxel all around: what leaves the lattice meets nothing.
    lattice = torch.nn.functional.pad(data, (1, 1, 1, 1)).reshape(n_layers, -1)
    planes = torch.arange(n_planes + 1, dtype=torch.float64) / n_sub - start[0]
    crossed = []
    for axis, size in ((0, n_rows), (1, n_columns)):
        slope = low[axis] + step * torch.arange(int(counts[axis]), dtype=torch.float64)
        place = (start[axis + 1] + slope[None] * planes[:, None] + 1).clamp(0.5, size + 1.5).float()
        crossed.append([part.to(device) for part in _crossings(place)])
    (row, next_row, row_share), (column, next_column, column_share) = crossed
    row, next_row = row * (n_columns + 2), next_row * (n_columns + 2)
    sums = torch.zeros((n_planes + 1, *counts.tolist()), device=device)
    n_at_once = max(1, _STRETCHES_AT_ONCE // int(counts.prod()))
    for first in range(0, n_planes, n_at_once):
        part = slice(first, min(first + n_at_once, n_planes))
        layer = torch.arange(part.start, part.stop, device=device) // n_sub * lattice.shape[1]
        r0, r1 = ((layer[:, None] + x[part])[:, :, None] for x in (row, next_row))
        c0, c1 = (x[part][:, None, :] for x in (column, next_column))
        fu, fv = row_share[part][:, :, None], column_share[part][:, None, :]
        met = lattice.take(r0 + c0).mul_(torch.minimum(fu, fv))
        middle = torch.where(fu < fv, r1 + c0, r0 + c1)
        met.addcmul_(lattice.take(middle), (fu - fv).abs_())
        met.addcmul_(lattice.take(r1 + c1), 1 - torch.maximum(fu, fv))
        sums[part.start + 1 : part.stop + 1] = met
    return sums.div_(n_sub).cumsum_(0)


def _crossings(place: Float[Tensor, "p n"]) -> tuple[Tensor, Tensor, Float[Tensor, "q n"]]:
    """Voxels where each stretch of at most one voxel begins and ends, and the share before it changes."""
    n0, n1 = place[:-1].floor(), place[1:].floor()
    share = (torch.maximum(n0, n1) - place[:-1]) / (place[1:] - place[:-1])
    share = torch.where(n0 == n1, torch.ones_like(share), share.clamp_(0, 1))
    return n0.long(), n1.long(), share


def _between(sums: Float[Tensor, "p u v"], at: Float[Tensor, "n 3"]) -> Depths:
    """Linear interpolation at places given in entries; those beyond the last plane take its value."""
    n_planes, n_u, n_v = sums.shape
    at = at.clamp(min=0).minimum(at.new_tensor([n_planes - 1, n_u - 1, n_v - 1]))
    base = at.floor().minimum(at.new_tensor([n_planes - 2, n_u - 2, n_v - 2]))
    share = at - base
    p, u, v = base.long().unbind(1)
    place, flat = (p * n_u + u).mul_(n_v).add_(v), sums.reshape(-1)
    sp, su, sv = share.unbind(1)

    def along(offset: int) -> Tensor:
        low, high = flat[place + offset], flat[place + offset + 1]
        return torch.lerp(low, high, sv)

    near = torch.lerp(along(0), along(n_v), su)
    far = torch.lerp(along(n_u * n_v), along(n_u * n_v + n_v), su)
    return torch.lerp(near, far, sp)
