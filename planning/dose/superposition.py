"""Dose by collapsed-cone superposition: the second engine, of another kind than the pencil beam.

Energy that photons release is traced through the patient (:mod:`.terma`) and carried on by electrons
and scattered photons along cones whose range scales with density (:mod:`.cones`), so that dose builds
down and up at air and bone, which a pencil beam does not know. Ahnesjö, Med. Phys. 16, 577 (1989).

What it does not do: electrons from the linac's head (the first 20 mm get some percent too little),
scattering by the atomic number of bone (dose is that to water of the voxel's electron density),
kernels turned with each ray (a beam has one axis).
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from imaging.grid import Grid, positions
from imaging.resample import resample
from imaging.volume import Quantity, Volume, expect_finite
from planning.beams import Beam, bev_axes
from planning.density import covering
from planning.machine import Machine
from planning.plan import Plan

from .aperture import FluenceMap, delivered
from .bixel_dose import Progress, each_beam
from .cones import in_grid, spread
from .entry import expect_geometry
from .forward import expect_turns
from .memory import expect_room
from .quality import Quality, quality
from .terma import released

# Directions of an arc that lie within this angle (degrees) share their cones.
_SECTOR = 6.0
# Wider voxels (mm) than this are wider than the build-up.
_COARSEST = 5.0
# Working arrays of a voxel for each core: four for each of four rates, and some fields (bytes).
_BYTES_A_VOXEL = 120

State = tuple[Beam, FluenceMap]


def superpose(
    plan: Plan, density: Volume, grid: Grid, machine: Machine, *, progress: Progress | None = None
) -> Volume:
    """Total dose of all fractions of a plan (Gy) by collapsed-cone superposition.

    It means what :func:`planning.dose.forward.calculate` means, from the same fluence; both engines
    give the same dose at the machine's reference conditions. Directions of an arc within 6 degrees
    share their cones, which moves dose at the beams' edges by 1 to 2 % of the maximum.

    Parameters
    ----------
    plan
        Beams with control points and monitor units.
    density
        Relative electron density, zero outside the body. The computation runs where these data are.
    grid
        Where to compute dose, in voxels of at most 5 mm; those without density get none. Energy is
        carried through all of the density, on this grid's spacing.
    machine
        The machine that the plan names.
    progress
        Told the share that is done, 0..1.

    Raises
    ------
    ValueError
        If a beam has no or contradictory control points or meets no tissue, the grid is too coarse, or for
        what :func:`planning.dose.forward.expect_turns` and
        :func:`planning.dose.entry.expect_geometry` refuse.
    MemoryError
        If the patient has more voxels than there is memory for.
    """
    expect_turns(plan, machine)
    if max(grid.spacing) > _COARSEST + 1e-6:
        raise ValueError(
            f"expected a dose grid of at most {_COARSEST:g} mm, got voxels of {max(grid.spacing):g} mm; "
            "choose a finer dose grid"
        )
    expect_finite(density.expect(Quantity.DENSITY))
    for beam in plan.beams:
        expect_geometry(beam, density, machine)
    tissue = _cropped(resample(density, covering(grid, density.grid)))
    device = density.data.device
    n_workers = torch.get_num_threads() if device.type == "cpu" else 1
    expect_room(_BYTES_A_VOXEL * tissue.data.numel() * n_workers, device, "a superposition")
    found = quality(machine)
    sectors = [s for beam in plan.beams for s in _sectors(delivered(beam, machine))]

    def one(n: int) -> Float[Tensor, "i j k"]:
        return _sector_dose(sectors[n], tissue, machine, found)

    total = torch.zeros(tissue.grid.shape, device=device)
    for part in each_beam(one, len(sectors), device, "superposition", progress):
        total += part
    total *= found.gray * plan.prescription.n_fractions * (tissue.data[0] > 0)
    dose = resample(Volume(total[None], tissue.grid, Quantity.DOSE, density.frame), grid)
    return Volume(dose.data, grid, Quantity.DOSE, density.frame)


def _sector_dose(
    sector: Sequence[State], tissue: Volume, machine: Machine, found: Quality
) -> Float[Tensor, "i j k"]:
    """Energy per mass of neighbouring directions, spread along the cones of the middle one."""
    source = torch.stack(
        [released(beam, fluence, tissue, machine, found.photons) for beam, fluence in sector]
    ).sum(dim=0)
    middle = sector[len(sector) // 2][0]
    directions = in_grid(found.cones, middle, tissue.grid)
    return spread(source[0], source[1], tissue.data[0], tissue.grid.spacing, directions, found.cones)


def _sectors(states: Sequence[State]) -> list[list[State]]:
    """Consecutive directions, cut where one is too far from the first of its sector."""
    out: list[list[State]] = []
    for state in states:
        axis = bev_axes(state[0])[2]
        if out and axis @ bev_axes(out[-1][0][0])[2] >= np.cos(np.deg2rad(_SECTOR)) - 1e-9:
            out[-1].append(state)
        else:
            out.append([state])
    return out


def _cropped(density: Volume) -> Volume:
    """The box of voxels that have density."""
    found = torch.nonzero(density.data[0] > 0)
    if len(found) == 0:
        raise ValueError("expected a body with density in it, got none; check the body contour")
    low, high = found.min(dim=0).values.tolist(), (found.max(dim=0).values + 1).tolist()
    affine = np.array(density.grid.affine)
    affine[:3, 3] = positions(density.grid, np.array([low], dtype=np.float64))[0]
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    shape = (high[0] - low[0], high[1] - low[1], high[2] - low[2])
    return Volume(density.data[(slice(None), *box)], Grid(shape, affine), density.quantity, density.frame)
