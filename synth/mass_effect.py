"""How a growing mass pushes the brain aside within the skull.

Tissue flows from the mass as fluid does through a porous body (after Nagashima et al.,
Neurosurgery 21, 1987, who described oedema by poroelasticity; cited from memory, unverified):
v = -k ∇p with ∇·v = s - c p, where the mass is a source s, and fluid in ventricles and sulci
yields to the pressure p and is pressed out of the skull. Brain itself keeps its volume, since
c is zero there; k is zero in bone, so nothing crosses the skull, and small in the falx and
tentorium. Following the flow step by step gives a map that is smooth and can be inverted.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from .cranium import Cranium, midline, pooled, walls

FLOW_STEP = 4.0  # cell of the flow (mm)
_YIELD = 0.02  # c of fluid (1/mm²): pressure falls to 1/e within some 40 mm of folded brain (assumed)
_PURITY = (
    4  # cells that fluid shares with cortex yield less than in proportion, so that cortex keeps its volume
)
_STIFF = 0.96  # how much less dura lets pass than brain (assumed)
_LARGEST_STEP = 1.25  # a source region grows by this factor in one step, at the most
_THINNEST = 0.4  # flow through cells that are open by less is not hastened further
_INNER = 2  # power of a region's share of a cell that its source follows
_PATIENCE = 400

Shift = Float[Tensor, "3 _ _ _"]
Lattice = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Push:
    """A region that swells.

    Parameters
    ----------
    region
        Share of each coarse cell of the cranium that swells, 0 to 1.
    cc
        Volume that it gains.
    """

    region: Float[Tensor, "_ _ _"]
    cc: float


def pushed(space: Cranium, pushes: list[Push]) -> Shift:
    """Where what lies at each cell came from, as a displacement u: content at x was at x + u.

    Parameters
    ----------
    space
        The cranium before anything grew.
    pushes
        What swells.

    Returns
    -------
    Tensor
        u in mm on a lattice of some `FLOW_STEP` mm over the cranium's box, shape ``(3, i, j, k)``;
        zero in bone. The map x → x + u has a positive Jacobian.
    """
    count = [max(round(s / max(FLOW_STEP, d)), 2) for s, d in zip(space.size, space.step, strict=True)]
    cell = tuple(s / n for s, n in zip(space.size, count, strict=True))
    open_, csf, stiff = (pooled(a, count) for a in (space.within, space.csf, walls(space)))
    regions = [(pooled(push.region, count), push.cc) for push in pushes if push.cc > 0]
    conductance = open_ * (1 - _STIFF * (3 * stiff).clamp(max=1))
    faces = [_face(conductance, axis) / cell[axis] for axis in range(3)]
    u = torch.zeros(3, *open_.shape)
    n_steps = max([_steps(region, cc, cell) for region, cc in regions], default=0)
    pressure: Lattice = np.zeros(open_.shape)
    for _ in range(n_steps):
        source = sum((_source(region, cc / n_steps, u, space, cell) for region, cc in regions), np.zeros(1))
        sink = _YIELD * (_pulled(csf[None], u, space)[0] ** _PURITY * open_).double().numpy()
        pressure = _solve(faces, cell, sink, np.broadcast_to(source, pressure.shape), pressure)
        v = _velocity(pressure, faces, open_)
        # The midpoint rule: volumes are kept to second order in the step.
        v = _pulled(v, -v / 2, space) * (open_ > 0)
        u = (_pulled(u, -v, space) - v) * (open_ > 0)
    return u


def jacobian(u: Shift, space: Cranium) -> Float[Tensor, "_ _ _"]:
    """Determinant of the gradient of x → x + u, by central differences within the lattice."""
    cell = [s / n for s, n in zip(space.size, u.shape[1:], strict=True)]
    rows = []
    for axis in range(3):
        ahead = u.roll(-1, 1 + axis) - u.roll(1, 1 + axis)
        rows.append(ahead[:, 1:-1, 1:-1, 1:-1] / (2 * cell[axis]))
    gradient = torch.stack(rows, dim=1) + torch.eye(3)[:, :, None, None, None]
    return torch.linalg.det(gradient.permute(2, 3, 4, 0, 1))


def moved(labels: Tensor, u: Shift, space: Cranium, fixed: Tensor) -> Tensor:
    """Labels of the box after the push, by the nearest voxel.

    Parameters
    ----------
    labels
        Labels of the cranium's box, none negative, shape ``(i, j, k)``.
    u
        As `pushed` gives it.
    space
        The cranium.
    fixed
        Voxels that neither move nor are pulled elsewhere, same shape.
    """
    n = space.voxels
    amount = u.abs().amax(dim=0) > 0.3 * min(space.voxel)
    if not bool(amount.any()):
        return labels.clone()
    where = _bounds(amount, n)
    fine = interpolate(u[None], size=n, mode="trilinear", align_corners=False)[0]
    coded = torch.where(fixed, -1, labels.to(torch.int16)).reshape(-1)
    out = labels.clone()
    own = [torch.arange(w.start, w.stop, dtype=torch.int32) for w in where]
    # Plane by plane, so that the work stays in the cache.
    for i in range(where[0].start, where[0].stop):
        plane = fine[:, i, where[1], where[2]]
        index = [(a / v).round().int() for a, v in zip(plane, space.voxel, strict=True)]
        flat = (index[0] + i).clamp(0, n[0] - 1)
        flat = flat * n[1] + (index[1] + own[1][:, None]).clamp(0, n[1] - 1)
        flat = flat * n[2] + (index[2] + own[2]).clamp(0, n[2] - 1)
        pulled = coded.index_select(0, flat.reshape(-1)).reshape(flat.shape)
        here = out[i, where[1], where[2]]
        stays = fixed[i, where[1], where[2]] | (pulled < 0)
        out[i, where[1], where[2]] = torch.where(stays, here, pulled.to(labels.dtype))
    return out


def sampled(field: Float[Tensor, "_ _ _ _"], u: Shift, space: Cranium, where: tuple[slice, ...]) -> Tensor:
    """Values of fields on any lattice of the box, carried by the push, at voxels of a window.

    Parameters
    ----------
    field
        Fields before the push, channels first.
    u
        As `pushed` gives it.
    space
        The cranium.
    where
        Voxels of the box, along i, j, k.
    """
    place = _places(space.voxels, where, _window(u, space.voxels, where), space)
    out = grid_sample(field[None], place[None], padding_mode="border", align_corners=False)
    return out[0]


def midline_shift(u: Shift, space: Cranium) -> float:
    """Shift of the septum and third ventricle (mm, positive towards the patient's left).

    The furthest that any place from 20 mm before to 25 mm behind the anterior commissure, and up
    to 18 mm above it, has moved along x.
    """
    y, z = torch.meshgrid(torch.linspace(-20.0, 25.0, 19), torch.linspace(2.0, 18.0, 9), indexing="ij")
    start = torch.stack([midline(space, y, z), y, z], dim=-1).reshape(-1, 3)
    low, size = torch.tensor(space.low), torch.tensor(space.size)
    here = start.clone()
    for _ in range(8):
        place = (2 * (here - low) / size - 1).flip(-1)[None, None, None]
        back = grid_sample(u[None], place, padding_mode="border", align_corners=False)[0, :, 0, 0].T
        here = start - back
    shift = (here - start)[:, 0]
    return float(shift[shift.abs().argmax()])


def _face(conductance: Tensor, axis: int) -> Lattice:
    n = conductance.shape[axis] - 1
    a, b = (conductance.narrow(axis, start, n).double().numpy() for start in (0, 1))
    return 2 * a * b / np.maximum(a + b, 1e-9)


def _steps(region: Tensor, cc: float, cell: tuple[float, ...]) -> int:
    before = max(float(region.double().numpy().sum()) * math.prod(cell) / 1000, 1e-3)
    return max(math.ceil(math.log(1 + cc / before) / math.log(_LARGEST_STEP)), 3)


def _source(region: Tensor, cc: float, u: Shift, space: Cranium, cell: tuple[float, ...]) -> Lattice:
    """A source of ``cc`` in one step, most of it in a region's inner cells.

    Those at its edge swell with their neighbours; a source of their own would reach beyond.
    """
    weight = _pulled(region[None], u, space)[0].double().numpy() ** _INNER
    return weight * (cc * 1000 / math.prod(cell) / max(float(weight.sum()), 1e-9))


def _solve(
    faces: list[Lattice], cell: tuple[float, ...], sink: Lattice, source: Lattice, start: Lattice
) -> Lattice:
    """Pressure, by conjugate gradients with the diagonal as preconditioner.

    Sums run through numpy, in one order, however many threads there are.
    """

    def apply(p: Lattice) -> Lattice:
        out = sink * p
        for axis, face in enumerate(faces):
            flux = face * np.diff(p, axis=axis) / cell[axis]
            ahead = [slice(None)] * 3
            behind = [slice(None)] * 3
            ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
            out[tuple(behind)] -= flux
            out[tuple(ahead)] += flux
        return out

    diagonal = sink.copy()
    for axis, face in enumerate(faces):
        pad = [(0, 0)] * 3
        pad[axis] = (1, 0)
        diagonal += np.pad(face, pad) / cell[axis]
        pad[axis] = (0, 1)
        diagonal += np.pad(face, pad) / cell[axis]
    closed = diagonal <= 1e-12
    inverse = np.where(closed, 0.0, 1 / np.where(closed, 1.0, diagonal))
    p = start.copy()
    residual = np.where(closed, 0.0, source - apply(p))
    z = inverse * residual
    direction, rho = z, float((residual * z).sum())
    enough = 1e-6 * float((source * inverse * source).sum())
    for _ in range(_PATIENCE):
        if rho <= enough:
            break
        image = apply(direction)
        alpha = rho / float((direction * image).sum())
        p += alpha * direction
        residual -= alpha * image
        z = inverse * residual
        before, rho = rho, float((residual * z).sum())
        direction = z + rho / before * direction
    return p


def _velocity(pressure: Lattice, faces: list[Lattice], open_: Tensor) -> Shift:
    """Flow at cell centres, the mean over opposite faces."""
    v = np.zeros((3, *pressure.shape))
    for axis, face in enumerate(faces):
        flux = -face * np.diff(pressure, axis=axis)
        pad = [(0, 0)] * 3
        pad[axis] = (1, 0)
        v[axis] += np.pad(flux, pad) / 2
        pad[axis] = (0, 1)
        v[axis] += np.pad(flux, pad) / 2
    return torch.from_numpy(v).float() / open_.clamp(min=_THINNEST) * (open_ > 0)


def _pulled(field: Tensor, u: Shift, space: Cranium) -> Tensor:
    """Fields (channels first) on the lattice of ``u``, read at x + u."""
    n = (int(u.shape[1]), int(u.shape[2]), int(u.shape[3]))
    place = _places(n, tuple(slice(0, m) for m in n), u, space)
    return grid_sample(field[None], place[None], padding_mode="border", align_corners=False)[0]


def _places(
    n: tuple[int, int, int], where: tuple[slice, ...], u: Tensor, space: Cranium
) -> Float[Tensor, "_ _ _ 3"]:
    """Places x + u of cells in a window, as grid_sample wants them (k, j, i from -1 to 1)."""
    parts = []
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = -1
        own = (torch.arange(where[axis].start, where[axis].stop) + 0.5) * (2 / n[axis]) - 1
        parts.append(own.reshape(shape) + u[axis] * (2 / space.size[axis]))
    return torch.stack(parts[::-1], dim=-1)


def _bounds(cells: Tensor, n: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """Voxels of the box that a coarse mask and its neighbours cover."""
    out = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        held = torch.nonzero(cells.amax(dim=others))[:, 0]
        ratio = n[axis] / cells.shape[axis]
        low, high = (float(held[0]) - 1) * ratio, (float(held[-1]) + 2) * ratio
        out.append(slice(max(math.floor(low), 0), min(math.ceil(high), n[axis])))
    return out[0], out[1], out[2]


def _window(u: Shift, n: tuple[int, int, int], where: tuple[slice, ...]) -> Tensor:
    """The displacement (mm) at voxels of a window, trilinear, one axis after the other."""
    out = u
    for axis in range(3):
        m = u.shape[1 + axis]
        place = ((torch.arange(where[axis].start, where[axis].stop) + 0.5) * (m / n[axis]) - 0.5).clamp(
            0, m - 1
        )
        low = place.floor().long().clamp(max=m - 2)
        shape = [1, 1, 1, 1]
        shape[1 + axis] = -1
        weight = (place - low).reshape(shape)
        a = out.index_select(1 + axis, low)
        out = a + weight * (out.index_select(1 + axis, low + 1) - a)
    return out
