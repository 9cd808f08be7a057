"""Collapsed cones: energy leaves where it is released along a set of directions, and thins out on the way.

Ahnesjö, Med. Phys. 16, 577 (1989). The point kernel of a spectrum is cut into cones; all energy of
a cone travels on its axis. Its two parts, by electrons of the first interaction and by scattered photons,
each fall off along an axis as a sum of two exponentials, whose energy is that of the kernel.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.optimize import least_squares
from torch import Tensor

from imaging.grid import Grid
from planning.beams import Beam, bev_axes

from . import water
from .point_kernel import ANGLES, RADII
from .spectrum import Spectrum, kernels

# Polar angles (degrees) between rings of cones, and how many cones each ring has. Multiples of four
# make the cones of a beam along a voxel axis their own mirror images and quarter turns.
_RINGS = (0, 10, 20, 30, 40, 50, 60, 75, 90, 120, 180)
_CONES = (4, 8, 8, 12, 12, 12, 12, 12, 12, 8)
# The kernel is that of the beam at this depth (mm water): the spectrum hardens only slowly.
_DEPTH = 50.0
# Air, for the way through it: what is thinner weighs as little, and single precision still tells it.
_LEAST_DENSITY = 1e-3
# Rates of two exponentials differ at least and at most by these factors.
_RATIO = (1.1, 50.0)

Field = Float[Tensor, "i j k"]


@dataclass(frozen=True, eq=False)
class Cones:
    """Directions in which energy leaves a point, how much, and how fast it is given off.

    Parameters
    ----------
    direction
        Unit vectors; z is the way of the photons.
    rate
        Two for the primary part, then two for the scattered part (1/mm of water).
    weight
        Share of the part's energy that goes with each rate, over all cones 1 for each part. One of
        a pair may be negative, their sum along an axis never is.
    """

    direction: Float64[np.ndarray, "n 3"]
    rate: Float64[np.ndarray, "n 4"]
    weight: Float64[np.ndarray, "n 4"]


def cones(spectrum: Spectrum) -> Cones:
    """The cones of a spectrum's point kernel in water."""
    parts = _polyenergetic(spectrum)
    middle = (ANGLES[1:] + ANGLES[:-1]) / 2
    direction, rate, weight = [], [], []
    for low, high, count in zip(_RINGS[:-1], _RINGS[1:], _CONES, strict=True):
        inside = (middle > low) & (middle < high)
        ring = parts[:, inside]
        polar = np.deg2rad(np.average(middle[inside], weights=ring.sum(axis=(0, 2))))
        # No cone halfway between the lattice's axes, where rounding would say which it follows.
        azimuth = (np.arange(count) + (count == 8) / 2) * 2 * np.pi / count
        across = np.sin(polar) * np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1)
        direction.append(np.column_stack([across, np.full(count, np.cos(polar))]))
        fitted = [_two_exponentials(part.sum(axis=0)) for part in ring]
        rate.append(np.tile(np.concatenate([f[0] for f in fitted]), (count, 1)))
        weight.append(np.tile(np.concatenate([f[1] for f in fitted]), (count, 1)) / count)
    return Cones(np.concatenate(direction), np.concatenate(rate), np.concatenate(weight))


def in_grid(kernel: Cones, beam: Beam, grid: Grid) -> Float64[np.ndarray, "n 3"]:
    """Axes of the cones of a beam along the voxel axes of a grid.

    One set for the whole beam: off its axis, photons travel up to some degrees aslant of it.
    """
    x, y, z = bev_axes(beam)
    along = kernel.direction @ np.stack([x, y, -z])
    return along @ (grid.affine[:3, :3] / grid.spacing)


def _polyenergetic(spectrum: Spectrum) -> Float64[np.ndarray, "2 angles radii"]:
    """Primary and scattered part of a spectrum's kernel, each of energy 1."""
    attenuation = water.attenuation(spectrum.energy)
    released = spectrum.fluence * spectrum.energy * attenuation * np.exp(-attenuation * _DEPTH)
    parts = np.stack(
        [np.tensordot(released, part, axes=1) for part in (kernels().primary, kernels().scatter)]
    ).astype(np.float64)
    return parts / parts.sum(axis=(1, 2), keepdims=True)


