"""What a dose predictor sees of a patient: density, prescriptions, organs, distances, beams, style.

Planes are named, so that a network may be given some of them: what it sees is a list of names in its card.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from imaging.boxes import box_of, box_there, part_of
from imaging.grid import Grid
from imaging.resample import averaged
from imaging.shapes import Mask
from imaging.volume import Quantity, Volume
from planning.beams import Beam
from planning.density import relative_electron_density

from .aimed import aimed, coplanar, middle_of
from .distances import signed_distance
from .lattice import Sizes, brought, lattice_of
from .patient import Patient, prescribed
from .site import Site, matched

_REACH = 60.0  # mm that distances tell; beyond it far is far
_HALF = 0.5
_HU = (-1000.0, 2000.0)  # metal and what is no CT number end here

Planes = Float[Tensor, "c i j k"]


@dataclass(frozen=True)
class Sees:
    """Groups of planes that are on; density, the possible-dose mask and targets always are.

    Parameters
    ----------
    organs
        Organs at risk.
    distances
        Signed distances to each target.
    surface
        The distance to the body surface.
    beams
        What beams aimed at the targets would leave.
    styles
        The style of planning.
    """

    organs: bool = True
    distances: bool = True
    surface: bool = True
    beams: bool = True
    styles: bool = True

    def as_json(self) -> dict[str, Any]:
        """What rebuilds it."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Seen:
    """A patient as planes on a network's lattice.

    Parameters
    ----------
    planes
        Every plane of the site (:func:`names_of` with all groups on), shape ``(c, i, j, k)``.
    bits
        Structures of the site that a voxel is of, as bits in the site's order, shape ``(i, j, k)``.
    known
        Where dose may be.
    grid
        Where they lie.
    scale
        The patient's highest prescription (Gy): networks tell dose as shares of it.
    dose
        Gy, shape ``(1, i, j, k)``; None where there is none.
    """

    planes: Planes
    bits: Int64[Tensor, "i j k"]
    known: Mask
    grid: Grid
    scale: float
    dose: Float[Tensor, "1 i j k"] | None = None


def names_of(site: Site, sees: Sees) -> tuple[str, ...]:
    """Names of the planes that a network sees, in order."""
    targets = [d.name for d in site.targets]
    out = ["density", "possible", *targets, *(d.name for d in site.also)]
    out += [f"organ {plane}" for plane in site.organ_planes] if sees.organs else []
    out += [f"distance {name}" for name in targets] if sees.distances else []
    out += ["distance surface"] if sees.surface else []
    out += ["beams all", "fields all", "fields highest"] if sees.beams else []
    out += [f"style {style}" for style in site.styles] if sees.styles else []
    return tuple(out)


def chosen(site: Site, sees: Sees) -> list[int]:
    """Which of all planes of a site a network sees."""
    every = names_of(site, Sees())
    return [every.index(name) for name in names_of(site, sees)]


