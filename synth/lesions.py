"""A tumour, or what its resection left, in a synthetic head."""

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from imaging.grid import Grid
from imaging.tissue import TUMOUR, Tissue
from imaging.volume import Quantity, Volume

from .cranium import WITHIN, Cranium, among, below_tentorium, brain_cc, cranium, off_midline
from .illness import Illness, Lesion, TumourRecipe, drawn, told
from .mass_effect import Push, Shift, midline_shift, moved, pushed, sampled
from .parts import glioblastoma, highest, low_grade, meningioma, metastasis, ragged, solid, swollen
from .places import FURTHEST, Seed, around, ball, infiltrating, lump, scattered, seeded
from .statistics import DISPLACED, SWELLING, Kind
from .subject import Subject
from .surgery import operated

Cells = Float[Tensor, "_ _ _"]
Mask = Bool[Tensor, "_ _ _"]
Window = tuple[slice, slice, slice]

__all__ = ["TumourRecipe", "with_tumour"]

_RELIEF = 0.3  # how much of its push a resected mass keeps (assumed)
_YIELDING = 0.7  # share of the fluid within the skull that can be pressed out (assumed)
_DRIED = 0.6  # how much of its oedema stays (assumed)


def with_tumour(subject: Subject, recipe: TumourRecipe, generator: torch.Generator) -> Subject:
    """A head with what a recipe draws: a tumour that pushes the brain aside, or its resection.

    Growth is followed on the head as it was; the grown region then swells to its full volume and
    displaces what lies about it, tissues and organs alike (`synth.mass_effect`); voxels are given
    to the tumour until it has the volume asked for.

    Parameters
    ----------
    subject
        A head whose labels lie on an upright grid, origin at the anterior commissure.
    recipe
        What tumours there are.
    generator
        Draws all of it.

    Returns
    -------
    Subject
        The head with ``traits["tumour"]`` (``kind``, ``count``, ``lesions`` with place, centre and
        volume as drawn, as asked for after surgery and as made, ``volumes_cc`` of all parts,
        ``midline_shift_mm``) and ``traits["surgery"]`` (empty if there was none).

    Raises
    ------
    ValueError
        If the head has no brain, the tumour is larger than the brain, or finds no room.
    """
    illness = drawn(recipe, generator)
    if illness.kind is Kind.NONE:
        nothing = {"kind": "none", "count": 0, "lesions": [], "volumes_cc": {}, "midline_shift_mm": 0.0}
        return replace(subject, traits={**subject.traits, "tumour": nothing, "surgery": {}})
    space = cranium(subject.labels)
    wanted, brain = sum(lesion.volume_cc for lesion in illness.lesions), brain_cc(space)
    if wanted >= brain:
        raise ValueError(f"expected a tumour smaller than the brain ({brain:.0f} cc), got {wanted:.0f} cc")
    before, illness = illness, _relieved(illness)
    seeds = _seeds(space, illness, generator)
    densities = [_density(space, illness, n, seed, generator) for n, seed in enumerate(seeds)]
    regions = [_region(space, illness, n, d) for n, d in enumerate(densities)]
    u = pushed(space, _expect_room(space, _pushes(space, illness, densities, regions), wanted))
    tissue, organs = _moved(subject, space, u)
    cores = []
    for n, seed in enumerate(seeds):
        part, core, where = _placed(tissue, space, u, illness, n, seed, densities[n], generator)
        tissue[where] = part
        cores.append((core, where))
    surgery: dict[str, Any] = {}
    if illness.operation is not None:
        tissue, surgery = operated(tissue, *cores[0], subject.labels.grid, illness.operation, generator)
    organs[among(tissue, Tissue.CAVITY, Tissue.METAL, Tissue.SHUNT)] = 0
    if illness.kind is Kind.MENINGIOMA:
        organs[cores[0][1]][cores[0][0]] = 0
    grid, frame = subject.labels.grid, subject.labels.frame
    traits = _traits(tissue, space, u, before, illness, cores, grid)
    return replace(
        subject,
        labels=Volume(tissue[None], grid, Quantity.LABEL, frame),
        organs=Volume(organs[None], grid, Quantity.LABEL, subject.organs.frame),
        traits={**subject.traits, "tumour": traits, "surgery": surgery},
    )


