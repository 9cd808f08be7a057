"""The small beams that a field is made of."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.ndimage import binary_closing, binary_dilation

from imaging.grid import Grid
from imaging.shapes import Points
from planning.beams import Beam, project
from planning.machine import Machine, expect_in_range


@dataclass(frozen=True, eq=False)
class Bixels:
    """The bixels of one beam.

    Parameters
    ----------
    positions
        Their centres: x (along the leaves) and y (across them) on the isocentre plane, in the
        axes of the beam limiting device (mm), shape ``(n, 2)``.
    width
        Their size along x and y (mm at the isocentre).
    """

    positions: Float64[np.ndarray, "n 2"]
    width: tuple[float, float] = (5.0, 5.0)


def covering(
    target: Points, beam: Beam, machine: Machine, margin: float = 5.0, column: float = 5.0
) -> Bixels:
    """The bixels of a beam that see a target.

    Rows are centred on the leaf pairs; columns are multiples of ``column`` plus one half.

    Parameters
    ----------
    target
        Voxel centres of the target (LPS, mm), shape ``(n, 3)``, no more than 10 mm apart.
    beam
        Its angles and isocentre.
    machine
        Its leaves; those that are needed must all be as wide.
    margin
        How far bixels reach beyond the target (mm at the isocentre), in whole bixels.
    column
        Size of a bixel along the leaves (mm).

    Raises
    ------
    ValueError
        If the target is empty or reaches beyond the leaves or jaws.
    """
    if len(target) == 0:
        raise ValueError("expected a target with voxels in it, got an empty one; contour the target")
    seen = project(expect_in_range(beam, machine), target, machine.sad)
    edges = machine.mlc.boundaries
    reach = min(machine.mlc.max_position, machine.max_jaw)
    low, high = seen.min(axis=0), seen.max(axis=0)
    # Leaves may reach further than jaws, or the fixed collimator in their stead.
    first, last = max(edges[0], -machine.max_jaw), min(edges[-1], machine.max_jaw)
    if not (-reach <= low[0] and high[0] <= reach and first <= low[1] and high[1] <= last):
        raise ValueError(
            f"expected a target within {reach:g} mm of the isocentre at gantry {beam.gantry:g}, got one that "
            f"reaches from {np.round(low)} to {np.round(high)} mm; move the isocentre to the target's middle"
        )
    n_half = math.floor(reach / column + 1e-9)
    columns = np.clip(np.floor(seen[:, 0] / column).astype(int) + n_half, 0, 2 * n_half - 1)
    rows = np.clip(np.searchsorted(edges, seen[:, 1], side="right") - 1, 0, len(edges) - 2)
    heights = np.diff(edges)[rows.min() : rows.max() + 1]
    if np.ptp(heights) > 1e-6:
        raise ValueError("expected leaves of one width over the target; choose another machine or isocentre")
    height = float(heights[0])
    lit = np.zeros((len(edges) - 1, 2 * n_half), dtype=bool)
    lit[rows, columns] = True
    # Voxels are points here: close the gaps that coarse or magnified voxels leave.
    lit |= binary_closing(lit, np.ones((3, 3), dtype=bool))
    grow = (2 * math.ceil(margin / height - 1e-9) + 1, 2 * math.ceil(margin / column - 1e-9) + 1)
    row, col = np.nonzero(binary_dilation(lit, np.ones(grow, dtype=bool)))
    centers = (edges[:-1] + edges[1:]) / 2
    positions = np.stack([(col - n_half + 0.5) * column, centers[row]], axis=1)
    return Bixels(positions, (column, height))


def expect_fine(grid: Grid, bixels: Bixels) -> Grid:
    """This dose grid, if it can show what the bixels do.

    Raises
    ------
    ValueError
        If its voxels are wider than the bixels.
    """
    if max(grid.spacing) > min(bixels.width) + 1e-6:
        raise ValueError(
            f"expected a dose grid no coarser than the bixels, {min(bixels.width):g} mm, "
            f"got voxels of {max(grid.spacing):g} mm; choose a finer dose grid"
        )
    return grid
