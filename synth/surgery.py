"""What an operation leaves: a cavity, a bone flap with its kerf, holes, plates and clips, a shunt.

The craniotome's kerf is two or more mm wide (US patent application 2016/0354117, read); burr
holes of 12 to 14 mm, miniplates of 16 by 4 mm and 0.6 to 1 mm thick, catheters of 2.5 to 2.8 mm
and Kocher's point (25 to 30 mm off the midline, before the coronal suture) are from memory,
unverified.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, UInt8
from scipy.ndimage import binary_dilation, distance_transform_edt
from torch import Tensor

from imaging.grid import Grid
from imaging.tissue import BONE, Tissue

from .artefacts import texture
from .cranium import among
from .statistics import COMPLETE_RESECTIONS, RESECTED, between

Tissues = UInt8[Tensor, "_ _ _"]
Mask = Bool[Tensor, "_ _ _"]
Place = Float64[np.ndarray, "3"]
Window = tuple[slice, slice, slice]

_MIDDLE = np.array([0.0, 18.0, 14.0])  # of the cranium (LPS, mm)
_SOFT = (Tissue.SCALP, Tissue.FAT, Tissue.FLUID)
_BRAIN = (Tissue.GREY, Tissue.WHITE, Tissue.OEDEMA, Tissue.CSF, Tissue.DURA)
_WALL = 4.0  # residual tumour lies within this of the cavity's wall (mm)
_FURTHEST = 130.0  # from the middle of the cranium to its outer table (mm)


@dataclass(frozen=True)
class Operation:
    """What was done.

    Parameters
    ----------
    extent
        Share of the tumour that was removed.
    collapse
        Size of the cavity relative to what was removed.
    radius
        Radius of the bone flap (mm).
    kerf
        Width of the cut (mm).
    turn
        Where on the flap's edge the first burr hole lies (radians).
    n_holes, n_plates, n_clips
        Burr holes, titanium plates, clips.
    shunt
        0 for none; 1 for one on the patient's left, -1 on the right.
    """

    extent: float
    collapse: float
    radius: float
    kerf: float
    turn: float
    n_holes: int
    n_plates: int
    n_clips: int
    shunt: int


def draw_operation(shunt: float, generator: torch.Generator) -> Operation:
    """One operation.

    Parameters
    ----------
    shunt
        Share of operations that also leave a shunt.
    generator
        Draws all of it.
    """
    u = torch.rand(10, generator=generator).tolist()
    extent = 1.0 if u[0] < COMPLETE_RESECTIONS else between(RESECTED, u[1])
    side = 0 if u[8] >= shunt else (1 if u[9] < 0.5 else -1)
    return Operation(
        extent=extent,
        collapse=between((0.5, 1.0), u[2]),
        radius=between((22.0, 36.0), u[3]),
        kerf=between((2.0, 3.0), u[4]),
        turn=2 * math.pi * u[5],
        n_holes=1 + int(4 * u[6]),
        n_plates=3,
        n_clips=max(int(8 * u[7]) - 3, 0),
        shunt=side,
    )


def operated(
    tissue: Tissues, core: Mask, where: Window, grid: Grid, operation: Operation, generator: torch.Generator
) -> tuple[Tissues, dict[str, Any]]:
    """A head after the operation.

    Parameters
    ----------
    tissue
        Tissues of the head.
    core
        The tumour, in a window of the head.
    where
        The window.
    grid
        The head's, upright.
    operation
        What was done.
    generator
        Draws where tumour stays and where clips lie.

    Returns
    -------
    tuple
        The tissues, and what was left behind, as JSON values.
    """
    out = tissue.clone()
    bone = among(tissue, *BONE)
    out[where] = _resected(out[where], core, operation, float(grid.spacing[0]), generator)
    at = torch.nonzero(core).double().numpy().mean(axis=0)
    center = _world(grid, at + [w.start for w in where])
    entry, outward = _entry(bone, grid, center)
    _corridor(out, grid, center, entry, operation)
    _flap(out, bone, grid, entry, outward, operation)
    n_clips = _clips(out, where, grid, operation.n_clips, generator)
    told: dict[str, Any] = {
        "extent": round(operation.extent, 4),
        "entry_mm": [round(float(a), 1) for a in entry],
        "flap_radius_mm": round(operation.radius, 1),
        "burr_holes": operation.n_holes,
        "plates": operation.n_plates,
        "clips": n_clips,
        "shunt": "none",
    }
    if operation.shunt and _shunt(out, bone, grid, operation.shunt):
        told["shunt"] = "left" if operation.shunt > 0 else "right"
    return out, told


def _resected(
    part: Tissues, core: Mask, operation: Operation, voxel: float, generator: torch.Generator
) -> Tissues:
    """The window with a cavity for a core, and knots of tumour left on its wall."""
    out = part.clone()
    depth = torch.from_numpy(distance_transform_edt(core.numpy(), sampling=voxel)).float()
    i, j, k = part.shape
    knots = texture((i, j, k), 14.0, voxel, generator) - depth / _WALL
    wall = core & (depth < 2 * _WALL)
    n_left = min(round((1 - operation.extent) * int(core.sum())), int(wall.sum()))
    out[core] = Tissue.CAVITY
    if n_left > 0:
        least = knots[wall].sort(descending=True).values[n_left - 1]
        left = wall & (knots >= least)
        solid = (part == Tissue.ENHANCING) | (part == Tissue.INFILTRATION)
        out[left] = torch.where(solid[left], part[left], int(Tissue.ENHANCING))
    return out


def _entry(bone: Mask, grid: Grid, center: Place) -> tuple[Place, Place]:
    """Where the surgeon goes in: outer table above the tumour, never through face or skull base."""
    away = center - _MIDDLE
    side = 1.0 if center[0] >= 0 else -1.0
    for lift in (0.0, 0.2, 0.4, 0.7, 1.0, 1.5, 3.0):
        way = away / max(float(np.linalg.norm(away)), 25.0) + lift * np.array([0.35 * side, 0.1, 1.0])
        way = way / max(float(np.linalg.norm(way)), 1e-6)
        found = _outermost(bone, grid, way)
        if found is not None and _may_open(found):
            return found, way
    found = _outermost(bone, grid, np.array([0.0, 0.0, 1.0]))
    if found is None:
        raise ValueError("expected a skull to open above the tumour, got none; give a head with its vault")
    return found, np.array([0.0, 0.0, 1.0])


def _may_open(place: Place) -> bool:
    """Whether a flap may lie here: above orbits and ears, or at the back of the head below them."""
    above = place[2] > 22.0 and (place[1] > -60.0 or place[2] > 34.0)
    return bool(above or (place[1] > 58.0 and place[2] > -38.0))


def _outermost(bone: Mask, grid: Grid, way: Place) -> Place | None:
    """Outermost bone from the middle of the cranium along a direction."""
    t = np.arange(20.0, _FURTHEST, 0.5)
    points = _MIDDLE + t[:, None] * way
    index = np.round((points - grid.affine[:3, 3]) / grid.spacing).astype(int)
    inside = ((index >= 0) & (index < grid.shape)).all(axis=1)
    index = np.clip(index, 0, np.array(grid.shape) - 1)
    hit = bone.numpy()[index[:, 0], index[:, 1], index[:, 2]] & inside
    held = np.nonzero(hit)[0]
    return None if len(held) == 0 else points[held[-1]]


def _corridor(out: Tissues, grid: Grid, center: Place, entry: Place, operation: Operation) -> None:
    """The way through brain from the flap to the cavity."""
    radius = 4.0 + 0.08 * operation.radius
    where, x = _near(grid, np.minimum(center, entry) - radius, np.maximum(center, entry) + radius)
    tube = _rod(x, center, entry) < radius
    part = out[where]
    part[tube & among(part, *_BRAIN)] = Tissue.CAVITY


def _flap(out: Tissues, bone: Mask, grid: Grid, entry: Place, outward: Place, operation: Operation) -> None:
    reach = operation.radius * 1.25 + 12.0
    where, x = _near(grid, entry - reach, entry + reach)
    rel = [a - float(e) for a, e in zip(x, entry, strict=True)]
    first = np.cross(outward, [0.0, 0.0, 1.0] if abs(outward[2]) < 0.9 else [0.0, 1.0, 0.0])
    first /= np.linalg.norm(first)
    second = np.cross(outward, first)
    a, b, height = (
        sum(r * float(c) for r, c in zip(rel, axis, strict=True)) for axis in (first, second, outward)
    )
    a, b, height = torch.as_tensor(a), torch.as_tensor(b), torch.as_tensor(height)
    angle = torch.atan2(b, a)
    edge = operation.radius * (1 + 0.08 * torch.cos(3 * angle + operation.turn))
    voxel = float(grid.spacing.max())
    near = height > -25.0
    part, hard = out[where], bone[where] & near
    cut = hard & (((a**2 + b**2).sqrt() - edge).abs() < max(operation.kerf, 1.05 * voxel) / 2)
    part[cut] = Tissue.SCALP
    shell = _lid(part, bone[where], voxel) & near
    for n in range(operation.n_holes):
        u, v, _ = _on_edge(operation, n, operation.n_holes, 0.0)
        part[hard & ((a - u) ** 2 + (b - v) ** 2 < 6.5**2)] = Tissue.SCALP
    for n in range(operation.n_plates):
        u, v, turn = _on_edge(operation, n, operation.n_plates, 0.5)
        along = (a - u) * math.cos(turn) + (b - v) * math.sin(turn)
        across = (b - v) * math.cos(turn) - (a - u) * math.sin(turn)
        part[shell & (along.abs() < 8.0) & (across.abs() < max(2.0, 0.6 * voxel))] = Tissue.METAL


def _lid(part: Tissues, bone: Mask, voxel: float) -> Mask:
    """Soft tissue that lies on bone, about 1 mm of it."""
    near = binary_dilation(bone.numpy(), iterations=max(round(0.9 / voxel), 1))
    return torch.from_numpy(near) & ~bone & among(part, *_SOFT)


def _on_edge(operation: Operation, n: int, count: int, offset: float) -> tuple[float, float, float]:
    turn = operation.turn + 2 * math.pi * (n + offset) / count
    radius = operation.radius * (1 + 0.08 * math.cos(3 * turn + operation.turn))
    return radius * math.cos(turn), radius * math.sin(turn), turn


def _clips(out: Tissues, where: Window, grid: Grid, count: int, generator: torch.Generator) -> int:
    """Clips of some mm on the cavity's wall."""
    cavity = (out[where] == Tissue.CAVITY).numpy()
    wall = torch.nonzero(torch.from_numpy(binary_dilation(cavity) & ~cavity) & among(out[where], *_BRAIN))
    if len(wall) == 0:
        return 0
    for _ in range(count):
        at = wall[int(torch.randint(len(wall), (1,), generator=generator))].double().numpy()
        way = torch.randn(3, generator=generator).double().numpy()
        start = _world(grid, at + [w.start for w in where])
        end = start + 3.0 * way / max(float(np.linalg.norm(way)), 1e-6)
        _draw(out, grid, start, end, 0.7, Tissue.METAL, (*_BRAIN, Tissue.CAVITY))
    return count


