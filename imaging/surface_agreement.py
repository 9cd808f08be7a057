"""How well two surfaces agree, every piece of them counted by its area, on voxels of any shape.

After Nikolov et al., J. Med. Internet Res. 23, e26151 (2021), and their public reference implementation:
between eight voxels a piece of surface has the area that marching cubes gives it, and its distance is that to
the nearest piece of the other surface. The areas are those of MONAI's table. Pieces lie on the corners of
voxels, so distances between slanting surfaces come out up to half a voxel short, as in the reference.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from monai.metrics.utils import get_code_to_measure_table
from scipy.spatial import KDTree

from .grid import Grid
from .shapes import Mask, Points

_ALL_EIGHT = 255
_ROUNDING = 1e-4  # mm: a header's single precision must not put a whole voxel beyond its tolerance
Areas = Float64[np.ndarray, " _"]


@dataclass(frozen=True, eq=False)
class Surface:
    """The surface of a mask between its voxels.

    Parameters
    ----------
    points
        Corners between voxels that the surface passes (mm along i, j, k).
    areas
        Area (mm²) of the piece at each of them.
    tree
        The points, to be searched.
    """

    points: Points
    areas: Areas
    tree: KDTree


@dataclass(frozen=True, eq=False)
class Between:
    """Distances (mm) of the pieces of two surfaces to the other one, and their areas (mm²)."""

    there: Areas
    there_areas: Areas
    back: Areas
    back_areas: Areas


def surface(mask: Mask, grid: Grid) -> Surface:
    """The surface of a mask; an empty mask has none."""
    table, kernel = get_code_to_measure_table(grid.spacing.tolist())
    inside = np.pad(mask.numpy(), 1).astype(np.uint8)
    i, j, k = (n - 1 for n in inside.shape)
    code = np.zeros((i, j, k), dtype=np.uint8)
    for (a, b, c), bit in np.ndenumerate(kernel[0, 0].numpy().astype(np.uint8)):
        code += bit * inside[a : a + i, b : b + j, c : c + k]
    corners = np.argwhere((code != 0) & (code != _ALL_EIGHT))
    points = corners * grid.spacing
    return Surface(points, table.double().numpy()[code[tuple(corners.T)]], KDTree(points))


def between(a: Surface, b: Surface) -> Between:
    """Distances between two surfaces on one grid.

    Raises
    ------
    ValueError
        If one of them is that of an empty mask.
    """
    if not len(a.areas) or not len(b.areas):
        raise ValueError("expected two masks with voxels inside, got an empty one; check the structures")
    there, back = (np.asarray(one.tree.query(other.points)[0]) for one, other in ((b, a), (a, b)))
    return Between(there, a.areas, back, b.areas)


def surface_dice(found: Between, tolerance: float) -> float:
    """Share of both surfaces that lies within ``tolerance`` (mm) of the other one."""
    reach = tolerance + _ROUNDING
    near = found.there_areas[found.there <= reach].sum() + found.back_areas[found.back <= reach].sum()
    return float(near / (found.there_areas.sum() + found.back_areas.sum()))


def mean_distance(found: Between) -> float:
    """Mean distance (mm) between two surfaces, over the area of both."""
    whole = (found.there * found.there_areas).sum() + (found.back * found.back_areas).sum()
    return float(whole / (found.there_areas.sum() + found.back_areas.sum()))


def robust_hausdorff(found: Between, percent: float = 95.0) -> float:
    """The greater of the distances (mm) that ``percent`` of either surface's area does not exceed."""
    return max(
        _reached(found.there, found.there_areas, percent), _reached(found.back, found.back_areas, percent)
    )


def _reached(distances: Areas, areas: Areas, percent: float) -> float:
    order = np.argsort(distances, kind="stable")
    share = np.cumsum(areas[order]) / areas.sum()
    return float(distances[order][min(int(np.searchsorted(share, percent / 100)), len(order) - 1)])


def union_box(masks: list[Mask], grid: Grid, margin: float) -> tuple[slice, slice, slice]:
    """The box around all masks and ``margin`` mm more, cut at the grid, as slices of voxels.

    Raises
    ------
    ValueError
        If all masks are empty.
    """
    union = torch.stack(masks).any(dim=0)
    if not bool(union.any()):
        raise ValueError("expected a mask with voxels inside, got only empty ones")
    extra = np.ceil(margin / grid.spacing - 1e-6).astype(int).tolist()
    box = []
    for axis, n in enumerate(union.shape):
        others = tuple(a for a in range(3) if a != axis)
        inside = torch.nonzero(union.any(dim=others[1]).any(dim=others[0]))[:, 0].tolist()
        box.append(slice(max(inside[0] - extra[axis], 0), min(inside[-1] + extra[axis] + 1, n)))
    return box[0], box[1], box[2]
