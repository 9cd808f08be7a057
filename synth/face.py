"""Bones, cavities and eyes below the braincase, as solids in the head's own millimetres.

Places are LPS mm from the anterior commissure of the mean head; sides mirror each other, so the
functions take the distance from the midline ``ax``. Proportions follow the two heads that
``head_shape.json`` names and the anatomy of Gray's *Anatomy* (20th ed., 1918, II.5, X.1c).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from .solids import (
    Field,
    Place,
    Solid,
    ball,
    bent,
    box,
    brick,
    capsule,
    carved,
    ellipsoid,
    grown,
    raised,
    rod,
    union,
)

EYE = (32.0, -58.0, -33.0)
EYE_RADIUS = 12.0  # axial length about 24 mm: Bekerman et al., J. Ophthalmol. 2014, 503645
ORBIT_APEX = (14.0, -18.0, -28.0)
ORBIT = (31.5, -55.0, -33.0)

_MANDIBLE = [(0.0, -54.0, -117.0), (20.0, -45.0, -117.0), (38.0, -10.0, -113.0), (45.0, 4.0, -106.0)]
_UPPER_TEETH = [(0.0, -61.0, -88.0), (15.0, -55.0, -88.0), (25.0, -30.0, -85.0)]
_LOWER_TEETH = [(0.0, -56.0, -104.0), (15.0, -50.0, -104.0), (27.0, -24.0, -102.0)]
_CHEEK = [(49.0, -46.0, -26.0), (49.0, -44.0, -40.0), (46.0, -46.0, -51.0), (30.0, -52.0, -58.0)]
_ARCH = [(49.0, -44.0, -48.0), (60.0, -25.0, -47.0), (65.0, -5.0, -44.0), (64.0, 12.0, -41.0)]

SINUSES = ("maxillary", "frontal", "ethmoid", "sphenoid", "mastoid")


@dataclass(frozen=True)
class Face:
    """What one face differs in from another; sizes are relative to the mean.

    Parameters
    ----------
    maxillary, frontal, ethmoid, sphenoid, mastoid
        Linear size of the sinuses and of the pneumatised mastoid.
    cells
        Thickness of the walls between air cells.
    orbit
        Width of the sockets.
    eye
        Radius of the eyeball (mm).
    """

    maxillary: float = 1.0
    frontal: float = 1.0
    ethmoid: float = 1.0
    sphenoid: float = 1.0
    mastoid: float = 1.0
    cells: float = 1.0
    orbit: float = 1.0
    eye: float = EYE_RADIUS


MEAN = Face()


@dataclass(frozen=True)
class Parts:
    """The solids of one face, by what they are made of."""

    bone: tuple[Solid, ...]
    whole: dict[str, Solid]
    sinuses: dict[str, Solid]
    air: tuple[Solid, ...]
    eye: tuple[Solid, ...]
    muscles: tuple[Solid, ...]
    canal: tuple[Solid, ...]
    jaw: tuple[Solid, ...]
    teeth: tuple[Solid, ...]


@cache
def parts(face: Face) -> Parts:
    """The solids of a face."""
    whole, sinuses = _sinuses(face)
    jaw = [
        *bent(_MANDIBLE, 5.0),
        *(raised(s, -7.0) for s in bent(_MANDIBLE, 4.5)),
        rod((45.0, 4.0, -108.0), (49.0, 10.0, -48.0), (5.0, 4.5)),
        rod((44.0, -6.0, -108.0), (47.0, -10.0, -62.0), (4.5, 3.0)),
    ]
    lower = bent(_LOWER_TEETH, 4.2)
    upper = bent(_UPPER_TEETH, 5.5)
    bone = [
        Solid((5.0, -60.0, -62.0), (60.0, 0.0, -4.0), lambda x, y, z: _walls(face, x, y, z)),
        *jaw,
        *upper,
        *(raised(s, 7.0) for s in bent(_UPPER_TEETH, 4.5)),
        *(raised(s, 12.0) for s in bent(_UPPER_TEETH, 3.5)),
        *lower,
        *(raised(s, -6.0) for s in lower),
        *bent(_CHEEK, 4.0),
        *bent(_ARCH, 3.0),
        grown(_maxillary(face), 1.8),
        grown(_labyrinth(face), 1.2),
        grown(_sphenoid(face), 2.0),
        brick((-1.0, -58.0, -77.0), (21.0, -18.0, -74.0)),
        rod((13.0, -8.0, -46.0), (15.0, -6.0, -72.0), (3.0, 2.0)),
        rod((3.0, -72.0, -28.0), (4.5, -77.0, -44.0), (2.0, 1.2)),
        rod((10.0, -66.0, -35.0), (15.0, -58.0, -70.0), (2.0, 3.0)),
        rod((52.0, 34.0, -46.0), (50.0, 34.0, -63.0), (10.0, 6.0)),
        rod((20.0, 14.0, -35.0), (52.0, 28.0, -37.0), (6.0, 9.0)),
        Solid((-3.0, 10.0, -1000.0), (30.0, 85.0, -66.0), _spine),
        ball((18.0, 38.0, -74.0), (8.0, 9.0, 8.0)),
    ]
    crowns = [carved(s, lambda _x, _y, z: z + 84.0) for s in upper]
    crowns += [carved(s, lambda _x, _y, z: -108.0 - z) for s in lower]
    canal = (
        rod((0.0, 42.0, -56.0), (0.0, 47.0, -85.0), (13.0, 9.5)),
        rod((0.0, 47.0, -85.0), (0.0, 45.0, -170.0), (9.5, 8.5)),
    )
    globe = ball(EYE, (face.eye, face.eye, face.eye))
    air = (*sinuses.values(), *_airways())
    return Parts(tuple(bone), whole, sinuses, air, (globe,), _eye_muscles(), canal, tuple(jaw), tuple(crowns))


def bone(face: Face, ax: Field, y: Field, z: Field) -> Field:
    """Distance to the bones of face, ear and neck, before cavities are cut out of them."""
    return union(ax, y, z, parts(face).bone)


def air(face: Face, ax: Field, y: Field, z: Field) -> Field:
    """Distance to the air of nose, sinuses, ear canals, mouth and throat."""
    return union(ax, y, z, parts(face).air)


def orbit(face: Face, ax: Field, y: Field, z: Field) -> Field:
    """Distance to the eye socket's lining."""
    return capsule(ax, y, z, ORBIT, (13.0, -17.0, -28.0), (17.5 * face.orbit, 4.0)).maximum(-66.0 - y)