def _shunt(out: Tissues, bone: Mask, grid: Grid, side: int) -> bool:
    """A catheter from a frontal burr hole to the ventricle, and on beneath the scalp to behind the ear."""
    aim = np.array([7.0 * side, -8.0, 12.0])
    where, x = _near(grid, aim - 16.0, aim + 16.0)
    wet = torch.nonzero(out[where] == Tissue.CSF)
    kocher = np.array([28.0 * side, -22.0, 90.0]) - _MIDDLE
    entry = _outermost(bone, grid, kocher / np.linalg.norm(kocher))
    if len(wet) == 0 or entry is None:
        return False
    points = torch.stack([a.expand(out[where].shape)[tuple(wet.T)] for a in x], dim=1).double().numpy()
    tip = points[((points - aim) ** 2).sum(axis=1).argmin()]
    hole, y = _near(grid, entry - 16.0, entry + 16.0)
    part = out[hole]
    part[(_rod(y, tip, entry + (entry - tip)) < 5.5) & bone[hole]] = Tissue.SCALP
    outward = (entry - _MIDDLE) / np.linalg.norm(entry - _MIDDLE)
    path = [tip, entry + 1.5 * outward]
    ear = np.array([74.0 * side, 36.0, 12.0]) - _MIDDLE
    for t in np.linspace(0.1, 1.0, 12):
        way = (1 - t) * outward + t * ear / np.linalg.norm(ear)
        way /= np.linalg.norm(way)
        at = _outermost(bone, grid, way)
        if at is not None:
            path.append(at + 1.5 * way)
    radius = max(1.3, 0.75 * float(grid.spacing.max()))
    through = (*_BRAIN, *_SOFT, Tissue.BRAINSTEM, Tissue.CAVITY, Tissue.ENHANCING, Tissue.INFILTRATION)
    for start, end in pairwise(path):
        _draw(out, grid, start, end, radius, Tissue.SHUNT, through)
    return True


