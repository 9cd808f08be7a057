"""Dose of fluence maps without a matrix: convolution on the isocentre plane, with its exact adjoint."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from jaxtyping import Float
from scipy.fft import next_fast_len, rfft2
from torch import Tensor

from imaging.shapes import Points
from imaging.volume import Volume
from planning.beams import Beam, bev_axes, source_position
from planning.machine import Machine, PencilBeam

from .aperture import Lattice
from .bixel_dose import each_beam
from .entry import expect_geometry, surface
from .fan import fan_depth
from .pencil_beam import RESOLUTION, blurred_edge, depth_factors, off_axis

# Where else than on its axis a beam may first meet tissue (mm on the isocentre plane).
_LOOK = 5.0 * np.stack(np.meshgrid(np.arange(-20.0, 21), np.arange(-20.0, 21)), axis=-1).reshape(-1, 2)
# Convolutions come in steps of this size (mm), so that most views share their kernels.
_SPAN = 20.0
# Doses of so many views are held at once.
_VIEWS_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class View:
    """Points as one beam sees them.

    Parameters
    ----------
    depth
        Radiological depth of each point, softening off the axis included (mm water).
    points
        The points from the isocentre (LPS, mm), shape ``(n, 3)``; views of one isocentre share them.
    to_beam
        Rows: x, y and z of the beam limiting device in LPS.
    low, high
        Between which places on the isocentre plane the points are seen (mm).
    ssd
        Distance from the source to the surface (mm).
    machine
        Its geometry and pencil beam.
    """

    depth: Float[Tensor, " n"]
    points: Float[Tensor, "n 3"]
    to_beam: Float[Tensor, "3 3"]
    low: tuple[float, float]
    high: tuple[float, float]
    ssd: float
    machine: Machine


def views(beams: Sequence[Beam], density: Volume, points: Points, machine: Machine) -> list[View]:
    """Points as beams see them, ray traced: what does not change while fluence does.

    Parameters
    ----------
    beams
        Their directions and one isocentre.
    density
        Relative electron density; the computation runs where it lies.
    points
        Where dose is asked for (LPS, mm), shape ``(n, 3)``.
    machine
        Its geometry and pencil beam.

    Raises
    ------
    ValueError
        If there is no beam, the density is not finite, beams have several isocentres or one outside the
        grid, a beam meets no tissue, or an angle is out of the machine's range.
    """
    if not beams or any((beam.isocenter != beams[0].isocenter).any() for beam in beams):
        raise ValueError("expected one or more beams with one isocentre; compute each isocentre apart")
    device = density.data.device
    shared = torch.from_numpy(points - beams[0].isocenter).float().to(device)

    def one(n: int) -> View:
        beam = beams[n]
        expect_geometry(beam, density, machine)
        ssd = surface(beam, _LOOK, density, machine)
        bev = (points - beam.isocenter) @ bev_axes(beam).T
        x, y = (bev[:, :2] * (machine.sad / (machine.sad - bev[:, 2:]))).T
        softer = torch.from_numpy(off_axis(machine.beam, np.hypot(x, y))[1]).float().to(device)
        depth = fan_depth(density, source_position(beam, machine.sad), points)
        ends = [(float(p.min(initial=0.0)), float(p.max(initial=0.0))) for p in (x, y)]
        turn = torch.from_numpy(bev_axes(beam)).float().to(device)
        low, high = (ends[0][0], ends[1][0]), (ends[0][1], ends[1][1])
        return View(depth * softer, shared, turn, low, high, ssd, machine)

    return each_beam(one, len(beams), device, "rays", None)


def dose(seen: Sequence[View], fluence: Float[Tensor, "b nx ny"], lattice: Lattice) -> Float[Tensor, " n"]:
    """Dose of fluence maps, one for each view, summed (Gy); differentiable in the fluence.

    D = (SAD/r)² Σ_i depth factor_i(t) · (Ψ ⊗ pixel ⊗ source ⊗ K_i)(x, y) after Bortfeld, Schlegel,
    Rhein, Med. Phys. 20, 311 (1993), where (x, y) is where the point is seen on the isocentre plane.
    Ψ is the fluence times the machine's horns over cos³ of the angle from the axis: bixels are defined
    in a frame that is turned with their ray, which sees the plane smaller by as much.

    Memory holds the views, and the working arrays and doses of a few of them.

    Parameters
    ----------
    seen
        The views, of one set of points.
    fluence
        Weights of the pencil beam on the pixels, for each view.
    lattice
        The pixels.

    Raises
    ------
    ValueError
        If there is not one map of the lattice's shape for each view.
    """
    if tuple(fluence.shape) != (len(seen), *lattice.shape):
        raise ValueError(
            f"expected a fluence map of {lattice.shape} pixels for each of {len(seen)} views, "
            f"got {tuple(fluence.shape)}"
        )
    return _Dose.apply(fluence, seen, lattice)


def adjoint(
    seen: Sequence[View], gradient: Float[Tensor, " n"], lattice: Lattice
) -> Float[Tensor, "b nx ny"]:
    """Transpose of :func:`dose`: gradient by dose to gradient by fluence."""
    found = each_beam(
        lambda n: _to_fluence(seen[n], gradient, lattice), len(seen), gradient.device, "adjoint", None
    )
    return torch.stack(found)


class _Dose(torch.autograd.Function):
    """The sum over views and its transpose; nothing is kept between the two but the views."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, fluence: Tensor, seen: Sequence[View], lattice: Lattice
    ) -> Tensor:
        ctx.given = seen, lattice  # type: ignore[attr-defined]
        total = torch.zeros(len(seen[0].depth), dtype=fluence.dtype, device=fluence.device)
        for first in range(0, len(seen), _VIEWS_AT_ONCE):
            some = list(zip(seen, fluence, strict=True))[first : first + _VIEWS_AT_ONCE]
            work = partial(_one_of, some, lattice)
            for part in each_beam(work, len(some), fluence.device, "dose", None):
                total += part
        return total

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        seen, lattice = ctx.given  # type: ignore[attr-defined]
        return adjoint(seen, gradients[0], lattice), None, None


