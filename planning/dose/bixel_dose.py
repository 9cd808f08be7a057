"""The photon pencil beam: dose of one beam's bixels, block by block."""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from imaging.shapes import Points
from imaging.volume import Volume
from planning.beams import Beam, source_position
from planning.machine import Machine

from .bixels import Bixels
from .entry import expect_geometry, surface
from .fan import fan_depth
from .layout import Layout, lay_out
from .pencil_beam import FINE, depth_factors, lateral_tables, off_axis, refined

# Lateral reach of bixels (mm at the isocentre): where the optimiser weighs them against each other,
# and where dose is reported. 50 mm leaves out 1.6 % of a 100 mm field's dose on its axis.
CUTOFF = 50.0
FULL_CUTOFF = 100.0
# Chebyshev nodes, each way of a cell, of squared distances.
_N_APART = 3
Progress = Callable[[str, float], None]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Block:
    """Dose of some bixels of one beam in some voxels, shape ``(n_voxels, n_bixels)``; 0 out of reach."""

    voxels: Integer[Tensor, " v"]
    bixels: Integer[Tensor, " b"]
    dose: Float[Tensor, "v b"]


@dataclass(frozen=True, eq=False)
class _Lateral:
    """The lateral part of one beam.

    Tables on a spacing of ``FINE``; bixels' rays as ``_rays`` gives them; the nodes of a cell, as slopes
    from its middle, ``n_nodes`` each way and then those for distances; half a cell's side as a slope.
    """

    tables: Float[Tensor, "3 t t"]
    rays: Float[Tensor, "6 b"]
    nodes: Float[Tensor, "n 2"]
    half: float
    n_nodes: int
    sad: float
    cutoff: float


def blocks(
    beam: Beam,
    bixels: Bixels,
    density: Volume,
    points: Points,
    machine: Machine,
    *,
    cutoff: float = CUTOFF,
    layout: Layout | None = None,
    out: Float[Tensor, " entries"] | None = None,
) -> Iterator[Block]:
    """Dose of one beam's bixels, block by block; each voxel in reach comes in one block.

    D = (SAD/r)² Σ_i depth factor_i(t) · lateral table_i(x, y), where r is the distance from the
    source, t the radiological depth, and (x, y) the offset from the bixel's own ray, in the frame
    turned so that this ray is the axis, scaled to the isocentre distance. Bortfeld, Schlegel,
    Rhein, Med. Phys. 20, 311 (1993), with the geometry of pyRadPlan.

    The lateral part depends on the direction of a voxel alone. Over the few millimetres of a cell
    it is a polynomial, found at Chebyshev nodes (to 0.05 % of a bixel's greatest dose), so that a
    block is one product of matrices: voxels by nodes and components, times these by bixels.

    Parameters are those of :func:`planning.dose.influence.influence`, and

    Parameters
    ----------
    layout
        What :func:`planning.dose.layout.lay_out` gives for the same beam, bixels, points and cutoff.
    out
        Where the blocks are written one after the other; their own memory if None.
    """
    expect_geometry(beam, density, machine)
    layout = lay_out(beam, bixels, points, machine, cutoff) if layout is None else layout
    device = density.data.device
    if not layout.cells:
        return
    voxels = torch.from_numpy(layout.voxels).to(device)
    slope, strength = _seen_from_source(beam, layout, density, points[layout.voxels], machine)
    ssd = surface(beam, bixels.positions, density, machine)
    lateral = _lateral_of(bixels, ssd, machine, cutoff, layout.size, device)
    along_x, across, near = _polynomials(layout, strength, lateral)
    start = 0
    for cell in layout.cells:
        span, own = slice(cell.first, cell.last), torch.from_numpy(cell.bixels).to(device)
        n_voxels, n_bixels = cell.last - cell.first, len(own)
        flat = torch.empty(n_voxels * n_bixels, device=device) if out is None else out[start:]
        dose = flat[: n_voxels * n_bixels].view(n_voxels, n_bixels)
        start += n_voxels * n_bixels
        if n_voxels <= lateral.n_nodes**2:
            _fill_singly(dose, slope[span], strength[:, span], lateral, own)
        else:
            nodes = torch.from_numpy(cell.middle / machine.sad).float().to(device) + lateral.nodes
            at_nodes, apart = _at_nodes(nodes, lateral, own)
            torch.mm((along_x[span, :, None] * across[span, None]).flatten(1), at_nodes, out=dose)
            dose.mul_(torch.mm(near[span], apart) < cutoff**2)
        yield Block(voxels[span], own, dose)


def _seen_from_source(
    beam: Beam, layout: Layout, density: Volume, points: Points, machine: Machine
) -> tuple[Float[Tensor, "v 2"], Float[Tensor, "3 v"]]:
    """Slopes of points from the beam's axis, and their depth factors times (SAD/r)²."""
    device = density.data.device
    depth = fan_depth(density, source_position(beam, machine.sad), points)
    tangent = np.hypot(*layout.slope.T)
    softer = off_axis(machine.beam, machine.sad * tangent)[1]
    nearer = (machine.sad / layout.along) ** 2 / (1 + tangent**2)
    strength = depth_factors(machine.beam, depth * torch.from_numpy(softer).float().to(device))
    slope = torch.from_numpy(layout.slope).float().to(device)
    return slope, strength.mul_(torch.from_numpy(nearer).float().to(device))


def _lateral_of(
    bixels: Bixels, ssd: float, machine: Machine, cutoff: float, size: float, device: torch.device
) -> _Lateral:
    half = size / 2 / machine.sad
    n = math.ceil(3 + 3 * size / machine.beam.penumbra_fwhm.min())
    return _Lateral(
        refined(lateral_tables(machine.beam, ssd, bixels.width, cutoff)).to(device),
        _rays(bixels, machine).float().to(device),
        (half * torch.cat([_nodes(n), _nodes(_N_APART)])).to(device),
        half,
        n,
        machine.sad,
        cutoff,
    )


