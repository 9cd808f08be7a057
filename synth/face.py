"""Bones, cavities and eyes below the braincase, as solids in the head's own millimetres.

Places are LPS mm from the anterior commissure of the mean head; sides mirror each other, so the
functions take the distance from the midline ``ax``. Proportions follow the two heads that
``head_shape.json`` names and the anatomy of Gray's *Anatomy* (20th ed., 1918, II.5, X.1c).
"""

import torch

from .solids import Field, box, capsule, chain, ellipsoid

EYE = (32.0, -58.0, -33.0)
EYE_RADIUS = 12.0  # axial length about 24 mm: Bekerman et al., J. Ophthalmol. 2014, 503645

_MANDIBLE = [(0.0, -54.0, -117.0), (20.0, -45.0, -117.0), (38.0, -10.0, -113.0), (45.0, 4.0, -106.0)]
_UPPER_TEETH = [(0.0, -61.0, -88.0), (15.0, -55.0, -88.0), (25.0, -30.0, -85.0)]
_LOWER_TEETH = [(0.0, -56.0, -104.0), (15.0, -50.0, -104.0), (27.0, -24.0, -102.0)]
_CHEEK = [(49.0, -46.0, -26.0), (49.0, -44.0, -40.0), (46.0, -46.0, -51.0), (30.0, -52.0, -58.0)]
_ARCH = [(49.0, -44.0, -48.0), (60.0, -25.0, -47.0), (65.0, -5.0, -44.0), (64.0, 12.0, -41.0)]