def _relieved(illness: Illness) -> Illness:
    """What stays once the largest lesion is resected: a smaller cavity, less pressure and oedema."""
    if illness.operation is None:
        return illness
    first = illness.lesions[0]
    size = 1 - illness.operation.extent * (1 - illness.operation.collapse)
    make = replace(first.make, oedema=_DRIED * first.make.oedema)
    smaller = replace(first, volume_cc=first.volume_cc * size, make=make)
    return replace(illness, lesions=(smaller, *illness.lesions[1:]), displaced=_RELIEF * illness.displaced)


def _seeds(space: Cranium, illness: Illness, generator: torch.Generator) -> list[Seed]:
    if illness.kind is Kind.METASTASES:
        radii = [ball(lesion.volume_cc) for lesion in illness.lesions]
        return scattered(space, [lesion.place for lesion in illness.lesions], radii, generator)
    first = illness.lesions[0]
    return [seeded(space, illness.kind, first.place, first.side, first.jitter)]


def _density(space: Cranium, illness: Illness, n: int, seed: Seed, generator: torch.Generator) -> Cells:
    """Cell density before anything is pushed aside."""
    lesion = illness.lesions[n]
    start = lesion.volume_cc * (1 - illness.displaced)
    if illness.kind in {Kind.MENINGIOMA, Kind.METASTASES}:
        return lump(space, seed, ball(start), generator)
    density, reached = infiltrating(space, seed, start, lesion.make.oedema, generator)
    if reached < start:
        raise ValueError(
            f"expected room for a tumour of {lesion.volume_cc:.0f} cc, got room for "
            f"{reached / (1 - illness.displaced):.0f} cc; ask for a smaller one"
        )
    return density


def _region(space: Cranium, illness: Illness, n: int, density: Tensor) -> Tensor:
    """Cells that swell to become the tumour."""
    lesion = illness.lesions[n]
    open_ = (space.within > 0.5) & _own_side(lesion, off_midline(space, space.cells))
    if illness.kind is not Kind.MENINGIOMA:
        open_ &= space.csf < 0.6
    cell = math.prod(space.step) / 1000
    count = max(round(lesion.volume_cc * (1 - illness.displaced) / cell), 1)
    return highest(density, open_, count) * space.within


def _pushes(space: Cranium, illness: Illness, densities: list[Tensor], regions: list[Tensor]) -> list[Push]:
    """The mass of each lesion, and the swelling of oedematous white matter about it."""
    out = []
    cell = math.prod(space.step) / 1000
    for lesion, density, region in zip(illness.lesions, densities, regions, strict=True):
        out.append(Push(region, illness.displaced * lesion.volume_cc))
        if lesion.make.oedema > 0 and illness.displaced > 0:
            white = (space.white > 0.5) & (region < 0.1)
            about = highest(density, white & (density > 0), round(lesion.make.oedema / cell))
            strength = illness.displaced / DISPLACED[illness.kind]
            out.append(Push(about.float(), SWELLING * strength * lesion.make.oedema))
    return out


def _expect_room(space: Cranium, pushes: list[Push], wanted: float) -> list[Push]:
    """The pushes, if the skull holds enough fluid to make way for them."""
    fluid = float(space.csf.double().numpy().sum()) * math.prod(space.step) / 1000
    pushed_out = sum(push.cc for push in pushes)
    if pushed_out > _YIELDING * fluid:
        raise ValueError(
            f"expected room for a tumour of {wanted:.0f} cc, got {fluid:.0f} cc of fluid to make way for the "
            f"{pushed_out:.0f} cc that it pushes aside; ask for a smaller one or less mass_effect"
        )
    return pushes


def _moved(subject: Subject, space: Cranium, u: Shift) -> tuple[Tensor, Tensor]:
    """Tissues and organs after the push."""
    tissue, organs = subject.labels.data[0].clone(), subject.organs.data[0].clone()
    part = tissue[space.box]
    both = part.to(torch.int16) | (organs[space.box].to(torch.int16) << 8)
    both = moved(both, u, space, ~among(part, *WITHIN))
    tissue[space.box] = (both & 255).to(tissue.dtype)
    organs[space.box] = (both >> 8).to(organs.dtype)
    return tissue, organs


