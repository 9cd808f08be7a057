"""One case of a cohort, from nothing but a recipe, a seed and its number.

Every stage draws from a generator of its own, seeded by a hash of the recipe, the seed, the number
and the stage's name: who makes the case, and after which others, changes nothing.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from imaging.case import Case
from imaging.grid import Grid
from imaging.organ import NAMES, Organ
from imaging.shapes import Labels, Mask
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.tissue import BRAIN, Tissue
from imaging.uids import seeded_uid
from imaging.volume import Quantity, Volume

from .atlas import varied
from .ct import true_ct
from .heads import head
from .lesions import with_tumour
from .metal import with_fillings
from .mri import images
from .recipe import Recipe, fingerprint
from .subject import Subject

_HEADS, _TUMOURS = 3, 3  # heads tried for one tumour, and tumours, before a case is given up
_HIGHEST = 32767  # what a scanner's files hold
# Values are kept in steps: signal and HU whole, as scanners keep them, the rest in powers of two, finer than
# anybody measures, so that files are a third as large.
_STEPS = {
    Quantity.MR: 1.0,
    Quantity.HU: 1.0,
    Quantity.DENSITY: 2.0**-14,
    Quantity.MASS_DENSITY: 2.0**-14,
    Quantity.DISPLACEMENT: 2.0**-8,
}
_CLOSING = 4.0  # mm; sulci that a physician draws the brain across
_GTV = (Tissue.NECROSIS, Tissue.ENHANCING, Tissue.INFILTRATION, Tissue.CAVITY)
_COLORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (153, 153, 153),
)


@dataclass(frozen=True, eq=False)
class Made:
    """A case and how it came to be.

    Parameters
    ----------
    name
        Its name in the cohort, such as ``SPD-00007-000``.
    case
        Volumes: MR images under the names of their contrasts, ``ct`` (HU), ``electron_density``,
        ``mass_density``, ``labels`` (`imaging.tissue.Tissue`), ``organs`` (`imaging.organ.Organ`),
        ``displacement`` where images are distorted; structures with names of AAPM TG-263.
    traits
        What was drawn and what came of it, as JSON values.
    """

    name: str
    case: Case
    traits: Mapping[str, Any]


def name_of(k: int) -> str:
    """Name of case k, as BraTS names patients and their time points."""
    return f"SPD-{k:05d}-000"


def stage_generator(recipe_hash: str, seed: int, k: int, stage: str) -> torch.Generator:
    """The generator of one stage of one case; any other four words give an unrelated stream."""
    digest = hashlib.sha256("\x1f".join((recipe_hash, str(seed), str(k), stage)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def make(recipe: Recipe, seed: int, k: int, heads: Sequence[Subject] = ()) -> Made:
    """Case k of a cohort: the same bytes for the same recipe, seed, number and heads.

    Parameters
    ----------
    recipe
        What cases are like.
    seed
        Which cohort; not negative.
    k
        Which case; not negative.
    heads
        Heads to vary, from label maps; without any they are made by code.

    Raises
    ------
    ValueError
        If seed or number are negative, or no head has room for the tumours drawn.
    """
    if seed < 0 or k < 0:
        raise ValueError(f"expected a seed and a number of 0 or more, got {seed} and {k}")
    recipe_hash = fingerprint(recipe)
    frame = seeded_uid("synthetic cohort", recipe_hash, seed, k, "frame")
    subject, tries = subject_of(recipe, recipe_hash, seed, k, heads)
    labels = dataclasses.replace(subject.labels, frame=frame)
    subject = Subject(labels, dataclasses.replace(subject.organs, frame=frame), subject.traits)
    grid = recipe.grid.scan
    dental = stage_generator(recipe_hash, seed, k, "dental")
    subject = with_fillings(subject, recipe.ct.dental, dental)
    volumes, mri = images(subject, recipe.mri, stage_generator(recipe_hash, seed, k, "mri"), grid)
    maps, ct = true_ct(subject, recipe.ct, stage_generator(recipe_hash, seed, k, "ct"), grid)
    volumes = {name: _stepped(volume) for name, volume in {**volumes, **maps}.items()}
    volumes["labels"], volumes["organs"] = _nearest(subject.labels, grid), _nearest(subject.organs, grid)
    contours = structures(volumes["labels"], volumes["organs"])
    cc = grid.voxel_volume / 1000
    traits = {
        "id": name_of(k),
        "number": k,
        "seed": seed,
        "recipe": recipe_hash,
        "tries": tries,
        **subject.traits,
        "mri": mri,
        "ct": ct,
        "structures_cc": {name: round(int(s.mask.sum()) * cc, 3) for name, s in contours.structures.items()},
    }
    source = _source(recipe_hash, seed, k, frame, str(subject.traits.get("anatomy", {}).get("sex", "")))
    return Made(name_of(k), Case(volumes, contours, source), traits)


def structures(labels: Volume, organs: Volume) -> StructureSet:
    """What is contoured for planning: tumour, brain, skull, scalp, cavities, organs at risk.

    The GTV is tumour that enhances or not, necrosis, and the cavity that a resection left (ESTRO-EANO
    guideline: cavity and residual tumour); oedema is a region of its own. The brain is closed over its
    sulci and ventricles, as a physician draws it; scalp is the soft tissue above the eyes. Regions
    without a voxel are left out.

    Parameters
    ----------
    labels
        Tissues, shape ``(1, i, j, k)``, on an upright grid.
    organs
        Organs on the same grid.
    """
    tissue, organ = labels.expect(Quantity.LABEL).data[0], organs.expect(Quantity.LABEL).data[0]
    outside = tissue == Tissue.OUTSIDE
    brain = closed(_any(tissue, *BRAIN, Tissue.CAVITY), _CLOSING, labels.grid)
    brain &= _any(tissue, *BRAIN, Tissue.CSF, Tissue.CAVITY, Tissue.DURA, Tissue.SHUNT)
    bone = _any(tissue, Tissue.SKULL, Tissue.MARROW) & (organ != Organ.MANDIBLE)
    masks: dict[str, Mask] = {
        "External": ~outside,
        "Brain": brain,
        "Brainstem": tissue == Tissue.BRAINSTEM,
        "Skull": bone,
        "Scalp": _scalp(tissue, organ),
        "AirCavities": tissue == Tissue.AIR,
        "Oedema": tissue == Tissue.OEDEMA,
        **{name: _organ(organ, members) for name, members in NAMES.items()},
    }
    out = {"GTV": Structure(_any(tissue, *_GTV), RoiType.GTV, (255, 64, 64))}
    for n, (name, mask) in enumerate(masks.items()):
        kind = RoiType.EXTERNAL if name == "External" else RoiType.ORGAN
        out[name] = Structure(mask, kind, _COLORS[n % len(_COLORS)])
    return StructureSet(labels.grid, {n: s for n, s in out.items() if bool(s.mask.any())}, labels.frame)


def closed(mask: Mask, radius: float, grid: Grid) -> Mask:
    """Morphological closing with a box of half edge ``radius`` (mm).

    Nothing lies beyond the grid while the mask grows, and everything while it shrinks again.
    """
    n = [max(round(radius / float(mm)), 1) for mm in grid.spacing]
    return ~_grown(~_grown(mask, n), n)


def _grown(mask: Mask, n: list[int]) -> Mask:
    """Every voxel within n of the mask along each axis: windows doubled by a shift until they are wide."""
    out = mask
    for axis, reach in enumerate(n):
        width, wide = 1, 2 * reach + 1
        # A window that looks back over `width` voxels; beyond the ends lies nothing.
        size, beyond = mask.shape[axis], list(mask.shape)
        beyond[axis] = reach
        padded = torch.cat((out, torch.zeros(beyond, dtype=torch.bool)), dim=axis)
        while width < wide:
            step = min(width, wide - width)
            later = padded.clone()
            if step < padded.shape[axis]:
                kept = padded.shape[axis] - step
                later.narrow(axis, step, kept).logical_or_(padded.narrow(axis, 0, kept))
            padded, width = later, width + step
        out = padded.narrow(axis, reach, size)
    return out


def subject_of(
    recipe: Recipe, recipe_hash: str, seed: int, k: int, heads: Sequence[Subject]
) -> tuple[Subject, int]:
    """A head with its tumour; where one finds no room, the same tumour is tried in another head first.

    Parameters
    ----------
    recipe, seed, k, heads
        As :func:`make` takes them.
    recipe_hash
        The recipe's fingerprint.

    Returns
    -------
    tuple
        The subject, and how many were tried.

    Raises
    ------
    ValueError
        If no head has room for any tumour tried.
    """
    lattice = recipe.grid.lattice
    refusal = ValueError("expected a head to try")
    for attempt in range(_HEADS * _TUMOURS):
        anatomy = stage_generator(recipe_hash, seed, k, f"anatomy {attempt}")
        tumour = stage_generator(recipe_hash, seed, k, f"tumour {attempt // _HEADS}")
        if heads:
            without = varied(heads, recipe.anatomy, anatomy, lattice)
        else:
            without = head(recipe.anatomy, anatomy, lattice)
        try:
            return with_tumour(without, recipe.tumour, tumour), attempt + 1
        except ValueError as error:
            refusal = error
    raise ValueError(f"case {k}: {refusal}") from None


def _stepped(volume: Volume) -> Volume:
    """A volume in the steps that files keep; signal and HU within 16 bits."""
    step = _STEPS[volume.quantity]
    data = (volume.data / step).round_().mul_(step)
    if step == 1.0:
        data.clamp_(-_HIGHEST - 1, _HIGHEST)
    return dataclasses.replace(volume, data=data)


def _nearest(volume: Volume, grid: Grid) -> Volume:
    """Labels of a finer, parallel grid at the voxel centres of another, axis after axis."""
    data: Labels = volume.data
    for axis in range(3):
        place = grid.affine[axis, 3] + grid.spacing[axis] * np.arange(grid.shape[axis])
        index = np.floor((place - volume.grid.affine[axis, 3]) / volume.grid.spacing[axis] + 0.5 + 1e-9)
        inside = np.clip(index, 0, volume.grid.shape[axis] - 1).astype(np.int64)
        data = data.index_select(axis + 1, torch.from_numpy(inside))
    return Volume(data, grid, Quantity.LABEL, volume.frame)


def _scalp(tissue: torch.Tensor, organ: torch.Tensor) -> Mask:
    """Soft tissue above the upper rim of the eyes; all of it where no eye is seen."""
    levels = _organ(organ, (Organ.EYE_L, Organ.EYE_R)).any(dim=0).any(dim=0).nonzero()
    soft = _any(tissue, Tissue.SCALP, Tissue.FAT)
    if len(levels):
        soft[:, :, : int(levels.max()) + 1] = False
    return soft


def _any(tissue: torch.Tensor, *kinds: Tissue) -> Mask:
    table = np.zeros(256, dtype=bool)
    table[list(kinds)] = True
    return torch.from_numpy(table[tissue.numpy()])


def _organ(organ: torch.Tensor, members: tuple[Organ, ...]) -> Mask:
    table = np.zeros(256, dtype=bool)
    table[list(members)] = True
    return torch.from_numpy(table[organ.numpy()])


def _source(recipe_hash: str, seed: int, k: int, frame: str, sex: str) -> Source:
    cohort = hashlib.sha256(f"{recipe_hash} {seed}".encode()).hexdigest()[:8].upper()
    return Source(
        patient_id=f"SPD-{cohort}-{k:05d}",
        patient_name=f"SYNTHETIC^SPD-{k:05d}",
        sex=sex if sex in ("F", "M") else "",
        study_uid=seeded_uid("synthetic cohort", recipe_hash, seed, k, "study"),
        study_id=str(k),
        frame=frame,
        modality="MR",
    )
