"""The photon pencil beam: dose of one beam's bixels, block by block."""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from imaging.grid import indices
from imaging.shapes import Points
from imaging.volume import Quantity, Volume, expect_finite
from planning.beams import Beam, bev_axes, source_position, to_bev
from planning.machine import Machine, expect_in_range

from .bixels import Bixels
from .pencil_beam import RESOLUTION, depth_factors, lateral_tables, off_axis
from .raytrace import radiological_depth, surface_distance

# Lateral reach of bixels (mm at the isocentre): where the optimiser weighs them against each other,
# and where dose is reported. 50 mm leaves out 1.6 % of a 100 mm field's dose on its axis.
CUTOFF = 50.0
FULL_CUTOFF = 100.0
Progress = Callable[[str, float], None]
T = TypeVar("T")

# Voxels that share a cell of the isocentre plane share their bixels; a cell should hold enough
# voxels to make a block worth its call, yet be small so that few of its bixels are out of reach.
_CELLS = (5.0, 10.0)
_VOXELS_A_CELL = 100


@dataclass(frozen=True, eq=False)
class Block:
    """Dose of some bixels of one beam in some voxels, shape ``(n_voxels, n_bixels)``; 0 out of reach."""

    voxels: Integer[Tensor, " v"]
    bixels: Integer[Tensor, " b"]
    dose: Float[Tensor, "v b"]


def blocks(
    beam: Beam,
    bixels: Bixels,
    density: Volume,
    points: Points,
    machine: Machine,
    *,
    cutoff: float = CUTOFF,
) -> Iterator[Block]:
    """Dose of one beam's bixels, block by block; each voxel in reach comes in one block.

    D = (SAD/r)² Σ_i depth factor_i(t) · lateral table_i(x, y), where r is the distance from the
    source, t the radiological depth, and (x, y) the offset from the bixel's own ray, in the frame
    turned so that this ray is the axis, scaled to the isocentre distance. Bortfeld, Schlegel,
    Rhein, Med. Phys. 20, 311 (1993), with the geometry of pyRadPlan.

    Parameters are those of :func:`influence`.
    """
    _expect_geometry(beam, bixels, density, machine)
    device = density.data.device
    ssd = _surface(beam, bixels, density, machine)
    tables = lateral_tables(machine.beam, ssd, bixels.width, cutoff).to(device)
    source = source_position(beam, machine.sad)
    seen, cells, size = _seen(beam, bixels, points, machine.sad, cutoff)
    near = points[seen.numpy()]
    bev = to_bev(beam, near)
    along = machine.sad - bev[:, 2]
    slope = torch.from_numpy(bev[:, :2] / along[:, None]).float().to(device)
    r = torch.from_numpy(np.linalg.norm(near - source, axis=1)).float().to(device)
    softer = off_axis(machine.beam, machine.sad * np.hypot(*(bev[:, :2] / along[:, None]).T))[1]
    depth = radiological_depth(density, source, near) * torch.from_numpy(softer).float().to(device)
    strength = depth_factors(machine.beam, depth) * (machine.sad / r) ** 2
    rays = _rays(bixels, machine.sad, device)
    horns = torch.from_numpy(off_axis(machine.beam, np.hypot(*bixels.positions.T))[0]).float().to(device)
    reach = _plane_reach(bixels, machine.sad, cutoff) + size * math.sqrt(0.5)
    for first, last, middle in cells:
        apart = np.hypot(*(bixels.positions - middle).T)
        own = torch.from_numpy(np.nonzero(apart <= reach)[0]).to(device)
        dose = _block(slope[first:last], strength[:, first:last], rays[:, own], tables, machine.sad, cutoff)
        yield Block(seen[first:last].to(device), own, dose.mul_(horns[own]))


def _block(
    slope: Float[Tensor, "v 2"],
    strength: Float[Tensor, "3 v"],
    rays: Float[Tensor, "5 b"],
    tables: Float[Tensor, "3 n n"],
    sad: float,
    cutoff: float,
) -> Float[Tensor, "v b"]:
    """Dose of bixels in voxels that are given by their slopes from the beam's axis."""
    bx, by, bz, kx, ky = rays
    p, q = slope[:, :1], slope[:, 1:]
    # Scale to the isocentre distance, over the share of the depth along the bixel's ray.
    scale = (p * bx).addcmul_(q, by).add_(bz).reciprocal_().mul_(sad)
    # grid_sample wants the second axis first.
    at = torch.empty((*scale.shape, 2), device=scale.device)
    x, y = at[..., 1], at[..., 0]
    torch.mul(p - kx, scale, out=x).sub_(sad * kx)
    torch.mul(q - ky, scale, out=y).sub_(sad * ky)
    within = (x * x).addcmul_(y, y) < cutoff**2
    # -1..1 over the table, which is one quadrant.
    at.abs_().mul_(2 / ((tables.shape[-1] - 1) * RESOLUTION)).sub_(1)
    lateral = torch.nn.functional.grid_sample(
        tables[None], at[None], mode="bilinear", padding_mode="border", align_corners=True
    )[0]
    dose = lateral[0] * strength[0, :, None]
    for n in (1, 2):
        dose.addcmul_(lateral[n], strength[n, :, None])
    return dose.mul_(within)


