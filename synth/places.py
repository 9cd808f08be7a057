"""Where tumours begin, and how fast cells would get from there to each place of the cranium."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool3d

from imaging.tissue import Tissue

from .artefacts import texture
from .cranium import Cranium, below_tentorium, centers, midline, walls
from .growth import FASTEST, SPEED, conductances, spread, time_step
from .statistics import Kind, Place

Cells = Float[Tensor, "_ _ _"]

FURTHEST = 70.0  # no tumour or oedema reaches further from its seed along an axis (mm)
_APART = 4.0  # at least between two metastases (mm)
_TRIES = 200


@dataclass(frozen=True, eq=False)
class Seed:
    """Where a tumour begins.

    Parameters
    ----------
    place
        Position (LPS, mm).
    cell
        Coarse cell of the cranium.
    """

    place: tuple[float, float, float]
    cell: tuple[int, int, int]


def seeded(space: Cranium, kind: Kind, place: Place, side: float, jitter: tuple[float, float, float]) -> Seed:
    """The nearest place to a drawn one where a tumour of this kind can begin.

    A glioma begins in white matter, a meningioma at the dura beneath the skull or at the falx.

    Parameters
    ----------
    space
        The cranium.
    kind
        Glioma or meningioma.
    place
        Row of the table.
    side
        1 for the patient's left, -1 for the right.
    jitter
        How many standard deviations off the table's centre, along x, y, z.
    """
    x, y, z = (c + j * s for c, j, s in zip(place.center, jitter, place.spread, strict=True))
    x = float(midline(space, torch.tensor(y), torch.tensor(z))) + x * side
    if kind is not Kind.MENINGIOMA:
        return _nearest(space, (space.white > 0.5) & (space.within > 0.95), (x, y, z), "white matter")
    if place.name == "falx":
        wall = space.dura > 0.1 if float(space.dura.max()) > 0.05 else space.csf > 0.05
        return _nearest(space, (space.within > 0.9) & wall, (x, y, z), "a falx")
    inner = (space.within > 0.5) & (around(space.within) < 0.9)
    return _nearest(space, inner, (x, y, z), "a skull")


def scattered(
    space: Cranium, places: list[Place], radii: list[float], generator: torch.Generator
) -> list[Seed]:
    """Seeds of metastases at borders of grey and white matter, none touching another.

    Parameters
    ----------
    space
        The cranium.
    places
        Region of each metastasis.
    radii
        Radius of each (mm).
    generator
        Draws the places.

    Raises
    ------
    ValueError
        If a region has no such border, or no room is left between others.
    """
    seeds: list[Seed] = []
    for n, (place, radius) in enumerate(zip(places, radii, strict=True)):
        cells = torch.nonzero(_region(space, place.name))
        if len(cells) == 0:
            raise ValueError(f"expected grey and white matter in the {place.name}, got none")
        for _ in range(_TRIES):
            pick = cells[int(torch.randint(len(cells), (1,), generator=generator))].tolist()
            seed = _at(space, (pick[0], pick[1], pick[2]))
            gaps = [math.dist(seed.place, s.place) - r for s, r in zip(seeds, radii[:n], strict=True)]
            if all(gap > radius + _APART for gap in gaps):
                seeds.append(seed)
                break
        else:
            raise ValueError(f"expected room for {len(places)} metastases, got room for {n}; ask for fewer")
    return seeds


def infiltrating(
    space: Cranium, seed: Seed, wanted_cc: float, oedema_cc: float, generator: torch.Generator
) -> tuple[Cells, float]:
    """Cell density of a glioma on the cranium's cells, grown to a volume or until no room is left.

    Parameters
    ----------
    space
        The cranium.
    seed
        Where it begins.
    wanted_cc
        Volume with a density above one half.
    oedema_cc
        Volume that cells shall have seeped into about it.
    generator
        Draws how uneven growth is, and along which axis it is faster.

    Returns
    -------
    tuple
        The density, and the volume that was reached (cc).
    """
    speed = SPEED[Tissue.WHITE] * space.white + SPEED[Tissue.GREY] * (space.grey + space.stem)
    speed = speed + SPEED[Tissue.CSF] * space.csf
    # Ventricles and cisterns are no ground to grow on, dura and bone neither.
    solid = ((space.within - space.csf - 2 * walls(space)) / 0.3).clamp(0, 1)
    stretch = torch.exp(0.25 * torch.randn(3, generator=generator)).clamp(0.6, 1.6)
    uneven = torch.exp(0.7 * texture(space.cells, 16.0, space.step[0], generator))
    ground = (speed * uneven).clamp(max=FASTEST) * solid
    axes = (float(stretch[0]), float(stretch[1]), float(stretch[2]))
    cell = float(np.prod(space.step)) / 1000
    out, reached = torch.zeros(space.cells), 0.0
    out[seed.cell] = 1.0
    # A young tumour is followed in a smaller box.
    for size, beyond in ((0.3 * wanted_cc, 0.0), (wanted_cc, oedema_cc)):
        reach = min(max(1.9 * ball(size) + 16.0, 1.7 * ball(size + 3 * beyond) + 6.0), FURTHEST)
        box = tuple(
            slice(max(c - round(reach / h), 0), min(c + round(reach / h) + 1, n))
            for c, h, n in zip(seed.cell, space.step, space.cells, strict=True)
        )
        faces = conductances(ground[box], space.step, axes)
        out[box], reached = spread(out[box], faces, time_step(space.step, axes), size / cell)
    return out, reached * cell


def ball(cc: float) -> float:
    """Radius (mm) of a ball."""
    return (cc * 1000 * 0.75 / math.pi) ** (1 / 3)


def lump(space: Cranium, seed: Seed, radius: float, generator: torch.Generator) -> Cells:
    """A ball with an uneven surface: 1 at its centre, one half at its radius, falling outwards.

    Parameters
    ----------
    space
        The cranium.
    seed
        Its centre.
    radius
        Where the density is one half (mm).
    generator
        Draws the unevenness.
    """
    x, y, z = (a - p for a, p in zip(centers(space, space.cells), seed.place, strict=True))
    r = (x[:, None, None] ** 2 + y[None, :, None] ** 2 + z**2).sqrt()
    bumps = texture(space.cells, max(0.9 * radius, 6.0), space.step[0], generator)
    return torch.exp(-math.log(2.0) * r / radius * (1 + 0.16 * bumps).clamp(0.6, 1.6))


def around(cells: Cells) -> Cells:
    """Mean of each cell and its 26 neighbours."""
    return avg_pool3d(cells[None, None], 3, stride=1, padding=1, count_include_pad=False)[0, 0]


def _region(space: Cranium, name: str) -> Tensor:
    below = below_tentorium(space, space.cells)
    if name == "brainstem":
        return space.stem > 0.7
    border = (around(space.white) > 0.2) & (around(space.grey) > 0.2) & (around(space.within) > 0.95)
    return border & (below if name == "cerebellum" else ~below)


def _nearest(space: Cranium, allowed: Tensor, place: tuple[float, float, float], what: str) -> Seed:
    cells = torch.nonzero(allowed)
    if len(cells) == 0:
        raise ValueError(f"expected a head with {what} to grow a tumour in, got none")
    at = torch.stack([a[cells[:, n]] for n, a in enumerate(centers(space, space.cells))], dim=1)
    pick = cells[((at - torch.tensor(place)) ** 2).sum(dim=1).argmin()].tolist()
    return _at(space, (pick[0], pick[1], pick[2]))


def _at(space: Cranium, cell: tuple[int, int, int]) -> Seed:
    x, y, z = (float(a[c]) for a, c in zip(centers(space, space.cells), cell, strict=True))
    return Seed((x, y, z), cell)