def _two_exponentials(
    shares: Float64[np.ndarray, " radii"],
) -> tuple[Float64[np.ndarray, "2"], Float64[np.ndarray, "2"]]:
    """Rates and weights of w a exp(−a r) + (1 − w) b exp(−b r) that fit the energy within each radius.

    The cumulative kernel is fitted, as in Lu, Olivera, Chen, Reckwerdt, Mackie, Phys. Med. Biol. 50,
    655 (2005), so that voxels of any size get their energy. The weights sum up to that of the bins.
    """
    total = shares.sum()
    within = np.cumsum(shares)[:-1] / total
    edges = RADII[1:-1]
    start = 1 / np.interp(0.6, within, edges)

    def unpack(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b = np.exp(p[0]), np.exp(p[0] + p[1])
        # At most b/(b − a): beyond, the sum would be negative at the start.
        w = p[2] * b / (b - a)
        return np.array([a, b]), np.array([w, 1 - w])

    def miss(p: np.ndarray) -> np.ndarray:
        rates, weights = unpack(p)
        return -np.expm1(-np.outer(edges, rates)) @ weights - within

    low = np.array([np.log(start / 20), np.log(_RATIO[0]), 0.0])
    high = np.array([np.log(start * 20), np.log(_RATIO[1]), 1.0])
    tries = [np.array([np.log(start), np.log(ratio), v]) for ratio in (1.5, 6.0) for v in (0.3, 0.7, 0.95)]
    best = min((least_squares(miss, p, bounds=(low, high)) for p in tries), key=lambda found: found.cost)
    rates, weights = unpack(best.x)
    return rates, weights * total


def spread(
    primary: Field,
    scatter: Field,
    density: Field,
    spacing: Float64[np.ndarray, "3"],
    directions: Float64[np.ndarray, "n 3"],
    kernel: Cones,
) -> Field:
    """Energy per mass that stays in each voxel, from what is released per mass in each.

    On every cone's axis parallel lines run through the lattice, one to a voxel of each plane. Along
    a line energy R of one rate a obeys dR/ds = −a ρ R + released, solved exactly from plane to plane;
    voxels share what is released, and what stays, with the lines beside them, in proportion to how near
    they are. Nothing is lost but at the lattice's faces.

    Parameters
    ----------
    primary, scatter
        Energy released per mass (collision kerma; what photons carry on).
    density
        Relative to water.
    spacing
        Size of the voxels (mm).
    directions
        The cones' axes along the lattice's axes i, j, k.
    kernel
        The cones.
    """
    step = directions / spacing
    main = np.abs(step).argmax(axis=1)
    total = torch.zeros_like(density)
    for axis in range(3):
        order = [axis, *(a for a in range(3) if a != axis)]
        back = [order.index(a) for a in range(3)]
        for forward in (True, False):
            own = np.nonzero((main == axis) & ((step[:, axis] > 0) == forward))[0]
            if len(own) == 0:
                continue
            turned = torch.stack([primary, scatter, density]).permute(0, *(a + 1 for a in order))
            turned = (turned if forward else turned.flip(1)).contiguous()
            turned[:2] *= turned[2]
            turned = torch.nn.functional.pad(turned, (1, 1, 1, 1))
            turned[2].clamp_(min=_LEAST_DENSITY)
            dose = torch.zeros_like(turned[0, :, 1:-1, 1:-1])
            for n in own:
                way = step[n, order] / abs(step[n, axis])
                path = 1 / abs(step[n, axis])
                dose += _along(turned, way[1:], path, kernel.rate[n], kernel.weight[n])
            total += (dose if forward else dose.flip(0)).permute(back)
    return total


def _along(
    fields: Float[Tensor, "3 p u v"],
    slope: Float64[np.ndarray, "2"],
    path: float,
    rate: Float64[np.ndarray, "4"],
    weight: Float64[np.ndarray, "4"],
) -> Float[Tensor, "p i j"]:
    """Energy per mass from one cone, in a lattice whose first axis the cone follows.

    ``fields``: energy released per volume, primary and scattered, and density, with an empty row and
    column all around, which the result has not; ``slope``: sideways steps from plane to plane (voxels);
    ``path``: way from plane to plane (mm). Line n is ``aside`` behind voxel n of the padded lattice.
    """
    n_planes, device = fields.shape[1], fields.device
    offset = np.outer(np.arange(n_planes), slope)
    whole = np.floor(offset + 1e-9)
    aside = torch.from_numpy(offset - whole).float().to(device)
    u, v = aside[:, :1, None], aside[:, 1:, None]
    lines = torch.lerp(fields[:, :, :-1], fields[:, :, 1:], u)
    lines = torch.lerp(lines[..., :-1], lines[..., 1:], v)
    rates, weights = (
        torch.from_numpy(a).float().to(device)[:, None, None, None] for a in (rate, weight * path)
    )
    depth = lines[2] * path
    released = lines[:2].repeat_interleave(2, dim=0).mul_(weights)
    x = depth * -rates
    lost = torch.expm1(x)
    # What is released evenly within a voxel and leaves it.
    out = released * (lost / x)
    kept = lost.add_(1)
    arrived = torch.zeros_like(out)
    n_u, n_v = out.shape[2:]
    # One empty row and column all around: what comes from beyond the lattice.
    leaving = torch.zeros((4, n_u + 2, n_v + 2), device=device)
    inner = leaving[:, 1:-1, 1:-1]
    inner.copy_(out[:, 0])
    for p, (du, dv) in enumerate(np.diff(whole, axis=0).astype(int).tolist(), start=1):
        arrived[:, p] = leaving[:, 1 - du : 1 - du + n_u, 1 - dv : 1 - dv + n_v]
        torch.addcmul(out[:, p], arrived[:, p], kept[:, p], out=inner)
    # Energy balance of each voxel: came, released, went on.
    balance = arrived.sub_(out.addcmul_(arrived, kept)).add_(released).sum(dim=0).div_(depth)
    # Back to the voxels by the same shares: as the line's density is theirs, no energy is lost.
    dose = torch.zeros_like(fields[0])
    for end, far in ((slice(None, -1), 1 - v), (slice(1, None), v)):
        part = balance * far
        dose[:, :-1, end] += part * (1 - u)
        dose[:, 1:, end] += part * u
    return dose[:, 1:-1, 1:-1]