def _one_of(some: Sequence[tuple[View, Tensor]], lattice: Lattice, n: int) -> Tensor:
    return _from_fluence(*some[n], lattice)


def _from_fluence(view: View, fluence: Float[Tensor, "nx ny"], lattice: Lattice) -> Float[Tensor, " n"]:
    frame = _frame(view, lattice)
    spread = fluence.new_zeros(frame.size, frame.size)
    spread[frame.pixels] = fluence * _weights(view.machine, lattice).to(fluence)
    spectra = torch.fft.rfft2(spread) * _spectra(view, lattice, frame.size).to(fluence)
    maps = torch.fft.irfft2(spectra, s=(frame.size, frame.size))
    place, strength = _geometry(view, frame, fluence.dtype)
    sampled = torch.nn.functional.grid_sample(maps[None], place, mode="bilinear", align_corners=True)
    return (sampled[0, :, 0] * strength).sum(dim=0)


def _to_fluence(view: View, gradient: Float[Tensor, " n"], lattice: Lattice) -> Float[Tensor, "nx ny"]:
    """Every step of ``_from_fluence`` transposed, in the opposite order."""
    frame = _frame(view, lattice)
    place, strength = _geometry(view, frame, gradient.dtype)
    empty = gradient.new_zeros(1, 3, frame.size, frame.size)
    # The transpose of bilinear sampling; 0, 0: bilinear, zeros beyond the edge.
    maps, _ = torch.ops.aten.grid_sampler_2d_backward(
        (strength * gradient)[None, :, None], empty, place, 0, 0, True, [True, False]
    )
    # The kernels are even, so that their convolution is its own transpose.
    spectra = (torch.fft.rfft2(maps[0]) * _spectra(view, lattice, frame.size).to(gradient)).sum(dim=0)
    spread = torch.fft.irfft2(spectra, s=(frame.size, frame.size))
    return spread[frame.pixels] * _weights(view.machine, lattice).to(gradient)


