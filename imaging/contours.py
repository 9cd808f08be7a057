"""Masks of slices as polygons, and polygons as masks; indices only, no patient space.

Polygons run in fractional voxel indices (i, j) of one slice, voxel centres at whole numbers.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from contourpy import FillType, contour_generator
from jaxtyping import Bool, Float64

Slice = Bool[np.ndarray, "i j"]
Polygon = Float64[np.ndarray, "_ 2"]

# Where a keyhole's bridge runs between two rows of voxel centres: never through a centre, so
# that no reader has to decide on which side of a line a centre on it lies.
_BRIDGE_ROW = 0.25


def to_polygons(mask: Slice) -> list[Polygon]:
    """Closed polygons around the true voxels of a slice; holes are joined on by keyholes.

    The contour runs at the level 0.5 between voxel centres (marching squares, Lorensen and
    Cline, Comput. Graph. 21, 163 (1987), in the plane): it crosses each edge between a voxel
    inside and one outside at its middle. Any border that separates these two voxels crosses
    the same edge, so the polygon lies within half a voxel of it; voxel corners would lie up
    to 0.71 away. No centre is nearer than 0.35 voxels to the contour, so the mask comes back
    exactly, also for single voxels and lines of them. Convex corners lose 1/8 voxel of area
    and concave ones gain it: half a voxel for each closed curve, whatever its size.

    Parameters
    ----------
    mask
        True inside, shape ``(i, j)``.

    Returns
    -------
    list
        One polygon for each connected part, without a repeated last vertex. Outlines and holes
        run in opposite senses, so even-odd and non-zero winding agree.
    """
    padded = np.pad(mask, 1).astype(np.float64)
    # contourpy's x runs along the last axis: here j. Swapping gives (i, j).
    generator = contour_generator(z=padded.T, name="serial", fill_type=FillType.OuterOffset)
    points, offsets = generator.filled(0.5, 2.0)
    polygons = []
    for vertices, cuts in zip(points, offsets, strict=True):
        rings = [_open_ring(vertices[a:b] - 1) for a, b in pairwise(cuts) if b - a > 3]
        polygons.append(_straightened(_with_keyholes(rings[0], rings[1:])))
    return polygons


def _open_ring(ring: Polygon) -> Polygon:
    """A ring without its repeated last vertex."""
    return ring[:-1] if np.array_equal(ring[0], ring[-1]) else ring


def _straightened(ring: Polygon) -> Polygon:
    """A ring without the vertices that lie on the line between their neighbours."""
    before = ring - np.roll(ring, 1, axis=0)
    after = np.roll(ring, -1, axis=0) - ring
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    ahead = (before * after).sum(axis=1) > 0
    return ring[(turn != 0) | ~ahead]


def _with_keyholes(outline: Polygon, holes: Sequence[Polygon]) -> Polygon:
    """One ring that runs around the outline and, over bridges along i, around every hole.

    Each bridge leads from the hole's side of largest i to the next edge along its row. Taken
    from the largest i down, that edge belongs to the outline or to a hole already joined.
    """
    starts = [_bridge_start(hole) for hole in holes]
    order = sorted(range(len(holes)), key=lambda n: -starts[n][1][0])
    ring = outline
    for n in order:
        edge, start = starts[n]
        target_edge, target = _first_hit(ring, start)
        hole = np.roll(holes[n], -(edge + 1), axis=0)
        ring = np.concatenate(
            [ring[: target_edge + 1], [target], [start], hole, [start], [target], ring[target_edge + 1 :]]
        )
    return ring


def _bridge_start(hole: Polygon) -> tuple[int, Float64[np.ndarray, "2"]]:
    """The edge of a hole, and the point on it, where its bridge begins."""
    row = np.floor(hole[np.argmax(hole[:, 0]), 1]) + _BRIDGE_ROW
    edges, crossing = _crossings(hole, row)
    best = int(np.argmax(crossing))
    return int(edges[best]), np.array([crossing[best], row])


def _first_hit(ring: Polygon, start: Float64[np.ndarray, "2"]) -> tuple[int, Float64[np.ndarray, "2"]]:
    """The edge of a ring, and the point on it, that a ray along +i from ``start`` meets first."""
    edges, crossing = _crossings(ring, float(start[1]))
    ahead = crossing > start[0] + 1e-9
    best = int(np.argmin(np.where(ahead, crossing, np.inf)))
    return int(edges[best]), np.array([crossing[best], start[1]])


def _crossings(ring: Polygon, row: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the edges of a ring that cross j = ``row``, and the i at which each does."""
    a, b = ring, np.roll(ring, -1, axis=0)
    edges = np.flatnonzero((a[:, 1] > row) != (b[:, 1] > row))
    a, b = a[edges], b[edges]
    return edges, a[:, 0] + (row - a[:, 1]) * (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1])


def to_mask(polygons: Sequence[Polygon], shape: tuple[int, int]) -> Slice:
    """Voxels whose centre lies inside an odd number of polygons (even-odd rule).

    Keyholes and outlines with separate inner contours give the same mask; a polygon given
    twice counts once. What lies outside the slice is cut off. A centre on a border belongs to
    the polygon on its side of larger i or j.

    Parameters
    ----------
    polygons
        Closed polygons of one slice in indices (i, j).
    shape
        Number of voxels along i and j.
    """
    unique = {polygon.tobytes(): polygon for polygon in polygons}.values()
    flips = np.zeros((shape[0] + 1, shape[1]), dtype=np.int64)
    for polygon in unique:
        i, j = _flips(polygon, shape)
        np.add.at(flips, (i, j), 1)
    return np.cumsum(flips[:-1], axis=0) % 2 == 1


def _flips(polygon: Polygon, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """For each edge and each row of centres that it crosses, the first voxel beyond the edge."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    low = np.where((a[:, 1] <= b[:, 1])[:, None], a, b)
    high = np.where((a[:, 1] <= b[:, 1])[:, None], b, a)
    first = np.clip(np.ceil(low[:, 1]), 0, shape[1]).astype(np.int64)
    last = np.clip(np.ceil(high[:, 1]), 0, shape[1]).astype(np.int64)
    n_rows = last - first
    edge = np.repeat(np.arange(len(polygon)), n_rows)
    j = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows)
    rise = high[edge] - low[edge]
    crossing = low[edge, 0] + (j - low[edge, 1]) * rise[:, 0] / rise[:, 1]
    return np.clip(np.ceil(crossing), 0, shape[0]).astype(np.int64), j


def signed_area(polygon: Polygon) -> float:
    """Area of a polygon (voxels), positive when it runs from i towards j (shoelace formula)."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    return float((a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]).sum() / 2)
