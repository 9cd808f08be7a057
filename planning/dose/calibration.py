"""What one monitor unit stands for: the dose at reference conditions."""

import numpy as np
import torch

from imaging.grid import axial
from imaging.volume import Quantity, Volume
from planning.beams import Beam
from planning.machine import Machine

from .bixel_dose import FULL_CUTOFF, blocks
from .bixels import Bixels

# 1 MU gives this dose (Gy) at the isocentre in these conditions.
GY_PER_MU = 0.01
DEPTH = 100.0
FIELD = 100.0


def reference_dose(machine: Machine, field: float = FIELD, depth: float = DEPTH) -> float:
    """Dose (Gy) at the isocentre in water for an open square field of weight 1.

    Parameters
    ----------
    machine
        The machine.
    field
        Side of the field (mm at the isocentre), a multiple of 10.
    depth
        Depth of the isocentre (mm); the source to surface distance is SAD less this.
    """
    edge = np.arange(-field / 2 + 2.5, field / 2, 5.0)
    positions = np.stack([a.ravel() for a in np.meshgrid(edge, edge, indexing="ij")], axis=1)
    # Gantry 0 looks along +y: the water's surface lies at y = -depth.
    water = axial(np.array([-150.0, -depth, -150.0]), np.array([150.0, 150.0, 150.0]), (5.0, 5.0, 5.0))
    density = Volume(torch.ones((1, *water.shape)), water, Quantity.DENSITY)
    beam, isocenter = Beam(0.0, 0.0, 0.0, np.zeros(3)), np.zeros((1, 3))
    found = blocks(beam, Bixels(positions), density, isocenter, machine, cutoff=FULL_CUTOFF)
    return sum(float(block.dose.sum()) for block in found)


def fluence_per_mu(machine: Machine) -> float:
    """Pencil-beam weight of one monitor unit, by the calibration that its description states."""
    return GY_PER_MU / reference_dose(machine)
