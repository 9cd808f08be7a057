"""Reaction and diffusion of tumour cells on a lattice.

Cells spread and divide after Swanson, Alvord & Murray, Cell Prolif. 33, 317 (2000):
∂u/∂t = ∇·(D∇u) + ρ u (1 − u), with D several times greater in white matter than in grey. Time
is counted in 1/ρ, so D stands for D/ρ (mm²) and the front moves at Fisher's speed 2 √D.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from imaging.tissue import Tissue

Density = Float[Tensor, "i j k"]
Triple = tuple[float, float, float]

SPEED = {Tissue.WHITE: 7.0, Tissue.GREY: 1.6, Tissue.CSF: 0.2}  # D/ρ (mm²)
FASTEST = 20.0  # D/ρ at the most (mm²), which bounds the time step
_DURATION = 40.0  # a tumour that has not filled its room by then never will (1/ρ)


def conductances(
    diffusion: Density,
    step: Triple,
    stretch: Triple = (1.0, 1.0, 1.0),
) -> list[Tensor]:
    """Exchange between neighbouring cells along each axis (per 1/ρ).

    The harmonic mean of neighbours, so that nothing leaks through a barrier.

    Parameters
    ----------
    diffusion
        D/ρ of each cell (mm²).
    step
        Cell size along i, j, k (mm).
    stretch
        Factor on D along i, j, k, for spread that is faster along one axis.
    """
    out = []
    for axis in range(3):
        n = diffusion.shape[axis] - 1
        a, b = diffusion.narrow(axis, 0, n), diffusion.narrow(axis, 1, n)
        out.append(2 * a * b / (a + b).clamp(min=1e-6) / step[axis] ** 2 * stretch[axis])
    return out


def divergence(u: Density, faces: list[Tensor]) -> Density:
    """What diffusion adds to each cell; nothing crosses the lattice's edge."""
    out = torch.zeros_like(u)
    for axis, face in enumerate(faces):
        n = u.shape[axis] - 1
        flux = face * (u.narrow(axis, 1, n) - u.narrow(axis, 0, n))
        out.narrow(axis, 0, n).add_(flux)
        out.narrow(axis, 1, n).sub_(flux)
    return out


def time_step(step: Triple, stretch: Triple = (1.0, 1.0, 1.0)) -> float:
    """The longest stable step (1/ρ) for any D up to `FASTEST`."""
    exchange = sum(s / h**2 for s, h in zip(stretch, step, strict=True))
    return min(0.45 / (exchange * FASTEST), 0.1)


def spread(u: Density, faces: list[Tensor], dt: float, wanted: float) -> tuple[Density, float]:
    """Cell density once ``wanted`` cells are more than half full, or when no room is left.

    Parameters
    ----------
    u
        Density to start from, 0 to 1.
    faces
        Exchange between neighbours, as `conductances` gives it.
    dt
        Time step (1/ρ).
    wanted
        How many cells shall have a density above one half.

    Returns
    -------
    tuple
        The density, and the number of cells above one half; fewer than ``wanted`` if the tumour
        has stopped for want of room.
    """
    for _ in range(round(_DURATION / dt)):
        if float((u > 0.5).sum()) >= wanted:
            break
        u = u + dt * (divergence(u, faces) + u * (1 - u))
    return u, float((u > 0.5).sum())
