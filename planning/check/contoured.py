"""Dose–volume histograms of structures as they were drawn: contours on planes, not voxels.

Nothing is rounded to a voxel: the area of a cross-section is that of the polygons, and between two planes
both size and shape are interpolated. Polygons come in indices (i, j) of a grid by the index k of their plane,
as :mod:`imaging.contours` has them, or in the patient (:mod:`imaging.roi_contours`).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from scipy.spatial import KDTree

from imaging.contours import Polygon, to_mask
from imaging.grid import Grid, positions
from imaging.roi_contours import ContourSet, RoiContours, plane_grid, planes_on, slice_distance
from imaging.volume import Volume

from .dvh import Dvh, expect_frame, histogram_at
from .layers import Planes, edges, in_mm, layers_of, slice_of
from .parts import Parts, Section, part_volume, points_in

_PARTS = 250_000
_POINTS_AT_ONCE = 500_000
# Distances to a contour are kept on points this close (mm) at most: a wide body has coarser parts.
_MAP_STEP_AT_MOST = 2.0


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
    return histogram_at(dose, contoured_parts(planes, grid, thickness=thickness))


def contoured_parts(planes: Planes, grid: Grid, *, thickness: float | None = None) -> Parts:
    """Equal parts of a structure drawn as contours; parameters as in :func:`contoured_histogram`."""
    drawn = in_mm(planes, grid)
    layers = list(layers_of(drawn, slice_of(planes, thickness) * float(grid.spacing[2])))
    volume = sum(layer.area * layer.thickness for layer in layers)
    if volume <= 0:
        raise ValueError("expected contours that enclose some area, got none; contour the structure again")
    corners = np.concatenate([polygon for _, polygons in drawn for polygon in polygons])
    low, high = corners.min(axis=0), corners.max(axis=0)
    area = float(np.prod(high - low))
    part = part_volume(volume, area, max(layer.thickness for layer in layers), _PARTS)
    map_step = max(min(part ** (1 / 3), _MAP_STEP_AT_MOST), (area / _POINTS_AT_ONCE) ** 0.5)
    points = points_in(layers, lambda n: _section(*drawn[n], low, high, map_step), low, high, part)
    return Parts(positions(grid, points / grid.spacing), volume / 1000)


def contoured_histograms(dose: Volume, drawn: ContourSet, *, slice_mm: float | None = None) -> dict[str, Dvh]:
    """The histogram of every structure of a set as it was drawn, by name.

    Parameters
    ----------
    dose
        Dose (Gy), one channel.
    drawn
        Contours in the frame of reference of the dose.
    slice_mm
        Thickness of a slice (mm), for structures drawn on one plane; the usual distance of the set's planes
        where None.

    Raises
    ------
    ValueError
        If dose and contours have different frames of reference, no thickness is known for a structure of one
        plane, or for what :func:`contoured_histogram` refuses.
    """
    expect_frame(dose, drawn.frame)
    usual = slice_distance(drawn) if slice_mm is None else slice_mm
    return {name: _of_roi(dose, roi, name, usual) for name, roi in drawn.rois.items()}


def _of_roi(dose: Volume, roi: RoiContours, name: str, slice_mm: float | None) -> Dvh:
    grid = plane_grid(roi.polygons, slice_mm or 1.0)
    planes = planes_on(roi.polygons, grid, name)
    if len(planes) == 1 and slice_mm is None:
        raise ValueError(
            f"expected to know how thick the slices are that {name} was drawn on, got one plane alone; "
            "give their thickness"
        )
    return contoured_histogram(dose, planes, grid)


def _section(
    z: float,
    polygons: Sequence[Polygon],
    low: Float64[np.ndarray, "2"],
    high: Float64[np.ndarray, "2"],
    step: float,
) -> Section:
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
    return Section(
        z, low, np.array([step, step]), np.where(inside.ravel(), distance, -distance).reshape(shape)
    )


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