def _placed(
    tissue: Tensor,
    space: Cranium,
    u: Shift,
    illness: Illness,
    n: int,
    seed: Seed,
    density: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Mask, Window]:
    """A window of the head with one lesion, the lesion's voxels, and the window."""
    lesion = illness.lesions[n]
    reach = max(1.9 * ball(lesion.volume_cc), 1.7 * ball(lesion.volume_cc + 3 * lesion.make.oedema))
    inner = _about(space, seed, min(reach + 6.0, FURTHEST))
    where = tuple(slice(b.start + s.start, b.start + s.stop) for b, s in zip(space.box, inner, strict=True))
    window = (where[0], where[1], where[2])
    fields = sampled(torch.stack([density, around(space.csf)]), u, space, inner)
    part, voxel = tissue[window], space.voxel[0]
    lumps = illness.kind in {Kind.MENINGIOMA, Kind.METASTASES}
    allowed = solid(part, fields[1], extra_axial=illness.kind is Kind.MENINGIOMA) & (fields[0] > 0)
    x = off_midline(space, space.voxels, inner)
    allowed &= _own_side(lesion, x)
    count = max(round(lesion.volume_cc * 1000 / math.prod(space.voxel)), 1)
    if int(allowed.sum()) < count:
        room = int(allowed.sum()) * math.prod(space.voxel) / 1000
        raise ValueError(
            f"expected room for a tumour of {lesion.volume_cc:.1f} cc, got room for {room:.1f} cc; "
            "ask for a smaller one"
        )
    score = fields[0] if lumps else ragged(fields[0], voxel, generator)
    core = highest(score, allowed, count)
    if illness.kind is Kind.GLIOBLASTOMA:
        out = glioblastoma(part, core, fields[0], lesion.make, voxel, generator)
    elif illness.kind is Kind.LOW_GRADE:
        out = low_grade(part, core, fields[0], lesion.make, voxel, generator)
    elif illness.kind is Kind.METASTASES:
        out = metastasis(part, core, lesion.make, voxel, generator)
    else:
        out = meningioma(part, allowed, fields[0], count, voxel)
        core = out == Tissue.ENHANCING
    # No oedema crosses the tentorium. What seeps from a ball keeps to its hemisphere as well; a glioma's
    # has found its way through white matter.
    middle = tuple((n.stop - n.start) // 2 for n in inner)
    side = lesion.side if lesion.place.name == "falx" else math.copysign(1.0, float(x[middle]))
    below = below_tentorium(space, space.voxels, inner)
    near = below == below[middle]
    if lumps:
        near &= x * side > -2.0
    out = swollen(out, fields[0], near, lesion.make, voxel, 0.35 if lumps else 1.0, generator)
    return out, core, window


def _own_side(lesion: Lesion, x: Cells) -> Mask:
    """Where a lesion may lie, by how far left of the midline: one at the falx keeps to its side."""
    return x * lesion.side > -0.5 if lesion.place.name == "falx" else torch.ones_like(x, dtype=torch.bool)


def _about(space: Cranium, seed: Seed, reach: float) -> Window:
    """Voxels of the box within ``reach`` mm of a seed, along each axis."""
    out = []
    for axis in range(3):
        at = (seed.place[axis] - space.low[axis]) / space.voxel[axis]
        half = reach / space.voxel[axis]
        out.append(slice(max(math.floor(at - half), 0), min(math.ceil(at + half), space.voxels[axis])))
    return out[0], out[1], out[2]


def _traits(
    tissue: Tensor,
    space: Cranium,
    u: Shift,
    before: Illness,
    illness: Illness,
    cores: list[tuple[Mask, Window]],
    grid: Grid,
) -> dict[str, Any]:
    counts = torch.bincount(tissue[space.box].reshape(-1).int(), minlength=max(Tissue) + 1)
    parts = {t.name.lower(): int(counts[t]) * grid.voxel_volume / 1000 for t in (*TUMOUR, Tissue.CAVITY)}
    lesions = []
    for was, lesion, (core, where) in zip(before.lesions, illness.lesions, cores, strict=True):
        at = torch.nonzero(core).double().numpy().mean(axis=0) + [w.start for w in where]
        center = at * grid.spacing + grid.affine[:3, 3]
        volume = int(core.sum()) * grid.voxel_volume / 1000
        where_to = {
            "side": "left" if center[0] > 0 else "right",
            "center_mm": [round(float(a), 1) for a in center],
        }
        lesions.append(
            {**told(lesion), "drawn_cc": round(was.volume_cc, 4), **where_to, "core_cc": round(volume, 4)}
        )
    return {
        "kind": illness.kind.value,
        "count": len(lesions),
        "lesions": lesions,
        "volumes_cc": {name: round(value, 4) for name, value in parts.items()},
        "midline_shift_mm": round(midline_shift(u, space), 2),
    }