@dataclass(frozen=True)
class _Frame:
    """Where a convolution is worked out: entry n of an axis is ``low + n · RESOLUTION`` mm."""

    low: tuple[float, float]
    size: int
    pixels: tuple[slice, slice]


def _frame(view: View, lattice: Lattice) -> _Frame:
    """Points, pixels and the room between them that the periodic convolution needs."""
    step = round(lattice.pixel / RESOLUTION)
    first = np.array(lattice.origin)
    last = first + (np.array(lattice.shape) - 1) * lattice.pixel
    apart = float(np.maximum(np.array(view.high) - first, last - np.array(view.low)).max())
    span = _SPAN * math.ceil((2 * apart + _SPAN) / _SPAN)
    size = next_fast_len(math.ceil(span / RESOLUTION), real=True)
    before = np.ceil((first - np.minimum(view.low, first)) / RESOLUTION).astype(int) + 1
    low = first - before * RESOLUTION
    pixels = [
        slice(int(b), int(b) + (n - 1) * step + 1, step) for b, n in zip(before, lattice.shape, strict=True)
    ]
    return _Frame((float(low[0]), float(low[1])), size, (pixels[0], pixels[1]))


def _geometry(view: View, frame: _Frame, dtype: torch.dtype) -> tuple[Tensor, Float[Tensor, "3 n"]]:
    """Where points lie in the frame, as grid_sample wants it, and their depth factors times (SAD/r)²."""
    sad = view.machine.sad
    x, y, z = (view.points.to(dtype) @ view.to_beam.to(dtype).T).unbind(1)
    along = sad - z
    nearer = sad**2 / (along**2 + x**2 + y**2)
    entries = [(p * (sad / along) - low) / RESOLUTION for p, low in zip((x, y), frame.low, strict=True)]
    place = torch.stack(entries[::-1], dim=-1).mul_(2 / (frame.size - 1)).sub_(1)
    return place[None, None], depth_factors(view.machine.beam, view.depth.to(dtype)) * nearer


@lru_cache(maxsize=8)
def _weights(machine: Machine, lattice: Lattice) -> Float[Tensor, "nx ny"]:
    """What the fluence of each pixel counts: horns over cos³ of its angle from the axis."""
    x, y = (o + lattice.pixel * np.arange(n) for o, n in zip(lattice.origin, lattice.shape, strict=True))
    radius = np.hypot(x[:, None], y[None])
    return torch.from_numpy(off_axis(machine.beam, radius)[0] * (1 + (radius / machine.sad) ** 2) ** 1.5)


def _spectra(view: View, lattice: Lattice, size: int) -> Float[Tensor, "3 p q"]:
    """Spectra of pixel ⊗ source ⊗ K_i, real as the kernels are even."""
    beam = view.machine.beam
    nearest = int(np.abs(beam.ssd - view.ssd).argmin())
    return _kernels(beam, nearest, lattice.pixel, size)


# Up to 9 MB each where no jaws bound the field.
@lru_cache(maxsize=64)
def _kernels(beam: PencilBeam, nearest: int, pixel: float, size: int) -> Float[Tensor, "3 p q"]:
    # Offsets wrap round: entry n stands for n and for n - size.
    offset = np.minimum(np.arange(size), size - np.arange(size)) * RESOLUTION
    edges = [blurred_edge(offset, pixel, fwhm) for fwhm in beam.penumbra_fwhm]
    radius = np.hypot(offset[:, None], offset[None])
    blur = rfft2(np.outer(*edges)).real * RESOLUTION**2
    kernels = [np.interp(radius, beam.radius, kernel, right=0.0) for kernel in beam.kernels[nearest]]
    return torch.from_numpy(np.stack([rfft2(kernel).real * blur for kernel in kernels]).astype(np.float32))
