"""Signed distances to simple solids (mm, negative inside), the clay that a head is made of.

A solid knows the box it lies in, so that places far from it cost nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

Field = Float[Tensor, "..."]
Place = tuple[float, float, float]
_FAR = 1e3


@dataclass(frozen=True, eq=False)
class Solid:
    """A solid and where it lies.

    Parameters
    ----------
    low, high
        Corners of the box that holds it (mm).
    distance
        Signed distance (mm) at ``x, y, z``.
    """

    low: Place
    high: Place
    distance: Callable[[Field, Field, Field], Field]


def union(x: Field, y: Field, z: Field, solids: Iterable[Solid], reach: float = 0.5) -> Field:
    """Distance to the nearest of several solids, true up to ``reach`` mm outside them.

    A solid whose box, grown by ``reach``, holds none of the places is left out.
    """
    out = torch.full_like(x, _FAR)
    if x.numel() == 0:
        return out
    low = [float(a.min()) - reach for a in (x, y, z)]
    high = [float(a.max()) + reach for a in (x, y, z)]
    for solid in solids:
        if all(solid.low[a] <= high[a] and low[a] <= solid.high[a] for a in range(3)):
            torch.minimum(out, solid.distance(x, y, z), out=out)
    return out


def ball(center: Place, radii: Place) -> Solid:
    """An upright ellipsoid."""
    low, high = (_moved(center, radii, sign) for sign in (-1, 1))
    return Solid(low, high, lambda x, y, z: ellipsoid(x, y, z, center, radii))


def rod(start: Place, end: Place, radii: tuple[float, float]) -> Solid:
    """A rod with round ends whose radius runs from one value to another."""
    low, high = _span((start, radii[0]), (end, radii[1]))
    return Solid(low, high, lambda x, y, z: capsule(x, y, z, start, end, radii))


def bent(places: Sequence[Place], radius: float) -> list[Solid]:
    """Rods through several places."""
    return [rod(a, b, (radius, radius)) for a, b in pairwise(places)]


def brick(low: Place, high: Place) -> Solid:
    """An upright box."""
    return Solid(low, high, lambda x, y, z: box(x, y, z, low, high))


def grown(solid: Solid, by: float) -> Solid:
    """The solid with ``by`` mm more on every side."""
    wide = (by, by, by)
    low, high = _moved(solid.low, wide, -1), _moved(solid.high, wide, 1)
    return Solid(low, high, lambda x, y, z: solid.distance(x, y, z) - by)


def raised(solid: Solid, by: float) -> Solid:
    """The solid moved up by ``by`` mm."""
    up = (0.0, 0.0, by)
    low, high = _moved(solid.low, up, 1), _moved(solid.high, up, 1)
    return Solid(low, high, lambda x, y, z: solid.distance(x, y, z - by))


def carved(solid: Solid, distance: Callable[[Field, Field, Field], Field]) -> Solid:
    """What of the solid lies where another distance is negative too."""
    return Solid(solid.low, solid.high, lambda x, y, z: solid.distance(x, y, z).maximum(distance(x, y, z)))


def ellipsoid(x: Field, y: Field, z: Field, center: Place, radii: Place) -> Field:
    """Distance to an upright ellipsoid, to first order in the distance."""
    k0, k1 = torch.zeros_like(x), torch.zeros_like(x)
    for a, c, r in zip((x, y, z), center, radii, strict=True):
        p = (a - c).div_(r)
        k0.addcmul_(p, p)
        p.div_(r)
        k1.addcmul_(p, p)
    k0.sqrt_()
    return (k0 - 1).mul_(k0).div_(k1.sqrt_().clamp_(min=1e-6))


def capsule(x: Field, y: Field, z: Field, start: Place, end: Place, radii: tuple[float, float]) -> Field:
    """Distance to a rod with round ends whose radius runs from one value to another."""
    axis = [b - a for a, b in zip(start, end, strict=True)]
    length2 = max(sum(a * a for a in axis), 1e-6)
    off = -sum(a * s for a, s in zip(axis, start, strict=True)) / length2
    along = torch.full_like(x, off)
    for a, v in zip((x, y, z), axis, strict=True):
        if v:
            along.add_(a, alpha=v / length2)
    along.clamp_(0, 1)
    total = torch.zeros_like(x)
    for a, s, v in zip((x, y, z), start, axis, strict=True):
        d = a - s
        if v:
            d.sub_(along, alpha=v)
        total.addcmul_(d, d)
    total.sqrt_().sub_(radii[0])
    return total.sub_(along, alpha=radii[1] - radii[0]) if radii[1] != radii[0] else total


def box(x: Field, y: Field, z: Field, low: Place, high: Place) -> Field:
    """Distance to an upright box; outside a corner it is the largest of the three overshoots."""
    gaps = [(a - (lo + hi) / 2).abs() - (hi - lo) / 2 for a, lo, hi in zip((x, y, z), low, high, strict=True)]
    return gaps[0].maximum(gaps[1]).maximum(gaps[2])


def _moved(place: Place, by: Place, sign: int) -> Place:
    x, y, z = (p + sign * b for p, b in zip(place, by, strict=True))
    return x, y, z


def _span(*ends: tuple[Place, float]) -> tuple[Place, Place]:
    low = [min(place[a] - r for place, r in ends) for a in range(3)]
    high = [max(place[a] + r for place, r in ends) for a in range(3)]
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])
