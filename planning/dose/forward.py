"""Dose of what the linac delivers: from leaf positions and monitor units, not from a fluence."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from imaging.grid import Grid, positions
from imaging.resample import resample
from imaging.volume import Quantity, Volume, expect_finite
from planning.density import covering
from planning.machine import Machine, expect_in_range
from planning.plan import Plan

from .aperture import Lattice, delivered
from .bixel_dose import Progress, each_beam
from .field import dose, views

# Wider voxels (mm) would not show what leaves do.
_COARSEST = 5.0


def calculate(
    plan: Plan, density: Volume, grid: Grid, machine: Machine, *, progress: Progress | None = None
) -> Volume:
    """Total dose of all fractions of a plan (Gy), from its control points.

    Direction by direction: what the leaves, their transmission and the jaws let through, times
    monitor units, is a fluence map whose dose is a convolution (see :func:`planning.dose.field.dose`),
    without a lateral cutoff; memory holds the dose of as many directions as there are cores.

    Parameters
    ----------
    plan
        Beams with control points and monitor units.
    density
        Relative electron density, zero outside the body.
    grid
        Where to compute dose, in voxels of at most 5 mm; those without density get none. Depths are
        traced through the density on this grid's spacing.
    machine
        The machine that the plan names.
    progress
        Told the share that is done, 0..1.

    Raises
    ------
    ValueError
        If a beam has no or contradictory control points, the grid is too coarse, or for what
        :func:`expect_turns` and :func:`planning.dose.entry.expect_geometry` refuse.
    """
    expect_turns(plan, machine)
    if max(grid.spacing) > _COARSEST + 1e-6:
        raise ValueError(
            f"expected a dose grid of at most {_COARSEST:g} mm, got voxels of {max(grid.spacing):g} mm; "
            "choose a finer dose grid"
        )
    expect_finite(density.expect(Quantity.DENSITY))
    coarse = resample(density, covering(grid, density.grid))
    tissue = resample(coarse, grid).data[0] > 0
    points = positions(grid, torch.nonzero(tissue).cpu().numpy().astype(np.float64))
    states = [state for beam in plan.beams for state in delivered(beam, machine)]
    device = density.data.device

    def one(n: int) -> Float[Tensor, " n"]:
        beam, fluence = states[n]
        nx, ny = fluence.values.shape
        lattice = Lattice(fluence.origin, (nx, ny), fluence.pixel)
        seen = views([beam], coarse, points, machine)
        return dose(seen, fluence.values[None].to(device), lattice)

    total = torch.zeros(len(points), device=device)
    for part in each_beam(one, len(states), device, "dose", progress):
        total += part
    data = torch.zeros(grid.shape, device=device)
    data[tissue] = total * plan.prescription.n_fractions
    return Volume(data[None], grid, Quantity.DOSE, density.frame)


def expect_turns(plan: Plan, machine: Machine) -> None:
    """Nothing, if the machine is the plan's and can turn to every angle, of control points too.

    Between control points the gantry is counted round and round: an angle that is none would pass there.

    Raises
    ------
    ValueError
        If the plan is for another machine, or for what :func:`planning.machine.expect_in_range` refuses.
    """
    if plan.machine != machine.name:
        raise ValueError(f"expected the machine {plan.machine} of the plan, got {machine.name}")
    for beam in plan.beams:
        expect_in_range(beam, machine)
        for point in beam.control_points:
            expect_in_range(replace(beam, gantry=point.gantry), machine)
