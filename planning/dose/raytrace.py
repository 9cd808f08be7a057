"""How much matter lies on a straight line: exact traversal of voxels."""

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from imaging.grid import indices
from imaging.shapes import Point, Points
from imaging.volume import Quantity, Volume

# So many rays at once keep the working arrays in the processor's cache.
_RAYS_AT_ONCE = 32_768
# Rays that have left the lattice are dropped after every so many planes.
_PLANES_BETWEEN_DROPS = 8

Depths = Float[Tensor, " n"]


def radiological_depth(density: Volume, source: Point, points: Points) -> Depths:
    """Depth of each point along its ray from the source (mm water).

    The exact sum of lengths times densities after Siddon, Med. Phys. 12, 252 (1985). Instead of
    sorting all crossings, a ray steps from plane to plane of the lattice axis that it follows most
    closely; between two such planes it meets at most one plane of each other axis, so at most
    three voxels, whose lengths are closed forms.

    Parameters
    ----------
    density
        Electron density relative to water, shape ``(1, i, j, k)``, on any grid; none outside it.
        The computation runs where these data are.
    source
        Source position (LPS, mm).
    points
        Where to report depth, shape ``(n, 3)`` (LPS, mm).
    """
    density.expect(Quantity.DENSITY)
    # One empty voxel all around, so that a ray that leaves meets nothing.
    lattice = torch.nn.functional.pad(density.data[0].float(), (1, 1, 1, 1, 1, 1))
    device = lattice.device
    # Voxel n of the padded lattice reaches from n to n + 1.
    start = torch.from_numpy(indices(density.grid, source[None])[0] + 1.5)
    ends = torch.from_numpy(indices(density.grid, points) + 1.5)
    length = torch.from_numpy(np.linalg.norm(points - source, axis=1))
    direction = start - ends
    axis = direction.abs().argmax(dim=1)
    depth = torch.zeros(len(points), dtype=torch.float32, device=device)
    for a in range(3):
        rays = torch.nonzero(axis == a)[:, 0]
        order = [a, *(b for b in range(3) if b != a)]
        turned = lattice.permute(order).contiguous()
        for chunk in rays.split(_RAYS_AT_ONCE):
            across = direction[chunk][:, order]
            scale = length[chunk] / across[:, 0].abs()
            sums = _march(
                turned,
                ends[chunk][:, order].float().to(device),
                (across / across[:, :1].abs()).float().to(device),
                across[:, 0].abs().float().to(device),
            )
            depth[chunk.to(device)] = sums * scale.float().to(device)
    return depth


