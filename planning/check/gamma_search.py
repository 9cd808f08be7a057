"""The smallest gamma around points, searched on shells of growing distance.

The evaluated dose is trilinear between its voxel centres, so that a sample is eight corners of a cell
times eight weights. Points that lie alike in their cells share the weights of every sample: all their
samples are one matrix product for each cell, which is why doses on like grids cost next to nothing.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

# Dose differences beyond the evaluated grid, in criteria: finite, since infinity times a weight of 0 is NaN.
_NOWHERE = 1e18
# Positions this near to a voxel centre (voxels) are on it: headers round, and a centre on the outermost
# plane must not fall outside.
_ON_CENTRE = 1e-5
# Samples worked on together: what a core's cache holds, and what keeps a GPU busy.
_AT_ONCE = {"cpu": 2**18, "cuda": 2**25}
# Fewer points than this that lie alike cost more in calls than their products save.
_ALIKE = 500

Directions = Float64[np.ndarray, "3 axes"]
Corners = Float32[Tensor, "a b c points"]
Positions = Float64[Tensor, "n 3"]
Least = Float32[Tensor, " points"]
# A shell at the distance criterion passes only what has the very dose there: 32 bits would round more to 1.
Gamma = Float64[Tensor, " points"]
Cell = tuple[int, int, int, Float32[Tensor, "_ 8"]]
Tell = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Shells:
    """Where to look around a point.

    Parameters
    ----------
    offsets
        For each shell, the samples on it in voxels of the evaluated grid, shape ``(n, 3)``.
    distances
        Radius of each shell in units of the distance criterion, rising from 0.
    """

    offsets: tuple[np.ndarray, ...]
    distances: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Wanted:
    """Points of the reference whose gamma is wanted.

    Parameters
    ----------
    cell
        Lowest corner of the evaluated grid's cell that the point lies in, shape ``(3, points)``.
    inside
        Where in the cell it lies, 0..1, shape ``(3, points)``.
    dose, criterion
        Reference dose and dose criterion at the points (Gy).
    """

    cell: Int64[Tensor, "3 points"]
    inside: Float64[Tensor, "3 points"]
    dose: Float64[Tensor, " points"]
    criterion: Float64[Tensor, " points"]


def place(index: Positions, dose: Float64[Tensor, " n"], criterion: Float64[Tensor, " n"]) -> Wanted:
    """Points by their fractional voxel indices in the evaluated grid."""
    cell, inside = _split(index.T)
    return Wanted(cell, inside, dose, criterion)


def _split(
    index: Float64[Tensor, "*shape"],
) -> tuple[Int64[Tensor, "*shape"], Float64[Tensor, "*shape"]]:
    """The cell and the position inside it; what is nearly on a centre is on it."""
    nearest = index.round()
    index = torch.where((index - nearest).abs() < _ON_CENTRE, nearest, index)
    cell = index.floor()
    return cell.long(), index - cell


def shells(per_mm: Directions, distance: float, fraction: int, reach: float) -> Shells:
    """Samples on a line, rings or spheres, no further apart than a fraction of the distance criterion.

    Laid out as in pymedphys 0.41: rows of equal polar angle about the last axis, each with its samples at
    equal azimuth from the first axis.

    Parameters
    ----------
    per_mm
        Voxels of the evaluated grid per mm along each axis of the search.
    distance
        The distance criterion (mm).
    fraction
        Steps that the criterion is divided into.
    reach
        The last radius, in units of the criterion.
    """
    steps = range(math.floor(reach * fraction + 1e-9) + 1)
    spheres = [_sphere(step, per_mm.shape[1]) if step else np.zeros((1, per_mm.shape[1])) for step in steps]
    offsets = tuple(sphere * distance / fraction @ per_mm.T for sphere in spheres)
    return Shells(offsets, tuple(step / fraction for step in steps))


def _sphere(radius: int, n_axes: int) -> np.ndarray:
    """Samples at most 1 apart on a line, circle or sphere of whole radius."""
    if n_axes == 0:
        return np.zeros((1, 0))
    if n_axes == 1:
        return np.array([[radius], [-radius]], dtype=np.float64)
    if n_axes == 2:
        return _circle(float(radius))
    polar = np.linspace(0, np.pi, int(np.ceil(np.pi * radius)) + 1)
    rows = [(_circle(radius * np.sin(angle)), radius * np.cos(angle)) for angle in polar]
    return np.concatenate([np.column_stack([row, np.full(len(row), height)]) for row, height in rows])


def _circle(radius: float) -> np.ndarray:
    azimuth = np.arange(n := int(np.ceil(2 * np.pi * radius)) + 1) * 2 * np.pi / n
    return radius * np.column_stack([np.cos(azimuth), np.sin(azimuth)])


def search(
    wanted: Wanted,
    evaluated: Float64[Tensor, "i j k"],
    where: Shells,
    *,
    stop_at: float = 0.0,
    tell: Tell | None = None,
) -> Gamma:
    """Gamma at every point, infinite where no sample has a dose.

    A shell is left out for a point whose best gamma it cannot lower: one further away than that, or one
    between whose corners the evaluated dose stays too far above or below.

    Parameters
    ----------
    wanted
        The points.
    evaluated
        Dose (Gy) at the voxel centres of the evaluated grid.
    where
        Shells of samples.
    stop_at
        A gamma that is small enough: points that reach it are not searched further.
    tell
        Told the share that is done, 0..1. What it raises ends the search, and nothing is left behind.
    """
    padded = torch.nn.functional.pad(evaluated, (1, 1, 1, 1, 1, 1), value=torch.inf)
    best = torch.full_like(wanted.dose, torch.inf)
    done = 0
    for alike, group in _groups(wanted.inside):
        some = _some(wanted, group)
        found = torch.full_like(some.dose, torch.inf)
        for share in _search_group(some, padded, where, stop_at, found, alike=alike):
            if tell is not None:
                tell((done + share * len(group)) / len(best))
        best[group] = found
        done += len(group)
    return torch.where(best < math.sqrt(_NOWHERE), best, torch.inf)


def _some(wanted: Wanted, which: Int64[Tensor, " some"]) -> Wanted:
    return Wanted(wanted.cell[:, which], wanted.inside[:, which], wanted.dose[which], wanted.criterion[which])


def _groups(inside: Float64[Tensor, "3 n"]) -> Iterator[tuple[bool, Int64[Tensor, " some"]]]:
    """Points that lie alike in their cells, one group after the other; then all the rest together."""
    n = round(1 / _ON_CENTRE) + 1
    i, j, k = (inside / _ON_CENTRE).round().long()
    _, group, counts = torch.unique((i * n + j) * n + k, return_inverse=True, return_counts=True)
    rest = []
    for points in torch.argsort(group, stable=True).split(counts.tolist()):
        if len(points) >= min(_ALIKE, len(group)):
            yield True, points
        else:
            rest.append(points)
    if rest:
        yield False, torch.cat(rest)


def _search_group(
    wanted: Wanted,
    padded: Float64[Tensor, "i j k"],
    where: Shells,
    stop_at: float,
    best: Gamma,
    *,
    alike: bool,
) -> Iterator[float]:
    """Lowers ``best`` shell by shell, and gives the share that is done."""
    device = padded.device
    left = torch.arange(len(best), device=device)
    for n, (offsets, distance) in enumerate(zip(where.offsets, where.distances, strict=True)):
        left = left[best[left] > max(distance, stop_at)]
        samples = torch.from_numpy(offsets).to(device)
        together = alike and len(left) >= _ALIKE // 5
        if together:
            samples = samples + wanted.inside[:, 0]
        low, high = samples.amin(0), samples.amax(0) + (0 if together else 1)
        first, last = (_split(edge)[0] for edge in (low, high))
        samples = samples - first
        cells = _cells(samples) if together else []
        parts = left.split(_points_at_once(last - first + 2, len(samples), together=together))
        for part, points in enumerate(parts):
            corners = _corners(_some(wanted, points), padded, first, last + 1)
            # Between corners the dose is no nearer to the reference than at the nearest of them.
            lowest, highest = corners.flatten(0, 2).aminmax(dim=0)
            bound = torch.maximum(lowest, -highest).clamp(min=0)
            can = torch.nonzero(distance**2 + bound**2 < best[points] ** 2)[:, 0]
            here, near = points[can], corners[..., can]
            if len(can) > 0:
                least = _alike(near, cells) if together else _apart(near, samples, wanted.inside[:, here])
                best[here] = torch.minimum(best[here], (distance**2 + least.double() ** 2).sqrt())
            yield (n + (part + 1) / len(parts)) / len(where.distances)


def _points_at_once(n_corners: Int64[Tensor, "3"], n_samples: int, *, together: bool) -> int:
    """Points whose corners, and samples in a cell, are held together."""
    at_once = _AT_ONCE[n_corners.device.type]
    # A shell lies in eight cells at least, unless it is small.
    return max(64, at_once // max(int(n_corners.prod()), n_samples // 8 if together else n_samples))


def _corners(
    wanted: Wanted, padded: Float64[Tensor, "i j k"], first: Int64[Tensor, "3"], last: Int64[Tensor, "3"]
) -> Corners:
    """Dose differences (criteria) at the voxel centres around each point, huge beyond the grid."""
    flat = torch.zeros((1, 1, 1, 1), dtype=torch.int64, device=padded.device)
    for axis in range(3):
        step = torch.arange(int(first[axis]), int(last[axis]) + 1, device=padded.device)
        index = (wanted.cell[axis] + step[:, None] + 1).clamp(0, padded.shape[axis] - 1)
        flat = flat + (index * padded.stride(axis)).unflatten(0, [-1 if a == axis else 1 for a in range(3)])
    doses = padded.flatten()[flat]
    return ((doses - wanted.dose) / wanted.criterion).clamp(max=_NOWHERE).float()


def _cells(samples: Positions) -> list[Cell]:
    """The cells that samples lie in, each with the weights of its corners for each of its samples."""
    cell, inside = _split(samples)
    whole, which = torch.unique(cell, dim=0, return_inverse=True)
    i, j, k = torch.stack([1 - inside, inside], dim=2).unbind(1)
    weights = (i[:, :, None, None] * j[:, None, :, None] * k[:, None, None, :]).flatten(1).float()
    counts = torch.bincount(which).tolist()
    sorted_weights = weights[torch.argsort(which, stable=True)].split(counts)
    return [(*at, there) for at, there in zip(whole.tolist(), sorted_weights, strict=True)]


def _alike(corners: Corners, cells: list[Cell]) -> Least:
    """Smallest dose difference (criteria) of points that share the place of every sample."""
    least = torch.full_like(corners[0, 0, 0], torch.inf)
    for i, j, k, weights in cells:
        around = corners[i : i + 2, j : j + 2, k : k + 2].reshape(8, -1)
        least = torch.minimum(least, (weights @ around).abs_().amin(0))
    return least


def _apart(corners: Corners, samples: Positions, inside: Float64[Tensor, "3 points"]) -> Least:
    """Smallest dose difference (criteria) of points that lie each in its own place."""
    cell, share = _split(samples.T[:, :, None] + inside[:, None, :])
    _, n_j, n_k, _ = corners.shape
    lowest, values = (cell[0] * n_j + cell[1]) * n_k + cell[2], corners.flatten(0, 2)
    u, v, w = share.float()

    def along_k(corner: int) -> Tensor:
        return torch.lerp(values.gather(0, lowest + corner), values.gather(0, lowest + corner + 1), w)

    def across(corner: int) -> Tensor:
        return torch.lerp(along_k(corner), along_k(corner + n_k), v)

    return torch.lerp(across(0), across(n_j * n_k), u).abs_().amin(0)