def _draw(
    out: Tissues,
    grid: Grid,
    start: Place,
    end: Place,
    radius: float,
    tissue: Tissue,
    over: tuple[Tissue, ...],
) -> None:
    """A rod of one tissue wherever there was one of others; thin rods keep a voxel's width."""
    wide = max(radius, 0.6 * float(grid.spacing.max()))
    where, x = _near(grid, np.minimum(start, end) - wide, np.maximum(start, end) + wide)
    part = out[where]
    part[(_rod(x, start, end) < wide) & among(part, *over)] = tissue


def _rod(x: list[Float[Tensor, "_ _ _"]], start: Place, end: Place) -> Float[Tensor, "_ _ _"]:
    """Distance to the line between two places (mm)."""
    axis = end - start
    rel = [a - float(s) for a, s in zip(x, start, strict=True)]
    dot = torch.as_tensor(sum(r * float(v) for r, v in zip(rel, axis, strict=True)))
    along = (dot / max(float(axis @ axis), 1e-6)).clamp(0, 1)
    squares = [(r - along * float(v)) ** 2 for r, v in zip(rel, axis, strict=True)]
    return (squares[0] + squares[1] + squares[2]).sqrt()


def _near(grid: Grid, low: Place, high: Place) -> tuple[Window, list[Float[Tensor, "_ _ _"]]]:
    """The window of a head that covers a box, and its x, y, z (LPS, mm)."""
    slices, axes = [], []
    for a in range(3):
        start, step = float(grid.affine[a, 3]), float(grid.spacing[a])
        first = min(max(math.floor((low[a] - start) / step), 0), grid.shape[a] - 1)
        last = min(max(math.ceil((high[a] - start) / step), first), grid.shape[a] - 1)
        shape = [1, 1, 1]
        shape[a] = -1
        slices.append(slice(first, last + 1))
        axes.append((start + step * torch.arange(first, last + 1, dtype=torch.float32)).reshape(shape))
    return (slices[0], slices[1], slices[2]), axes


def _world(grid: Grid, index: Place) -> Place:
    return index * grid.spacing + grid.affine[:3, 3]