def _march(
    lattice: Float[Tensor, "a b c"],
    end: Float[Tensor, "n 3"],
    step: Float[Tensor, "n 3"],
    reach: Depths,
) -> Depths:
    """Sum of density times length from ``end`` over ``reach``, in units of the first axis.

    ``step`` is the way to the source per unit of the first axis: ±1, and two slopes within ±1.
    """
    n_layers, n_rows, n_columns = lattice.shape
    flat = lattice.reshape(-1)
    total, sums = torch.zeros_like(reach), torch.zeros_like(reach)
    alive = torch.arange(len(end), device=end.device)
    forward = step[:, 0] > 0
    at = torch.zeros_like(reach)
    # Where the next plane lies, as travel from the end.
    following = torch.where(forward, end[:, 0].floor() + 1 - end[:, 0], end[:, 0] - (end[:, 0].ceil() - 1))
    layer = torch.where(forward, end[:, 0].floor(), end[:, 0].ceil() - 1).long()
    turn = 2 * forward.long() - 1
    u, v = end[:, 1].contiguous(), end[:, 2].contiguous()
    u0, v0 = u, v
    du, dv = step[:, 1].contiguous(), step[:, 2].contiguous()
    n_planes = 0
    while len(alive):
        to = torch.minimum(following, reach)
        # From the end each time: sums of steps would drift.
        u1, v1 = torch.addcmul(u, to, du), torch.addcmul(v, to, dv)
        cu0, cu1, fu = _crossing(u0, u1, n_rows)
        cv0, cv1, fv = _crossing(v0, v1, n_columns)
        first, last = torch.minimum(fu, fv), torch.maximum(fu, fv)
        base = layer.clamp(0, n_layers - 1).mul_(n_rows)
        row0, row1 = (base + cu0).mul_(n_columns), (base + cu1).mul_(n_columns)
        middle = torch.where(fu < fv, row1 + cv0, row0 + cv1)
        met = flat.index_select(0, row0 + cv0).mul_(first)
        met.addcmul_(flat.index_select(0, middle), last - first)
        met.addcmul_(flat.index_select(0, row1 + cv1), 1 - last)
        sums.addcmul_(met, to - at)
        at, following, u0, v0, layer = to, following + 1, u1, v1, layer + turn
        n_planes += 1
        if n_planes % _PLANES_BETWEEN_DROPS == 0:
            gone = (layer * turn > torch.where(turn > 0, n_layers - 1, 0)) | (at >= reach)
            gone |= ((u0 < 0) & (du <= 0)) | ((u0 > n_rows) & (du >= 0))
            gone |= ((v0 < 0) & (dv <= 0)) | ((v0 > n_columns) & (dv >= 0))
            total[alive] = sums
            keep = torch.nonzero(~gone)[:, 0]
            alive, reach, at, following, sums = (x[keep] for x in (alive, reach, at, following, sums))
            u, v, u0, v0, du, dv = (x[keep] for x in (u, v, u0, v0, du, dv))
            layer, turn = layer[keep], turn[keep]
    return total


def _crossing(
    x0: Depths, x1: Depths, size: int
) -> tuple[Integer[Tensor, " n"], Integer[Tensor, " n"], Depths]:
    """Voxels where a stretch of at most one voxel begins and ends, and where it changes voxel, 0..1."""
    n0, n1 = x0.floor(), x1.floor()
    share = (torch.maximum(n0, n1) - x0) / (x1 - x0)
    share = torch.where(n0 == n1, torch.ones_like(x0), share.clamp(0, 1))
    return n0.clamp(0, size - 1).long(), n1.clamp(0, size - 1).long(), share


def surface_distance(density: Volume, source: Point, through: Point, threshold: float = 0.05) -> float | None:
    """Distance from the source to where a ray first enters matter (mm), or None if it meets none.

    Siddon's sorted crossings, Med. Phys. 12, 252 (1985), eq. 3-14, for one ray from the source
    through a point and beyond to the far end of the lattice.

    Parameters
    ----------
    density
        Electron density relative to water.
    source, through
        Two points of the ray (LPS, mm).
    threshold
        Density from which a voxel counts as matter.
    """
    lengths, voxels, near = _siddon(density, source, through)
    inside = density.data[0].cpu()[tuple(torch.from_numpy(voxels).unbind(1))] > threshold
    hit = torch.nonzero(inside & torch.from_numpy(lengths > 0))
    return None if len(hit) == 0 else float(near[int(hit[0])])


def _siddon(density: Volume, source: Point, through: Point) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lengths (mm), voxels (n, 3) and distances of entry (mm) of a ray's path through the lattice."""
    ends = indices(density.grid, np.stack([source, through])) + 0.5
    start, way = ends[0], ends[1] - ends[0]
    mm = float(np.linalg.norm(through - source))
    shape = density.grid.shape
    alphas = [(np.arange(shape[a] + 1) - start[a]) / way[a] for a in range(3) if way[a] != 0]
    crossings = np.unique(np.concatenate([np.zeros(1), *alphas]))
    crossings = crossings[crossings >= 0]
    middle = np.floor(start + (crossings[:-1, None] + crossings[1:, None]) / 2 * way).astype(np.int64)
    inside = ((middle >= 0) & (middle < np.array(density.grid.shape))).all(axis=1)
    return (np.diff(crossings) * mm)[inside], middle[inside], (crossings[:-1] * mm)[inside]
