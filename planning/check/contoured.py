"""Dose–volume histograms of structures as they were drawn: contours on planes, not voxels.

A mask counts voxels whole. Here nothing is rounded to a voxel: the area of a cross-section is that of
the polygons, and between two planes both size and shape are interpolated. Polygons come in indices
(i, j) of a grid by the index k of their plane, as :mod:`imaging.contours` has them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree

from imaging.contours import Polygon, to_mask
from imaging.grid import Grid
from imaging.volume import Quantity, Volume

from .dvh import Dvh, read_dose
from .layers import Drawn, Layer, Planes, edges, in_mm, layers_of, slice_of

# Equal parts that a structure is divided into, about; fewer where it fills little of its box, so that
# one layer of the box has no more points than are held at once, unless that leaves too few.
_PARTS = 250_000
_PARTS_AT_LEAST = 10_000
_POINTS_AT_ONCE = 500_000
# Distances to a contour are kept on points this close (mm) at most: a wide body has coarser parts.
_MAP_STEP_AT_MOST = 2.0
# Steps of the R2 sequence and of R1: powers of the inverse of g, g³ = g + 1, and of the golden ratio
# (Roberts, 2018).
_STEPS = np.array([1.32471795724474602596**-1, 1.32471795724474602596**-2])
_STEP_ACROSS = 1.61803398874989484820**-1


@dataclass(frozen=True, eq=False)
class _Distances:
    """Signed distance to a contour (mm, positive inside) at the points ``low + step * (a, b)``."""

    z: float
    low: Float64[np.ndarray, "2"]
    step: float
    values: Float64[np.ndarray, "a b"]


def contoured_histogram(dose: Volume, planes: Planes, grid: Grid, *, thickness: float | None = None) -> Dvh:
    """The dose–volume histogram of a structure drawn as contours.

    **Between planes** the area follows a cubic through the drawn areas, monotone where they are (slopes
    of parabolas, limited after Hyman, SIAM J. Sci. Stat. Comput. 4, 645 (1983)), exact for balls and
    cones; the shape is the level of that area of the two planes' signed distances, weighted by nearness
    (shape-based interpolation: Raya and Udupa, IEEE Trans. Med. Imaging 9, 32 (1990)).

    **At the ends** the structure goes on for half a slice at most, as a drawn slice stands for a slab:
    the area continues the parabola through the last three, never growing, and the structure stops where
    that reaches zero. A cylinder gets its whole half slice, as in the analytic values of Nelms et al.,
    Med. Phys. 42, 4435 (2015); the pole of a ball, none; an organ drawn on three slices is closed like
    an ellipsoid. A structure of one plane is a slab, of two a frustum that goes on at its slope.

    The dose is read, trilinear, at points of equal volume in a low-discrepancy order.

    Parameters
    ----------
    dose
        Dose (Gy), one channel.
    planes
        Polygons (even-odd) in indices (i, j) of ``grid`` by the index k of their plane, in any order.
    grid
        What the indices refer to; the planes need not be slices of it, nor lie inside it.
    thickness
        What one contour stands for (indices k): the usual distance of the planes where not given, and one
        slice of the grid where there is one plane. Planes more than 1.5 of it apart have a gap between them.

    Raises
    ------
    ValueError
        If the contours enclose nothing, the thickness is not above 0, or the volume is not a dose.
    """
    dose.expect(Quantity.DOSE)
    drawn = in_mm(planes, grid)
    layers = list(layers_of(drawn, slice_of(planes, thickness) * float(grid.spacing[2])))
    volume = sum(layer.area * layer.thickness for layer in layers)
    if volume <= 0:
        raise ValueError("expected contours that enclose some area, got none; contour the structure again")
    to_dose = np.linalg.inv(dose.grid.affine) @ grid.affine
    doses, n_inside = [], 0
    for points in _points(drawn, layers, volume):
        index = (points / grid.spacing) @ to_dose[:3, :3].T + to_dose[:3, 3]
        values, inside = read_dose(dose, torch.from_numpy(index).float())
        doses.append(values)
        n_inside += inside
    parts = np.sort(np.concatenate(doses))
    return Dvh(parts, volume / 1000, n_inside / len(parts))


def _points(drawn: Drawn, layers: Sequence[Layer], volume: float) -> Iterator[Float64[np.ndarray, "n 3"]]:
    """Points in the structure (mm along i, j, k of the grid), each for an equal part of its volume (mm³)."""
    corners = np.concatenate([polygon for _, polygons in drawn for polygon in polygons])
    low, high = corners.min(axis=0), corners.max(axis=0)
    area = float(np.prod(high - low))
    thickest = max(layer.thickness for layer in layers)
    part = max(volume / _PARTS, min(area * thickest / _POINTS_AT_ONCE, volume / _PARTS_AT_LEAST))
    map_step = max(min(part ** (1 / 3), _MAP_STEP_AT_MOST), (area / _POINTS_AT_ONCE) ** 0.5)
    maps: dict[int, _Distances] = {}
    due = 0.5  # half a part over, so that rounding is even
    for number, layer in enumerate(layers):
        due += layer.area * layer.thickness / part
        count = int(due)
        due -= count
        if count > 0:
            between = (layer.below, layer.above)
            maps = {n: maps.get(n) or _distances(*drawn[n], low, high, map_step) for n in between}
            step = (part / layer.thickness) ** 0.5
            yield _inside(maps[layer.below], maps[layer.above], layer, count, step, number)


def _inside(
    below: _Distances, above: _Distances, layer: Layer, count: int, step: float, number: int
) -> Float64[np.ndarray, "count 3"]:
    """The ``count`` points of a layer deepest inside the shape between two planes.

    The points lie on a lattice of its own for each layer: one for all would see no more doses along a
    gradient in the plane than it has rows.
    """
    far = np.array(below.values.shape) * below.step
    n = np.maximum(np.ceil(far / step), 1).astype(int)
    shape = (int(n[0]), int(n[1]))
    start = below.low + (number * _STEPS % 1) * step
    plane = start + step * np.indices(shape).reshape(2, -1).T
    across = (np.arange(len(plane)) * _STEP_ACROSS + number * _STEPS[0]) % 1 - 0.5
    z = layer.middle + across * layer.thickness
    gap = above.z - below.z
    nearness = (z - below.z) / gap if gap > 0 else np.zeros(len(z))
    depth = (1 - nearness) * _at(below, plane) + nearness * _at(above, plane)
    deepest = np.argpartition(-depth, count - 1)[:count] if count < len(depth) else np.arange(len(depth))
    return np.column_stack([plane[deepest], z[deepest]])


def _at(distances: _Distances, plane: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, " n"]:
    """Signed distances at points of the plane, bilinear."""
    index = ((plane - distances.low) / distances.step).T
    found: Float64[np.ndarray, " n"] = map_coordinates(distances.values, index, order=1, mode="nearest")
    return found


def _distances(
    z: float,
    polygons: Sequence[Polygon],
    low: Float64[np.ndarray, "2"],
    high: Float64[np.ndarray, "2"],
    step: float,
) -> _Distances:
    """Signed distances to the contours of one plane, over the box of the whole structure and a little more.

    The nearest of points along the contour names an edge; the distance is that to it or its neighbours.
    """
    margin = 2 * step + 0.05 * float((high - low).max())
    low = low - margin
    n = np.ceil((high + margin - low) / step).astype(int) + 1
    shape = (int(n[0]), int(n[1]))
    points = low + step * np.indices(shape).reshape(2, -1).T
    start, end = _without_bridges(*edges(polygons))
    pieces = np.maximum(np.ceil(np.linalg.norm(end - start, axis=1) / step), 1).astype(int)
    edge = np.repeat(np.arange(len(start)), pieces)
    along = (np.arange(len(edge)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + 0.5) / pieces[edge]
    _, near = KDTree(start[edge] + along[:, None] * (end - start)[edge]).query(points, k=2)
    found = edge[near]
    distance = np.min([_to_segment(points, start[e], end[e]) for e in found.T], axis=0)
    inside = to_mask([(polygon - low) / step for polygon in polygons], shape)
    return _Distances(z, low, step, np.where(inside.ravel(), distance, -distance).reshape(shape))


def _to_segment(p: Polygon, start: Polygon, end: Polygon) -> Float64[np.ndarray, " n"]:
    """Distance of each point to its own line segment."""
    along = end - start
    length = np.maximum((along**2).sum(axis=1), 1e-30)
    share = np.clip(((p - start) * along).sum(axis=1) / length, 0, 1)
    return np.linalg.norm(p - start - share[:, None] * along, axis=1)


def _without_bridges(start: Polygon, end: Polygon) -> tuple[Polygon, Polygon]:
    """Edges without those that also run the other way: a keyhole's bridge is no border."""
    there = np.round(np.column_stack([start, end]), 3)
    back = {row.tobytes() for row in there[:, [2, 3, 0, 1]] + 0.0}
    kept = np.array([row.tobytes() not in back for row in there + 0.0])
    return (start[kept], end[kept]) if kept.any() else (start, end)
