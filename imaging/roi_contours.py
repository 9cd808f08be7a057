"""Structures as they were drawn: closed polygons on parallel planes, in the patient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from .contours import Polygon, to_mask
from .grid import Grid, indices
from .shapes import Mask, Point
from .structures import RoiType

OFF_PLANE = 0.1  # mm that points of one contour may differ in depth: coarse decimals, not a tilt
_SAME_PLANE = 0.05  # mm between contours that are still on one plane
_PIXEL = 1.0  # mm of the lattice that contours are given a place on

# A closed planar polygon (LPS, mm).
Outline = Float64[np.ndarray, "_ 3"]
Planes = dict[float, list[Polygon]]


@dataclass(frozen=True, eq=False)
class RoiContours:
    """One region by its contours.

    Parameters
    ----------
    polygons
        Closed planar polygons (LPS, mm), each of shape ``(n, 3)``. Inside is what an odd number
        of those on a plane encloses.
    kind
        What the region is for.
    color
        Red, green, blue, 0..255.
    """

    polygons: tuple[Outline, ...]
    kind: RoiType
    color: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class ContourSet:
    """Named regions by their contours, in the order they were drawn, in one frame of reference."""

    rois: Mapping[str, RoiContours]
    frame: str = ""


def planes_on(polygons: Sequence[Outline], grid: Grid, name: str = "the structure") -> Planes:
    """Contours in indices (i, j) of a grid, by the index k of their plane.

    Parameters
    ----------
    polygons
        Planar polygons (LPS, mm).
    grid
        What the indices refer to; its slices must be parallel to the polygons.
    name
        Whose they are, for the error.

    Raises
    ------
    ValueError
        If a polygon crosses the slices.
    """
    planes: Planes = {}
    step = float(grid.spacing[2])
    for polygon in polygons:
        index = indices(grid, polygon)
        depth = index[:, 2]
        if (depth.max() - depth.min()) * step > OFF_PLANE:
            raise ValueError(
                f"expected contours of {name} parallel to the slices of the scan, got one that crosses them; "
                "read it on the series it was drawn on"
            )
        k = float(np.median(depth))
        k = next((known for known in planes if abs(known - k) * step <= _SAME_PLANE), k)
        planes.setdefault(k, []).append(np.ascontiguousarray(index[:, :2]))
    return planes


def plane_grid(polygons: Sequence[Outline], slice_mm: float = 1.0) -> Grid:
    """A lattice around contours whose slices are parallel to them; upright where they are axial.

    Parameters
    ----------
    polygons
        Planar, parallel polygons (LPS, mm), at least one.
    slice_mm
        Distance of its slices; in the plane its voxels have 1 mm.
    """
    axes = _axes(_normal(polygons))
    points = np.concatenate(list(polygons)) @ axes
    step = np.array([_PIXEL, _PIXEL, slice_mm])
    low, high = points.min(axis=0) - step, points.max(axis=0) + step
    shape = np.ceil((high - low) / step - 1e-6).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = axes * step
    affine[:3, 3] = axes @ low
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def slice_distance(contours: ContourSet) -> float | None:
    """The usual distance (mm) of the planes that structures were drawn on; None where none has two.

    The lower middle of all distances inside a structure: neither a gap nor two planes that are one
    but for rounding count.
    """
    gaps = [
        gap
        for roi in contours.rois.values()
        if roi.polygons
        for gap in np.diff(sorted(planes_on(roi.polygons, plane_grid(roi.polygons)))).tolist()
    ]
    return float(sorted(gaps)[(len(gaps) - 1) // 2]) if gaps else None


def flatness(polygon: Outline) -> float:
    """How far the points of a polygon lie from one plane (mm), from the lowest to the highest."""
    depth = (polygon - polygon.mean(axis=0)) @ _normal([polygon])
    return float(depth.max() - depth.min())


def rasterised(planes: Mapping[float, Sequence[Polygon]], grid: Grid, spacing: float) -> Mask:
    """The voxels whose centre lies inside: each slice takes the nearest plane within half a spacing.

    Parameters
    ----------
    planes
        Polygons (even-odd) in indices (i, j) of the grid by the index k of their plane.
    grid
        Where the mask is wanted.
    spacing
        What one contour stands for (slices of the grid).
    """
    at = np.array(sorted(planes))
    mask = np.zeros(grid.shape, dtype=bool)
    for k in range(grid.shape[2]):
        nearest = float(at[np.argmin(np.abs(at - k - 1e-3))])
        # Half open, with rounding in the header to spare: a slice midway takes one plane only.
        if -spacing / 2 <= k - nearest + 1e-3 < spacing / 2:
            mask[:, :, k] = to_mask(planes[nearest], grid.shape[:2])
    return torch.from_numpy(mask)


def _normal(polygons: Sequence[Outline]) -> Point:
    """Unit normal of parallel polygons, towards the head, or else front to back, or to the left."""
    about = np.concatenate([polygon - polygon.mean(axis=0) for polygon in polygons])
    normal = np.linalg.eigh(about.T @ about)[1][:, 0]
    nearest = np.eye(3)[int(np.argmax(np.abs(normal)))]
    normal = normal * np.sign(normal @ nearest)
    # What rounding tilts is not tilted: a metre of it lies within the tolerance of a plane.
    return nearest if np.linalg.norm(normal - nearest) < 1e-4 else normal


def _axes(normal: Point) -> Float64[np.ndarray, "3 3"]:
    """Columns of a right-handed lattice whose third axis is the normal; x, y, z where that is z."""
    along = np.array([1.0, 0.0, 0.0]) if abs(normal[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    i = along - (along @ normal) * normal
    i /= np.linalg.norm(i)
    return np.column_stack([i, np.cross(normal, i), normal])
