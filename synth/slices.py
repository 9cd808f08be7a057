"""Slices of a scan: their thickness, the gaps between them, and the way they lie."""

from dataclasses import dataclass

import numpy as np

from imaging.grid import Grid

from .sampling import Image, Resized, Taps, along, box_taps, linear_taps, offsets, profile_taps

ORIENTATIONS = ("sagittal", "coronal", "axial")  # normal to i, j, k of an upright grid
_EDGE = 0.1  # standard deviation of a slice's edges relative to its thickness (assumed)


@dataclass(frozen=True)
class Stack:
    """Slices that cover a grid.

    Parameters
    ----------
    grid
        Voxels of the slices; they lie apart by thickness and gap.
    axis
        Which axis runs through the slices.
    thickness
        Full width at half maximum of a slice (mm); 0 stands for the voxels of an isotropic scan.
    """

    grid: Grid
    axis: int
    thickness: float


def stack(grid: Grid, orientation: str, thickness: float, gap: float) -> Stack:
    """Slices across a grid, with its own resolution within them.

    Parameters
    ----------
    grid
        What the slices cover.
    orientation
        ``axial``, ``coronal`` or ``sagittal``.
    thickness, gap
        Of each slice and between two of them (mm).

    Raises
    ------
    ValueError
        If the orientation is none, or the slices are thinner than the voxels.
    """
    if orientation not in ORIENTATIONS:
        raise ValueError(f"expected an orientation of {', '.join(ORIENTATIONS)}, got {orientation!r}")
    axis = ORIENTATIONS.index(orientation)
    if thickness < grid.spacing[axis] or gap < 0:
        raise ValueError(
            f"expected slices of at least {grid.spacing[axis]:g} mm and no negative gap, "
            f"got {thickness:g} mm with {gap:g} mm"
        )
    step, length = thickness + gap, grid.shape[axis] * grid.spacing[axis]
    n = max(1, int(np.ceil((length - thickness) / step)) + 1)
    shape = list(grid.shape)
    shape[axis] = n
    affine = np.array(grid.affine)
    normal = affine[:3, axis] / grid.spacing[axis]
    middle = (length - grid.spacing[axis]) / 2
    affine[:3, axis] = normal * step
    affine[:3, 3] += normal * (middle - (n - 1) / 2 * step)
    return Stack(Grid((shape[0], shape[1], shape[2]), affine), axis, thickness)


def whole(grid: Grid) -> Stack:
    """A grid scanned in three dimensions: no slices but its own voxels."""
    return Stack(grid, 2, 0.0)


def slice_taps(fine: Grid, stack: Stack) -> tuple[Taps, Taps, Taps]:
    """What each voxel of each slice averages, along the three axes.

    Raises
    ------
    ValueError
        If the grids are turned against each other.
    """
    out = []
    for axis, centers in enumerate(offsets(fine, stack.grid)):
        n, step = fine.shape[axis], float(fine.spacing[axis])
        if stack.thickness > 0 and axis == stack.axis:
            taps = profile_taps(n, step, centers, stack.thickness, _EDGE * stack.thickness)
        else:
            taps = box_taps(n, step, centers, float(stack.grid.spacing[axis]))
        out.append(taps)
    return out[0], out[1], out[2]


def filled(image: Image, stack: Stack, grid: Grid) -> Resized:
    """Slices interpolated to the grid that they cover, linearly from one to the next."""
    centers = offsets(stack.grid, grid)[stack.axis]
    step = float(stack.grid.spacing[stack.axis])
    return along(image, stack.axis, linear_taps(stack.grid.shape[stack.axis], step, centers))