def orbit(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the eye socket's lining."""
    cone = capsule(ax, y, z, (31.5, -55.0, -33.0), (13.0, -17.0, -28.0), (17.5, 4.0))
    return cone.maximum(-66.0 - y)


def eye(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the eyeball."""
    return ellipsoid(ax, y, z, EYE, (EYE_RADIUS, EYE_RADIUS, EYE_RADIUS))


def eye_muscles(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the optic nerve and the four straight muscles of the eye."""
    apex = (14.0, -18.0, -28.0)
    nerve = capsule(ax, y, z, (31.0, -47.0, -33.0), apex, (2.0, 1.6))
    for dx, dz in ((9.5, 0.0), (-9.5, 0.0), (0.0, 9.5), (0.0, -9.5)):
        nerve = nerve.minimum(capsule(ax, y, z, (31.5 + dx, -50.0, -33.0 + dz), apex, (1.8, 1.2)))
    return nerve


def bone(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the bones of face, ear and neck, before cavities are cut out of them."""
    socket = orbit(ax, y, z)
    rim = torch.where(y < -48, 4.5, 1.6)
    walls = (socket - rim).maximum(-60.0 - y)
    parts = [
        walls,
        chain(ax, y, z, _MANDIBLE, 5.0),
        chain(ax, y, z + 7, _MANDIBLE, 4.5),
        capsule(ax, y, z, (45.0, 4.0, -108.0), (49.0, 10.0, -48.0), (5.0, 4.5)),
        capsule(ax, y, z, (44.0, -6.0, -108.0), (47.0, -10.0, -62.0), (4.5, 3.0)),
        chain(ax, y, z, _UPPER_TEETH, 5.5),
        chain(ax, y, z - 7, _UPPER_TEETH, 4.5),
        chain(ax, y, z - 12, _UPPER_TEETH, 3.5),
        chain(ax, y, z, _LOWER_TEETH, 4.2),
        chain(ax, y, z + 6, _LOWER_TEETH, 4.2),
        chain(ax, y, z, _CHEEK, 4.0),
        chain(ax, y, z, _ARCH, 3.0),
        maxillary_sinus(ax, y, z) - 1.8,
        ethmoid(ax, y, z) - 1.2,
        sphenoid_sinus(ax, y, z) - 2.0,
        box(ax, y, z, (-1.0, -58.0, -77.0), (21.0, -18.0, -74.0)),
        capsule(ax, y, z, (13.0, -8.0, -46.0), (15.0, -6.0, -72.0), (3.0, 2.0)),
        capsule(ax, y, z, (3.0, -72.0, -28.0), (4.5, -77.0, -44.0), (2.0, 1.2)),
        capsule(ax, y, z, (10.0, -66.0, -35.0), (15.0, -58.0, -70.0), (2.0, 3.0)),
        capsule(ax, y, z, (52.0, 34.0, -46.0), (50.0, 34.0, -63.0), (10.0, 6.0)),
        capsule(ax, y, z, (20.0, 14.0, -35.0), (52.0, 28.0, -37.0), (6.0, 9.0)),
        _spine(ax, y, z),
    ]
    return torch.stack(parts).amin(dim=0)


def air(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the air of nose, sinuses, ear canals, mouth and throat."""
    nose = box(ax, y, z, (1.2, -66.0, -72.0), (10.0, -20.0, -56.0))
    nose = nose.minimum(box(ax, y, z, (1.2, -68.0, -58.0), (4.0, -22.0, -44.0)))
    for place, radius in (((8.5, -66.0), 3.6), ((7.0, -56.5), 2.8)):
        shell = capsule(ax, y, z, (place[0], -56.0, place[1]), (place[0], -24.0, place[1]), (radius, radius))
        nose = nose.maximum(-shell)
    cells = ethmoid(ax, y, z).maximum(_septa(ax, y, z, 8.0, 1.0))
    mastoid = ellipsoid(ax, y, z, (53.0, 36.0, -48.0), (8.0, 9.0, 11.0)).maximum(_septa(ax, y, z, 5.0, 0.9))
    parts = [
        nose,
        cells,
        mastoid,
        maxillary_sinus(ax, y, z),
        sphenoid_sinus(ax, y, z).maximum(0.6 - ax),
        ellipsoid(ax, y, z, (10.0, -69.5, -15.0), (10.0, 3.5, 8.0)).maximum(0.6 - ax),
        capsule(ax, y, z, (44.0, 22.0, -39.0), (80.0, 24.0, -43.0), (3.0, 3.5)),
        ellipsoid(ax, y, z, (0.0, -10.0, -66.0), (9.0, 11.0, 9.0)),
        capsule(ax, y, z, (0.0, 2.0, -70.0), (0.0, 14.0, -96.0), (5.0, 5.0)),
        ellipsoid(ax, y, z, (0.0, 14.0, -115.0), (9.0, 5.5, 34.0)),
        ellipsoid(ax, y, z, (0.0, -30.0, -81.0), (15.0, 22.0, 1.8)),
    ]
    return torch.stack(parts).amin(dim=0)


def maxillary_sinus(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the air of the cheek bone."""
    return ellipsoid(ax, y, z, (26.0, -36.0, -60.0), (11.0, 14.0, 13.0))


def sphenoid_sinus(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the air below the sella."""
    return ellipsoid(ax, y, z, (0.0, -8.0, -37.0), (11.0, 10.0, 8.0))


def ethmoid(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the labyrinth between the orbits."""
    return box(ax, y, z, (1.0, -58.0, -44.0), (11.0, -17.0, -26.0))


def canal(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the spinal canal, from the foramen magnum down."""
    upper = capsule(ax, y, z, (0.0, 42.0, -56.0), (0.0, 47.0, -85.0), (13.0, 9.5))
    return upper.minimum(capsule(ax, y, z, (0.0, 47.0, -85.0), (0.0, 45.0, -170.0), (9.5, 8.5)))


def ear(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the outer ear."""
    shell = ellipsoid(ax, y, z, (79.0, 34.0, -36.0), (7.0, 15.0, 27.0))
    return shell.maximum(-ellipsoid(ax, y, z, (83.0, 26.0, -36.0), (6.0, 10.0, 18.0)))


def nose(ax: Field, y: Field, z: Field) -> Field:
    """Distance to the outer nose, which the smooth skin only hints at."""
    return capsule(ax, y, z, (0.0, -76.0, -36.0), (0.0, -88.0, -66.0), (5.0, 10.0))


def _septa(ax: Field, y: Field, z: Field, cell: float, wall: float) -> Field:
    # Distance to walls that cut a labyrinth into cells; positive within a wall.
    gaps = [(torch.remainder(a + 0.35 * b, cell) - cell / 2).abs() for a, b in ((ax, y), (y, z), (z, ax))]
    return gaps[0].maximum(gaps[1]).maximum(gaps[2]) - (cell - wall) / 2


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
    mass = ellipsoid(ax, y, z, (18.0, 38.0, -74.0), (8.0, 9.0, 8.0))
    return torch.stack([body, rings, dens, atlas, mass]).amin(dim=0)
