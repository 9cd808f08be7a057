"""Particles in flight through water: where they are, how they turn, what they meet."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Energy = Float[Tensor, " n"]
Vectors = Float[Tensor, "n 3"]
Score = Callable[[Vectors, Energy], None]


@dataclass(frozen=True, eq=False)
class Particles:
    """Particles in flight: where, whither, energy (MeV), and how many each stands for."""

    at: Vectors
    way: Vectors
    energy: Energy
    weight: Energy

    def __getitem__(self, which: Tensor) -> "Particles":
        return Particles(self.at[which], self.way[which], self.energy[which], self.weight[which])


def turn(way: Vectors, cosine: Energy, azimuth: Energy) -> Vectors:
    """Directions turned by polar angles (as cosines) and azimuths about themselves."""
    sine = (1 - cosine**2).clamp(min=0).sqrt()
    # Any two directions at right angles: from the axis that the way follows least.
    other = torch.nn.functional.one_hot(way.abs().argmin(dim=1), 3).to(way.dtype)
    u = torch.nn.functional.normalize(torch.linalg.cross(way, other), dim=1)
    v = torch.linalg.cross(way, u)
    across = azimuth.cos()[:, None] * u + azimuth.sin()[:, None] * v
    return torch.nn.functional.normalize(cosine[:, None] * way + sine[:, None] * across, dim=1)


def join(*parts: Particles) -> Particles:
    """All of them in one."""
    return Particles(
        torch.cat([p.at for p in parts]),
        torch.cat([p.way for p in parts]),
        torch.cat([p.energy for p in parts]),
        torch.cat([p.weight for p in parts]),
    )


def uniform(like: Energy, generator: torch.Generator) -> Energy:
    """Random numbers, even from 0 to 1."""
    return torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)


# Even in the logarithm, which is faster than searching tables.
_N_KNOTS = 4096
_TABLES: dict[tuple[Callable[..., np.ndarray], str], Tensor] = {}


def lookup(
    function: Callable[[np.ndarray], np.ndarray],
    x: Energy,
    span: tuple[float, float] = (0.0101, 19.9),
) -> Energy:
    """A function of :mod:`water`, linear between 4096 knots over a span (MeV); constant beyond."""
    low, high = np.log(span)
    key = (function, str(x.device))
    if key not in _TABLES:
        values = function(np.exp(np.linspace(low, high, _N_KNOTS)))
        _TABLES[key] = torch.from_numpy(values).float().to(x.device)
    at = (x.clamp(min=1e-9).log() - low) * ((_N_KNOTS - 1) / (high - low))
    at = at.clamp(0, _N_KNOTS - 1.001)
    knot = at.long()
    return torch.lerp(_TABLES[key][knot], _TABLES[key][knot + 1], at - knot)
