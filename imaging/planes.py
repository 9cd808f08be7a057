"""Which plane of a scan to look at, and its pixels."""

from enum import StrEnum

import numpy as np
from jaxtyping import Float

from .grid import Grid, corners, positions
from .resample import resample
from .shapes import Point
from .structures import RoiType, StructureSet, named
from .volume import Volume

Pixels = Float[np.ndarray, "rows columns"]
_MARGIN_MM = 8.0


class Plane(StrEnum):
    """A plane of the patient, seen as radiologists do: from the feet, from the front, from the left."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"


# Which LPS axis runs to the right, which one up or down, and which one through the plane.
AXES = {Plane.AXIAL: (0, 1, 2), Plane.CORONAL: (0, 2, 1), Plane.SAGITTAL: (1, 2, 0)}


def target_center(structures: StructureSet) -> Point | None:
    """Centroid (LPS, mm) of the first PTV, CTV or GTV that is not empty; None where there is none."""
    for kind in (RoiType.PTV, RoiType.CTV, RoiType.GTV):
        for name in named(structures, kind):
            inside = structures.mask(name).nonzero().double().numpy()
            if len(inside):
                return positions(structures.grid, inside.mean(axis=0, keepdims=True))[0]
    return None


def extent(volume: Volume, structures: StructureSet | None = None) -> tuple[Point, Point]:
    """Box (LPS, mm) worth showing: around the external contour, or else the whole scan."""
    whole = corners(volume.grid)
    if structures is None:
        return whole.min(axis=0), whole.max(axis=0)
    for name in named(structures, RoiType.EXTERNAL):
        inside = structures.mask(name).nonzero().double().numpy()
        if len(inside):
            low, high = inside.min(axis=0) - 0.5, inside.max(axis=0) + 0.5
            box = np.array([np.where(side, high, low) for side in np.ndindex(2, 2, 2)])
            points = positions(structures.grid, box)
            return points.min(axis=0) - _MARGIN_MM, points.max(axis=0) + _MARGIN_MM
    return whole.min(axis=0), whole.max(axis=0)


def cut(
    volume: Volume, plane: Plane, at: Point, low: Point, high: Point
) -> Float[np.ndarray, "rows columns"]:
    """One plane of a volume as an image with square pixels, whatever way its voxels are turned.

    Parameters
    ----------
    volume
        What to cut; its first channel is read, trilinearly.
    plane
        Which plane.
    at
        A point in the plane (LPS, mm).
    low, high
        Corners of the box to show (LPS, mm).

    Returns
    -------
    Pixels
        Rows towards larger y or z, columns towards larger x or y (LPS).
    """
    across, along, through = AXES[plane]
    pixel = max(float(volume.grid.spacing.min()), float((high - low).max()) / 512)
    n = np.ones(3, dtype=int)
    n[[across, along]] = np.ceil((high - low)[[across, along]] / pixel).astype(int)
    affine = np.diag([pixel, pixel, pixel, 1.0])
    affine[:3, 3] = low + pixel / 2
    affine[through, 3] = at[through]
    grid = Grid((int(n[0]), int(n[1]), int(n[2])), affine)
    first = Volume(volume.data[:1].float(), volume.grid, volume.quantity)
    return resample(first, grid).data[0].squeeze(through).numpy().T
