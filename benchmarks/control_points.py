"""Forward and backward dose of an arc on a head: ``python -m benchmarks.control_points``."""

import resource
import time

import numpy as np
import torch

from imaging.grid import axial, positions
from imaging.phantoms import ellipsoid
from imaging.volume import Quantity, Volume
from planning.beams import Beam
from planning.dose.aperture import lattice_over, openness
from planning.dose.field import dose, views
from planning.machine import load_machine

from .record import report

_HALF_AXES = (78.0, 98.0, 95.0)  # of a head (mm)
_TARGET = 30.0  # half of the field (mm)


def measure(n_points: int = 180, spacing: float = 3.0) -> dict[str, float | int | str | None]:
    """Seconds for each control point of one full arc, on every voxel of a head.

    Depths are traced once for each angle; forward and backward is what an optimisation repeats: dose of
    leaves and monitor units, and the gradient with respect to both.
    """
    machine = load_machine("generic-6mv")
    ends = np.array(_HALF_AXES) + spacing
    grid = axial(-ends, ends, (spacing, spacing, spacing))
    head = ellipsoid(grid, np.zeros(3), np.array(_HALF_AXES))
    density = Volume(head[None].float(), grid, Quantity.DENSITY)
    points = positions(grid, torch.nonzero(head).numpy().astype(np.float64))
    beams = [Beam(n * 360.0 / n_points, 0.0, 30.0, np.zeros(3)) for n in range(n_points)]
    lattice = lattice_over((-_TARGET, _TARGET), (-_TARGET, _TARGET))
    started = time.monotonic()
    seen = views(beams, density, points, machine)
    traced = time.monotonic() - started
    leaves, mu = _apertures(n_points, machine.mlc.boundaries)
    jaws = torch.tensor([-_TARGET, _TARGET]).expand(n_points, 2)
    # The first time builds the kernels' spectra, which stay.
    seconds = []
    for _ in range(2):
        started = time.monotonic()
        fluence = mu[:, None, None] * machine.fluence_per_mu * openness(leaves, jaws, jaws, lattice, machine)
        total = dose(seen, fluence, lattice)
        torch.autograd.backward(total.square().mean())
        seconds.append((time.monotonic() - started) / n_points)
    return {
        "forward_backward_s_per_control_point": seconds[1],
        "first_forward_backward_s_per_control_point": seconds[0],
        "view_s_per_control_point": traced / n_points,
        "control_points": n_points,
        "voxels": len(points),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def _apertures(n: int, boundaries: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Leaves that open a different part of the target at each control point, and its monitor units."""
    centers = (boundaries[1:] + boundaries[:-1]) / 2
    chord = np.sqrt(np.clip(_TARGET**2 - centers**2, 0, None))
    random = np.random.default_rng(0)
    shares = random.uniform(0.2, 1.0, (2, n, 1))
    leaves = torch.tensor(np.stack([-shares[0] * chord, shares[1] * chord], axis=1), dtype=torch.float32)
    return leaves.requires_grad_(), torch.full((n,), 2.0).requires_grad_()


if __name__ == "__main__":
    report("control_points", measure())