def seen(
    patient: Patient,
    site: Site,
    sizes: Sizes | None = None,
    style: str = "",
    beams: Sequence[Beam] | None = None,
) -> Seen:
    """All planes of a patient.

    Parameters
    ----------
    patient
        Any voxel size.
    site
        Which structures are shown.
    sizes
        Voxels that the network knows.
    style
        One of the site's; none where it has none or it is not known.
    beams
        Those of the plan; with none the site's coplanar ones, about the middle of the targets.

    Raises
    ------
    ValueError
        If there is no such style, no target of the site, or a target has no voxel.
    """
    if style and style not in site.styles:
        raise ValueError(f"expected a style of {', '.join(site.styles) or 'none'}, got {style!r}")
    grid = lattice_of(patient.possible, sizes or Sizes())
    found = matched(site, patient.structures)
    share = {name: _share(patient.structures.mask(own), patient, grid) for name, own in found.items()}
    masks = {name: _mask(plane) for name, plane in share.items()}
    # A nearest voxel, for a voxel is in or out of what dose may be.
    inside = Volume(patient.possible.data.float(), patient.ct.grid, Quantity.PROBABILITY)
    _, known = brought(inside, patient.possible, grid)
    told = prescribed(patient.structures)
    level = {d.name: told[found[d.name]] for d in site.targets if found.get(d.name) in told}
    for name in level:
        if not bool(masks[name].any()):
            raise ValueError(
                f"expected a target {name} with voxels, got an empty one; draw it or leave it out"
            )
    planes = {"density": _density(patient.ct, grid), "possible": known.float()}
    planes |= {name: share[name] * told_as / site.prescription for name, told_as in level.items()}
    planes |= {d.name: share[d.name] for d in site.also if d.name in share}
    for drawn in (d for d in site.organs if d.name in share):
        name = f"organ {drawn.plane}"
        planes[name] = torch.maximum(planes[name], share[drawn.name]) if name in planes else share[drawn.name]
    planes |= {f"distance {name}": _far(masks[name], grid) for name in level}
    planes["distance surface"] = _far(known, grid)
    planes |= _beams(masks, level, known, planes["density"], site, grid, beams)
    planes |= {f"style {style}": known.float()} if style else {}
    missing = {name: 1.0 if name.startswith("distance") else 0.0 for name in names_of(site, Sees())}
    every = [planes.get(name, torch.full(grid.shape, value)) for name, value in missing.items()]
    dose = None if patient.dose is None else brought(patient.dose, patient.possible, grid)[0]
    return Seen(torch.stack(every), _bits(site, masks, grid), known, grid, max(level.values()), dose)


def _density(ct: Volume, grid: Grid) -> Float[Tensor, "i j k"]:
    """Electron density relative to water, 0 to about 2."""
    low, high = _HU
    hu = Volume(ct.data.float().clamp(low, high), ct.grid, Quantity.HU)
    return relative_electron_density(averaged(hu, grid, float(ct.grid.spacing.min()))).data[0]


def _share(mask: Mask, patient: Patient, grid: Grid) -> Float[Tensor, "a b d"]:
    """How much of each voxel a structure fills."""
    out = torch.zeros(grid.shape)
    own = patient.ct.grid
    if not bool(mask.any()):
        return out
    box = box_of(mask, (1, 1, 1))
    near = box_there(box, own, grid)
    if near is None:
        return out
    whole = Volume(mask[box][None].float(), part_of(own, box), Quantity.PROBABILITY)
    out[near] = averaged(whole, part_of(grid, near), float(own.spacing.min())).data[0]
    return out


def _mask(share: Float[Tensor, "i j k"]) -> Mask:
    """Voxels that a structure fills half of, or the fullest one of a small structure."""
    found = share >= _HALF
    if not bool(found.any()) and bool((share > 0).any()):
        found = share == share.max()
    return found


def _far(mask: Mask, grid: Grid) -> Float[Tensor, "i j k"]:
    """Signed distance as a share of what is told."""
    return (signed_distance(mask, grid) / _REACH).clamp(-1, 1)


def _beams(
    masks: dict[str, Mask],
    level: dict[str, float],
    known: Mask,
    density: Float[Tensor, "i j k"],
    site: Site,
    grid: Grid,
    beams: Sequence[Beam] | None,
) -> dict[str, Float[Tensor, "i j k"]]:
    """Of all targets, and of those with the highest prescription; nothing where a site names no beams."""
    every = torch.stack([masks[name] for name in level]).any(dim=0)
    highest = torch.stack([masks[n] for n, gy in level.items() if gy == max(level.values())]).any(dim=0)
    if beams is None:
        beams = coplanar(site.gantry, middle_of(every, grid))
    if not beams:
        return {}
    matter = Volume(density[None], grid, Quantity.DENSITY)
    share, fields = aimed([every, highest], known, matter, beams)
    return {"beams all": share[0], "fields all": fields[0], "fields highest": fields[1]}


def _bits(site: Site, masks: dict[str, Mask], grid: Grid) -> Int64[Tensor, "i j k"]:
    out = torch.zeros(grid.shape, dtype=torch.int64)
    for n, drawn in enumerate(site.structures):
        if drawn.name in masks:
            out |= masks[drawn.name].long() << n
    return out
