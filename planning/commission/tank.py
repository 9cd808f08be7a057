"""What the dose engine computes for open fields in a water tank."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from imaging.grid import axial
from imaging.volume import Quantity, Volume
from planning.beams import Beam
from planning.dose.aperture import Lattice, lattice_over
from planning.dose.field import dose, views
from planning.machine import Machine

from .points import REFERENCE_DEPTH, REFERENCE_SIDE, REFERENCE_SSD
from .scans import Opening

# Sizes of the tank (mm): half its width, its depth, its voxels, and the air above it.
_REACH, DEEPEST, _VOXEL, _AIR = 250.0, 350.0, 5.0, 10.0


def in_water(
    points: Sequence[Float64[np.ndarray, "_ 3"]], opening: Opening, ssd: float, machine: Machine
) -> Float64[np.ndarray, " n"]:
    """Dose of an open field at points of a water tank (x, depth, y; mm), gantry 0, for a weight of 1."""
    air = round(_AIR / _VOXEL)
    tank = axial(np.array([-_REACH, -_AIR, -_REACH]), np.array([_REACH, DEEPEST, _REACH]), (_VOXEL,) * 3)
    data = torch.ones((1, *tank.shape))
    data[:, :, :air] = 0
    beam = Beam(0.0, 0.0, 0.0, np.array([0.0, machine.sad - ssd, 0.0]))
    lattice = lattice_over((-opening.x / 2, opening.x / 2), (-opening.y / 2, opening.y / 2))
    seen = views([beam], Volume(data, tank, Quantity.DENSITY), np.concatenate(points), machine)
    return dose(seen, _open(opening, lattice), lattice).numpy().astype(np.float64)


def _open(opening: Opening, lattice: Lattice) -> Float[Tensor, "1 nx ny"]:
    """Share of each pixel that the field covers."""
    covered = []
    for start, count, size in zip(lattice.origin, lattice.shape, (opening.x, opening.y), strict=True):
        low = start + lattice.pixel * (np.arange(count) - 0.5)
        inside = np.minimum(low + lattice.pixel, size / 2) - np.maximum(low, -size / 2)
        covered.append(np.clip(inside, 0, None) / lattice.pixel)
    return torch.from_numpy(np.outer(*covered)[None]).float()


def output_factor(side: float, machine: Machine) -> float:
    """Dose of a square field (mm) over that of the reference field, both at the reference depth."""
    axis = [np.array([[0.0, REFERENCE_DEPTH, 0.0]])]
    fields = (Opening(side, side), Opening(REFERENCE_SIDE, REFERENCE_SIDE))
    own, reference = (float(in_water(axis, field, REFERENCE_SSD, machine)[0]) for field in fields)
    return own / reference