def eye(face: Face, ax: Field, y: Field, z: Field) -> Field:
    """Distance to the eyeball."""
    return ellipsoid(ax, y, z, EYE, (face.eye, face.eye, face.eye))


def ear(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the outer ear."""
    shell = ellipsoid(ax, y, z, (79.0, 34.0, -36.0), (7.0, 15.0, 27.0))
    return shell.maximum(-ellipsoid(ax, y, z, (83.0, 26.0, -36.0), (6.0, 10.0, 18.0)))


def nose(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the outer nose, which the smooth skin only hints at."""
    return capsule(ax, y, z, (0.0, -76.0, -36.0), (0.0, -88.0, -66.0), (5.0, 10.0))


EAR = Solid((72.0, 19.0, -63.0), (86.0, 49.0, -9.0), ear)
NOSE = Solid((-10.0, -98.0, -76.0), (10.0, -71.0, -31.0), nose)


def _walls(face: Face, ax: Field, y: Field, z: Field) -> Field:
    rim = torch.where(y < -48, 4.5, 1.6)
    return (orbit(face, ax, y, z) - rim).maximum(-60.0 - y)


def _eye_muscles() -> tuple[Solid, ...]:
    """The optic nerve's sheath and the four straight muscles of the eye."""
    sheath = rod((31.0, -47.0, -33.0), ORBIT_APEX, (2.0, 1.6))
    sides = ((9.5, 0.0), (-9.5, 0.0), (0.0, 9.5), (0.0, -9.5))
    straight = (rod((31.5 + dx, -50.0, -33.0 + dz), ORBIT_APEX, (1.8, 1.2)) for dx, dz in sides)
    return (sheath, *straight)


def _maxillary(face: Face) -> Solid:
    return ball((26.0, -36.0, -60.0), _scaled((11.0, 14.0, 13.0), face.maxillary))


def _sphenoid(face: Face) -> Solid:
    # Its roof, the floor of the sella, stays where it is.
    s = face.sphenoid
    return ball((0.0, -8.0, -29.0 - 8.0 * s), _scaled((11.0, 10.0, 8.0), s))


def _labyrinth(face: Face) -> Solid:
    half = 9.0 * face.ethmoid
    return brick((1.0, -58.0, -35.0 - half), (11.0, -17.0, -35.0 + half))


def _sinuses(face: Face) -> tuple[dict[str, Solid], dict[str, Solid]]:
    """The sinuses before and after walls are left in them."""
    mastoid = ball((53.0, 36.0, -48.0), _scaled((8.0, 9.0, 11.0), face.mastoid))
    frontal = ball((10.0, -69.5, -15.0), _scaled((10.0, 3.5, 8.0), face.frontal))
    whole = dict(
        zip(SINUSES, (_maxillary(face), frontal, _labyrinth(face), _sphenoid(face), mastoid), strict=True)
    )
    return whole, {
        "maxillary": _maxillary(face),
        "frontal": carved(frontal, _off_the_midline),
        "ethmoid": carved(_labyrinth(face), _septa(8.0, face.cells)),
        "sphenoid": carved(_sphenoid(face), _off_the_midline),
        "mastoid": carved(mastoid, _septa(5.0, 0.9 * face.cells)),
    }


def _airways() -> tuple[Solid, ...]:
    shells = [
        (rod((8.5, -56.0, -66.0), (8.5, -24.0, -66.0), (3.6, 3.6))),
        (rod((7.0, -56.0, -56.5), (7.0, -24.0, -56.5), (2.8, 2.8))),
    ]

    def nasal(ax: Field, y: Field, z: Field) -> Field:
        low = box(ax, y, z, (1.2, -66.0, -72.0), (10.0, -20.0, -56.0))
        cavity = low.minimum(box(ax, y, z, (1.2, -68.0, -58.0), (4.0, -22.0, -44.0)))
        return cavity.maximum(-union(ax, y, z, shells))

    return (
        Solid((1.2, -68.0, -72.0), (10.0, -20.0, -44.0), nasal),
        rod((44.0, 22.0, -39.0), (80.0, 24.0, -43.0), (3.0, 3.5)),
        ball((0.0, -10.0, -66.0), (9.0, 11.0, 9.0)),
        rod((0.0, 2.0, -70.0), (0.0, 14.0, -96.0), (5.0, 5.0)),
        ball((0.0, 14.0, -115.0), (9.0, 5.5, 34.0)),
        ball((0.0, -30.0, -81.0), (15.0, 22.0, 1.8)),
    )


def _off_the_midline(ax: Field, _y: Field, _z: Field) -> Field:
    return 0.6 - ax


def _septa(cell: float, wall: float) -> Callable[[Field, Field, Field], Field]:
    """Distance to walls that cut a labyrinth into cells; positive within a wall."""

    def distance(ax: Field, y: Field, z: Field) -> Field:
        pairs = ((ax, y), (y, z), (z, ax))
        gaps = [(torch.remainder(a + 0.35 * b, cell) - cell / 2).abs() for a, b in pairs]
        return gaps[0].maximum(gaps[1]).maximum(gaps[2]) - (cell - wall) / 2

    return distance


def _scaled(radii: Place, by: float) -> Place:
    return radii[0] * by, radii[1] * by, radii[2] * by


def _spine(ax: Field, y: Field, z: Field) -> Field:
    # Vertebrae every 17 mm below the second; the atlas has no body.
    level = torch.remainder(z + 98.0, 17.0) - 8.5
    body = ((ax / 1.15) ** 2 + (y - 28.0) ** 2).sqrt().sub(9.5).maximum(level.abs() - 7.0)
    body = body.maximum(z + 90.0)
    tube = (ax**2 + (y - 46.0) ** 2).sqrt()
    arch = (tube - 14.5).maximum(10.5 - tube).maximum(level.abs() - 5.0)
    facet = ((ax - 17.0) ** 2 + (y - 38.0) ** 2).sqrt().sub(6.0).maximum(level.abs() - 6.5)
    spinous = box(ax, y, level, (-2.0, 58.0, -3.5), (2.5, 80.0, 2.0))
    rings = arch.minimum(facet).minimum(spinous).maximum(z + 90.0)
    dens = capsule(ax, y, z, (0.0, 33.0, -72.0), (0.0, 31.0, -92.0), (5.0, 8.0))
    atlas = (tube - 17.0).maximum(13.0 - tube).maximum((z + 74.0).abs() - 4.0)
    return body.minimum(rings).minimum(dens).minimum(atlas)