def _polynomials(
    layout: Layout, strength: Float[Tensor, "3 v"], lateral: _Lateral
) -> tuple[Float[Tensor, "v p"], Float[Tensor, "v n"], Float[Tensor, "v m"]]:
    """What the nodes of its cell count for each voxel.

    Along x, times the voxel's three strengths; along y; and at the few nodes of squared distances,
    which are as good as quadratic over a cell.
    """
    spans = [cell.last - cell.first for cell in layout.cells]
    middles = np.repeat(np.stack([c.middle for c in layout.cells]), spans, axis=0) / lateral.sad
    place = torch.from_numpy((layout.slope - middles) / lateral.half).float().to(strength.device)
    x, y = (_basis(p, lateral.n_nodes) for p in place.clamp_(-1, 1).unbind(1))
    few_x, few_y = (_basis(p, _N_APART) for p in place.unbind(1))
    weighted = (strength.T[:, :, None] * x[:, None]).flatten(1)
    return weighted, y, (few_x[:, :, None] * few_y[:, None]).flatten(1)


def _at_nodes(
    nodes: Float[Tensor, "n 2"], lateral: _Lateral, own: Int64[Tensor, " b"]
) -> tuple[Float[Tensor, "m b"], Float[Tensor, "k b"]]:
    """Lateral factors of bixels at the nodes of a cell, and squared distances (mm²) at the last few."""
    rays, n = lateral.rays[:, own], lateral.n_nodes**2
    at = _offsets(nodes, rays, lateral.sad)
    factors = _looked_up(at[:n], lateral.tables).mul_(rays[5])
    return factors.flatten(0, 1), at[n:].square_().sum(dim=2)


def _fill_singly(
    dose: Float[Tensor, "v b"],
    slope: Float[Tensor, "v 2"],
    strength: Float[Tensor, "3 v"],
    lateral: _Lateral,
    own: Int64[Tensor, " b"],
) -> None:
    """Dose of bixels in so few voxels that polynomials do not pay."""
    rays = lateral.rays[:, own]
    at = _offsets(slope, rays, lateral.sad)
    factors = _looked_up(at, lateral.tables).mul_(rays[5]).mul_(strength[:, :, None])
    torch.sum(factors, dim=0, out=dose)
    dose.mul_(at.square_().sum(dim=2) < lateral.cutoff**2)


def _offsets(slope: Float[Tensor, "m 2"], rays: Float[Tensor, "6 b"], sad: float) -> Float[Tensor, "m b 2"]:
    """Offsets x and y (mm at the isocentre) of directions from bixels' own rays, in their turned frames."""
    bx, by, bz, kx, ky, _ = rays
    p, q = slope[:, :1], slope[:, 1:]
    # Scale to the isocentre distance, over the share of the depth along the bixel's ray.
    scale = (p * bx).addcmul_(q, by).add_(bz).reciprocal_().mul_(sad)
    at = torch.empty((*scale.shape, 2), device=scale.device)
    torch.mul(p - kx, scale, out=at[..., 0]).sub_(sad * kx)
    torch.mul(q - ky, scale, out=at[..., 1]).sub_(sad * ky)
    return at


def _looked_up(at: Float[Tensor, "m b 2"], tables: Float[Tensor, "3 n n"]) -> Float[Tensor, "3 m b"]:
    """The lateral tables at offsets; the tables are one quadrant, and go on beyond their end as they end."""
    # -1..1 over the table, and grid_sample wants the second axis first.
    place = at.flip(2).abs_().mul_(2 / ((tables.shape[-1] - 1) * FINE)).sub_(1)
    return torch.nn.functional.grid_sample(
        tables[None], place[None], mode="bilinear", padding_mode="border", align_corners=True
    )[0]


@cache
def _nodes(n: int) -> Float[Tensor, "m 2"]:
    """Chebyshev's nodes in -1..1, every one with every one."""
    one = torch.cos((torch.arange(n, dtype=torch.float64) + 0.5) * math.pi / n).float()
    return torch.cartesian_prod(one, one)


@cache
def _to_lagrange(n: int) -> Float[Tensor, "n n"]:
    """What turns the first n Chebyshev polynomials into those that are 1 at one node and 0 at the others."""
    order = torch.arange(n, dtype=torch.float64)
    return torch.linalg.inv(torch.cos(order[None] * (order[:, None] + 0.5) * math.pi / n)).float()


def _basis(place: Float[Tensor, " v"], n: int) -> Float[Tensor, "v n"]:
    """What each of n nodes counts at places in -1..1."""
    polynomials = [torch.ones_like(place), place]
    for _ in range(n - 2):
        polynomials.append(2 * place * polynomials[-1] - polynomials[-2])
    return torch.stack(polynomials, dim=1) @ _to_lagrange(n).to(place)


def _rays(bixels: Bixels, machine: Machine) -> Float[Tensor, "6 b"]:
    """Unit rays of bixels in the beam's axes, z away from the source, their tilts k, and their horns.

    The least rotation that takes the axis to the ray b takes x to x − k_x (axis + b) with
    k_x = b_x / (1 + b_z), and y likewise.
    """
    x, y = bixels.positions.T
    length = np.sqrt(x**2 + y**2 + machine.sad**2)
    bx, by, bz = x / length, y / length, machine.sad / length
    horns = off_axis(machine.beam, np.hypot(x, y))[0]
    return torch.from_numpy(np.stack([bx, by, bz, bx / (1 + bz), by / (1 + bz), horns]))


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
