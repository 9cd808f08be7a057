"""What beams can reach of a target, and the refusal of a plan that would miss it, before any dose."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from imaging.grid import Grid, indices, positions
from imaging.shapes import Points
from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.arrange import target_of
from planning.beams import Beam
from planning.dose.bixels import Bixels, covering, expect_fine
from planning.dose.entry import expect_geometry
from planning.machine import Machine

# Share of the target that may lie in air: its D95% could never be covered with more.
_IN_AIR_AT_MOST = 0.05


def reaching(
    structures: StructureSet,
    density: Volume,
    beams: Sequence[Beam],
    machine: Machine,
    dose_grid: Grid,
    margin: float = 5.0,
) -> tuple[Bixels, ...]:
    """The bixels of each beam that see the planning target.

    Parameters
    ----------
    structures
        One planning target (kind PTV).
    density
        Relative electron density, zero outside the body.
    beams
        Directions and isocentre.
    machine
        What delivers them.
    dose_grid
        Where dose shall be computed.
    margin
        How far bixels reach beyond the target (mm at the isocentre).

    Raises
    ------
    ValueError
        If there is no beam or no target, the density is not finite, a beam cannot be or its isocentre is
        outside the scan, the target reaches beyond the leaves, the dose grid or the body, or the dose grid
        is coarser than the bixels.
    """
    if not beams:
        raise ValueError("expected one or more beams, got none; arrange some around the target")
    for beam in beams:
        expect_geometry(beam, density, machine)
    voxels = torch.nonzero(structures.mask(target_of(structures))).numpy().astype(np.float64)
    seen = positions(structures.grid, voxels)
    bixels = tuple(covering(seen, beam, machine, margin) for beam in beams)
    for own in bixels:
        expect_fine(dose_grid, own)
    _expect_on(dose_grid, seen)
    _expect_tissue(density, seen)
    return bixels


def _expect_on(grid: Grid, target: Points) -> None:
    """Refuses a target that the dose grid does not hold: what lies outside is nobody's dose."""
    index = indices(grid, target)
    inside = ((index >= -0.5) & (index <= np.array(grid.shape) - 0.5)).all(axis=1)
    outside = 1 - float(np.mean(inside))
    if outside > 0:
        raise ValueError(
            f"expected a dose grid that holds the target, got one that leaves out {_percent(outside)} of it; "
            "choose a dose grid around the body"
        )


def _expect_tissue(density: Volume, target: Points) -> None:
    """Refuses a target in air, where dose has no meaning."""
    read = map_coordinates(
        density.data[0].cpu().numpy(), indices(density.grid, target).T, order=1, mode="constant", cval=0.0
    )
    in_air = float(np.mean(read <= 0))
    if in_air > _IN_AIR_AT_MOST:
        raise ValueError(
            f"expected a target in the body, got {_percent(in_air)} of it outside; check that the target and "
            "the body contour are of one patient"
        )


def _percent(share: float) -> str:
    return f"{max(100 * share, 0.1):.1f} %"
