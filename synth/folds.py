"""Folding of the cortex: sulci as the zero lines of smooth noise on a sphere."""

import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import interpolate

from .surfaces import Table, angles

_WAVES = 60


def sulci(generator: torch.Generator, degrees: float) -> Table:
    """Angle (radians) from each direction to the nearest sulcus, shape ``(N_THETA, N_PHI)``.

    Zero lines of a random wave of one wavelength wind over the sphere at an almost even
    distance and branch seldom, as sulci do.

    Parameters
    ----------
    generator
        Draws the wave.
    degrees
        Mean distance between neighbouring sulci.
    """
    theta, phi = angles()
    u = torch.stack([theta.sin() * phi.sin(), -theta.sin() * phi.cos(), theta.cos()], dim=-1)
    frequency = math.pi / math.radians(degrees)
    k = torch.nn.functional.normalize(torch.randn(_WAVES, 3, generator=generator).double(), dim=-1)
    shift = torch.rand(_WAVES, generator=generator).double() * 2 * math.pi
    wave = torch.cos(frequency * (u @ k.T) + shift).sum(dim=-1)
    crossing = torch.zeros_like(wave, dtype=torch.bool)
    crossing |= wave.sign() != wave.roll(1, dims=1).sign()
    crossing[1:] |= wave[1:].sign() != wave[:-1].sign()
    distance, _ = cKDTree(u[crossing].numpy()).query(u.reshape(-1, 3).numpy())
    return torch.from_numpy((2 * np.arcsin(np.minimum(distance / 2, 1))).reshape(theta.shape)).float()


def smooth_noise(generator: torch.Generator, channels: int, nodes: int) -> Tensor:
    """Smooth noise of unit variance on a cube, shape ``(1, channels, 3 nodes, 3 nodes, 3 nodes)``."""
    lattice = torch.randn(1, channels, nodes, nodes, nodes, generator=generator)
    fine = interpolate(lattice, scale_factor=3, mode="trilinear", align_corners=False)
    kernel = torch.tensor([0.25, 0.5, 0.25])
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 3
        weight = kernel.reshape(shape).expand(channels, 1, *shape[2:])
        padding = [0, 0, 0, 0, 0, 0]
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = 1
        fine = torch.nn.functional.conv3d(
            torch.nn.functional.pad(fine, padding, mode="replicate"), weight, groups=channels
        )
    return fine / float(fine.numpy().std())
