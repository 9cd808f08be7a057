"""Signed distances to simple solids (mm, negative inside), the clay that a face is made of."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

Field = Float[Tensor, "..."]
Place = tuple[float, float, float]


def ellipsoid(x: Field, y: Field, z: Field, center: Place, radii: Place) -> Field:
    """Distance to an upright ellipsoid, to first order in the distance."""
    p = [(a - c) / r for a, c, r in zip((x, y, z), center, radii, strict=True)]
    q = [a / r for a, r in zip(p, radii, strict=True)]
    k0 = (p[0] ** 2 + p[1] ** 2 + p[2] ** 2).sqrt()
    k1 = (q[0] ** 2 + q[1] ** 2 + q[2] ** 2).sqrt()
    return k0 * (k0 - 1) / k1.clamp(min=1e-6)


def capsule(x: Field, y: Field, z: Field, start: Place, end: Place, radii: tuple[float, float]) -> Field:
    """Distance to a rod with round ends whose radius runs from one value to another."""
    axis = [b - a for a, b in zip(start, end, strict=True)]
    length2 = max(sum(a * a for a in axis), 1e-6)
    along = ((x - start[0]) * axis[0] + (y - start[1]) * axis[1] + (z - start[2]) * axis[2]) / length2
    along = along.clamp(0, 1)
    d = [a - (s + along * v) for a, s, v in zip((x, y, z), start, axis, strict=True)]
    return (d[0] ** 2 + d[1] ** 2 + d[2] ** 2).sqrt() - (radii[0] + along * (radii[1] - radii[0]))


def box(x: Field, y: Field, z: Field, low: Place, high: Place) -> Field:
    """Distance to an upright box; outside a corner it is the largest of the three overshoots."""
    gaps = [(a - (lo + hi) / 2).abs() - (hi - lo) / 2 for a, lo, hi in zip((x, y, z), low, high, strict=True)]
    return gaps[0].maximum(gaps[1]).maximum(gaps[2])


def chain(x: Field, y: Field, z: Field, places: list[Place], radius: float) -> Field:
    """Distance to a bent rod through several places."""
    rods = [capsule(x, y, z, a, b, (radius, radius)) for a, b in pairwise(places)]
    return torch.stack(rods).amin(dim=0)