def _rays(bixels: Bixels, sad: float, device: torch.device) -> Float[Tensor, "5 b"]:
    """Unit rays of bixels in the beam's axes, z away from the source, and their tilts k.

    The least rotation that takes the axis to the ray b takes x to x − k_x (axis + b) with
    k_x = b_x / (1 + b_z), and y likewise.
    """
    x, y = bixels.positions.T
    length = np.sqrt(x**2 + y**2 + sad**2)
    bx, by, bz = x / length, y / length, sad / length
    return torch.from_numpy(np.stack([bx, by, bz, bx / (1 + bz), by / (1 + bz)])).float().to(device)


def _plane_reach(bixels: Bixels, sad: float, cutoff: float) -> float:
    """Furthest offset on the isocentre plane (mm) that may lie within the cutoff of a tilted ray."""
    tangent = (np.hypot(*bixels.positions.T).max() + 1.2 * cutoff) / sad
    return cutoff * float(1 + tangent**2)


def _seen(
    beam: Beam, bixels: Bixels, points: Points, sad: float, cutoff: float
) -> tuple[Int64[Tensor, " v"], list[tuple[int, int, np.ndarray]], float]:
    """Points within reach of any bixel, sorted by cell, and each cell's span and middle (mm)."""
    bev = to_bev(beam, points)
    plane = bev[:, :2] * (sad / (sad - bev[:, 2:]))
    reach = _plane_reach(bixels, sad, cutoff)
    low, high = bixels.positions.min(axis=0) - reach, bixels.positions.max(axis=0) + reach
    inside = np.nonzero(((plane >= low) & (plane <= high)).all(axis=1))[0]
    n_small_cells = float(np.prod((high - low) / _CELLS[0]))
    size = _CELLS[0] if len(inside) > _VOXELS_A_CELL * n_small_cells else _CELLS[1]
    cell = np.floor((plane[inside] - low) / size).astype(np.int64)
    n_y = int(cell[:, 1].max(initial=0)) + 1
    key = cell[:, 0] * n_y + cell[:, 1]
    order = np.argsort(key, kind="stable")
    keys, first = np.unique(key[order], return_index=True)
    ends = np.append(first, len(order))[1:]
    spans = []
    kept = []
    n_kept = 0
    for k, a, b in zip(keys, first, ends, strict=True):
        middle = low + (np.array([k // n_y, k % n_y]) + 0.5) * size
        if np.hypot(*(bixels.positions - middle).T).min() <= reach + size * math.sqrt(0.5):
            spans.append((n_kept, n_kept + int(b - a), middle))
            kept.append(order[a:b])
            n_kept += int(b - a)
    seen = inside[np.concatenate(kept)] if kept else np.empty(0, dtype=np.int64)
    return torch.from_numpy(seen), spans, size


def _surface(beam: Beam, bixels: Bixels, density: Volume, machine: Machine) -> float:
    """Distance from the source to the surface along the ray nearest the axis that meets tissue (mm)."""
    source, axes = source_position(beam, machine.sad), bev_axes(beam)
    nearest = np.argsort(np.hypot(*bixels.positions.T), kind="stable")
    for x, y in [np.zeros(2), *bixels.positions[nearest]]:
        ssd = surface_distance(density, source, beam.isocenter + x * axes[0] + y * axes[1])
        if ssd is not None:
            return ssd
    raise ValueError(
        f"expected tissue in the beam at gantry {beam.gantry:g}, couch {beam.couch:g}, got none; "
        "check the isocentre and the body contour"
    )


def _expect_geometry(beam: Beam, bixels: Bixels, density: Volume, machine: Machine) -> None:
    """Refuse what would put dose in the wrong place."""
    expect_finite(density.expect(Quantity.DENSITY))
    expect_in_range(beam, machine)
    if len(bixels.positions) == 0:
        raise ValueError(
            f"expected bixels for the beam at gantry {beam.gantry:g}, got none; cover the target"
        )
    index = indices(density.grid, beam.isocenter[None])[0]
    if not ((index >= -0.5) & (index <= np.array(density.grid.shape) - 0.5)).all():
        raise ValueError(
            f"expected an isocentre inside the scan, got {np.round(beam.isocenter, 1)} mm (LPS); "
            "move it to the target"
        )


def each_beam(
    work: Callable[[int], T], n_beams: int, device: torch.device, step: str, progress: Progress | None
) -> list[T]:
    """What ``work`` gives for beams 0..n-1, in their order, on as many cores as torch may use.

    One core for each beam: blocks are too small to share between cores, and cores that wait for
    one another on a busy machine are slower than one.
    """
    n_cores = torch.get_num_threads()
    n_workers = max(1, min(n_cores, os.cpu_count() or 1, n_beams)) if device.type == "cpu" else 1
    found = []
    try:
        with ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for n, result in enumerate(pool.map(work, range(n_beams))):
                found.append(result)
                if progress is not None:
                    progress(step, (n + 1) / n_beams)
    finally:
        torch.set_num_threads(n_cores)
    return found
