"""Which points and which bixels of a beam meet: cells of the isocentre plane."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from imaging.shapes import Points
from planning.beams import Beam, to_bev
from planning.machine import Machine

from .bixels import Bixels

# Side of a cell on the isocentre plane (mm): twice the width of the source, over which a few
# nodes hold the lateral part, within limits beyond which blocks grow too many or too empty.
_CELL_PER_FWHM = 2.0
_CELLS = (4.0, 10.0)
# Few points are better in larger cells: each block costs some time, however small it is.
_POINTS_A_CELL, _LARGEST = 48, 20.0


@dataclass(frozen=True, eq=False)
class Cell:
    """Voxels ``first`` to ``last`` of a layout, seen within a square, and the bixels that reach it.

    ``middle`` is the square's centre on the isocentre plane (mm).
    """

    first: int
    last: int
    middle: Float64[np.ndarray, "2"]
    bixels: Int64[np.ndarray, " b"]


@dataclass(frozen=True, eq=False)
class Layout:
    """Which points and which bixels of one beam meet.

    Parameters
    ----------
    voxels
        The points in reach of any bixel, cell by cell.
    slope
        Their offsets from the beam's axis, over their distance from the source along it.
    along
        That distance (mm).
    cells
        Their cells.
    size
        Side of a cell on the isocentre plane (mm).
    """

    voxels: Int64[np.ndarray, " v"]
    slope: Float64[np.ndarray, "v 2"]
    along: Float64[np.ndarray, " v"]
    cells: tuple[Cell, ...]
    size: float

    @property
    def n_entries(self) -> int:
        """Voxels times bixels of all blocks."""
        return sum((cell.last - cell.first) * len(cell.bixels) for cell in self.cells)


def lay_out(beam: Beam, bixels: Bixels, points: Points, machine: Machine, cutoff: float) -> Layout:
    """Points within reach of any bixel of a beam, by cells, and the bixels that reach each cell.

    Raises
    ------
    ValueError
        If the beam has no bixel.
    """
    if len(bixels.positions) == 0:
        raise ValueError(
            f"expected bixels for the beam at gantry {beam.gantry:g}, got none; cover the target"
        )
    bev = to_bev(beam, points)
    along = machine.sad - bev[:, 2]
    slope = bev[:, :2] / along[:, None]
    plane = machine.sad * slope
    reach = _plane_reach(bixels, machine.sad, cutoff)
    low, high = bixels.positions.min(axis=0) - reach, bixels.positions.max(axis=0) + reach
    inside = np.nonzero(((plane >= low) & (plane <= high)).all(axis=1))[0]
    size = _cell_size(plane[inside], machine)
    cell = np.floor((plane[inside] - low) / size).astype(np.int64)
    n_y = int(cell[:, 1].max(initial=0)) + 1
    key = cell[:, 0] * n_y + cell[:, 1]
    order = np.argsort(key, kind="stable")
    keys, first = np.unique(key[order], return_index=True)
    ends = np.append(first, len(order))[1:]
    cells, kept, n_kept = [], [np.empty(0, dtype=np.int64)], 0
    for k, a, b in zip(keys, first, ends, strict=True):
        middle = low + (np.array([k // n_y, k % n_y]) + 0.5) * size
        own = np.nonzero(np.hypot(*(bixels.positions - middle).T) <= reach + size * math.sqrt(0.5))[0]
        if len(own):
            cells.append(Cell(n_kept, n_kept + int(b - a), middle, own))
            kept.append(order[a:b])
            n_kept += int(b - a)
    voxels = inside[np.concatenate(kept)]
    return Layout(voxels, slope[voxels], along[voxels], tuple(cells), size)


def _cell_size(plane: Float64[np.ndarray, "n 2"], machine: Machine) -> float:
    size = float(np.clip(_CELL_PER_FWHM * machine.beam.penumbra_fwhm.min(), *_CELLS))
    if len(plane) == 0:
        return size
    sparse = math.sqrt(_POINTS_A_CELL * float(np.ptp(plane, axis=0).prod()) / len(plane))
    return max(size, min(sparse, _LARGEST))


def _plane_reach(bixels: Bixels, sad: float, cutoff: float) -> float:
    """Furthest offset on the isocentre plane (mm) that may lie within the cutoff of a tilted ray."""
    tangent = (np.hypot(*bixels.positions.T).max() + 1.2 * cutoff) / sad
    return cutoff * float(1 + tangent**2)
