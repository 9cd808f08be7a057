"""Contours of one structure of one patient against one another and against what observers agree on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from imaging.agreement import dice
from imaging.consensus import majority, staple
from imaging.grid import Grid
from imaging.kappa import cohen_kappa, fleiss_kappa
from imaging.shapes import Affine, Mask
from imaging.surface_agreement import (
    Surface,
    between,
    mean_distance,
    robust_hausdorff,
    surface,
    surface_dice,
    union_box,
)

PEOPLE, MODEL, MODELS = "people", "model and people", "models"
REFERENCES = ("majority", "staple")

# A figure by its name and unit; NaN where it is not defined, such as a distance to an empty contour.
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Pair:
    """Two observers of one structure; differences of volume have no sign."""

    structure: str
    observer: str
    other: str
    kind: str
    metrics: Metrics


@dataclass(frozen=True)
class Against:
    """An observer against a consensus of people.

    Parameters
    ----------
    structure, observer, model
        Whose contour it is.
    reference
        ``majority`` or ``staple``.
    without
        The person left out of the consensus; each is left out of its own. Empty where it is of all.
    n_people
        How many people the consensus is of.
    metrics
        The observer's contour against it; differences of volume are the observer's less the reference's.
    """

    structure: str
    observer: str
    model: bool
    reference: str
    without: str
    n_people: int
    metrics: Metrics


@dataclass(frozen=True)
class Scores:
    """All figures of one structure of one patient."""

    pairs: tuple[Pair, ...]
    against: tuple[Against, ...]
    fleiss: float
    n_people: int
    volumes_cc: Mapping[str, float]
    reference_cc: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class _Contour:
    mask: Mask
    surface: Surface
    cc: float


def score(
    structure: str,
    masks: Mapping[str, Mask],
    models: Sequence[str],
    grid: Grid,
    tolerances: Sequence[float],
    region: float,
) -> Scores:
    """Figures of one structure.

    Kappas see the box around everybody's contours and ``region`` mm more, STAPLE that around its readers',
    so that no model has a part in its reference; neither goes beyond the grid.

    Parameters
    ----------
    structure
        Its name.
    masks
        Contours by observer.
    models
        Which observers are models; the others are people.
    grid
        Where the masks lie.
    tolerances
        Of surface Dice (mm).
    region
        Margin of the box (mm).

    Raises
    ------
    ValueError
        If every contour is empty.
    """
    box = union_box(list(masks.values()), grid, region)
    cc = grid.voxel_volume / 1000
    part = Grid(_shape(next(iter(masks.values()))[box]), _moved(grid, box))

    def prepared(mask: Mask) -> _Contour:
        return _Contour(mask, surface(mask, part), int(mask.sum()) * cc)

    contours = {name: prepared(mask[box].contiguous()) for name, mask in masks.items()}
    people = [name for name in contours if name not in models]
    machines = [name for name in contours if name in models]
    names = [*people, *machines]
    pairs = tuple(
        Pair(structure, a, b, _kind(a, b, machines), _unsigned(metrics(contours[a], contours[b], tolerances)))
        for n, a in enumerate(names)
        for b in names[n + 1 :]
    )
    against: list[Against] = []
    whole: dict[str, float] = {}
    for without in ["", *(people if len(people) > 1 else [])]:
        readers = [contours[name].mask for name in people if name != without]
        for reference, mask in _consensus(readers, part, region).items():
            agreed = prepared(mask)
            if not without:
                whole[reference] = agreed.cc
            against += [
                Against(
                    structure,
                    name,
                    name in machines,
                    reference,
                    without,
                    len(readers),
                    metrics(contours[name], agreed, tolerances),
                )
                for name in [*([without] if without else []), *machines]
            ]
    fleiss = fleiss_kappa([contours[p].mask for p in people]) if len(people) > 1 else math.nan
    volumes = {name: contour.cc for name, contour in contours.items()}
    return Scores(pairs, tuple(against), fleiss, len(people), volumes, whole)


def metrics(a: _Contour, b: _Contour, tolerances: Sequence[float]) -> dict[str, float]:
    """Figures of two contours; differences of volume are ``a - b``, percent are of their mean."""
    empty = [not bool(c.mask.any()) for c in (a, b)]
    found = between(a.surface, b.surface) if not any(empty) else None
    alone = 0.0 if any(empty) and not all(empty) else math.nan
    mean = (a.cc + b.cc) / 2
    return {
        "dice": math.nan if all(empty) else dice(a.mask, b.mask),
        **{surface_name(t): alone if found is None else surface_dice(found, t) for t in tolerances},
        "hd95_mm": math.nan if found is None else robust_hausdorff(found),
        "mean_surface_distance_mm": math.nan if found is None else mean_distance(found),
        "volume_difference_cc": a.cc - b.cc,
        "volume_difference_percent": 100 * (a.cc - b.cc) / mean if mean else math.nan,
        "kappa": cohen_kappa(a.mask, b.mask),
    }


def surface_name(tolerance: float) -> str:
    """What surface Dice at a tolerance (mm) is called."""
    return f"surface_dice_{tolerance:g}mm"


def _consensus(readers: Sequence[Mask], grid: Grid, region: float) -> dict[str, Mask]:
    if not readers:
        return {}
    agreed = torch.zeros_like(readers[0])
    if any(bool(mask.any()) for mask in readers):
        box = union_box(list(readers), grid, region)
        agreed[box] = staple([mask[box].contiguous() for mask in readers]).mask
    return {"majority": majority(readers), "staple": agreed}


def _unsigned(found: Mapping[str, float]) -> dict[str, float]:
    return {name: abs(v) if name.startswith("volume") else v for name, v in found.items()}


def _kind(a: str, b: str, machines: Sequence[str]) -> str:
    n = (a in machines) + (b in machines)
    return (PEOPLE, MODEL, MODELS)[n]


def _shape(mask: Mask) -> tuple[int, int, int]:
    return mask.shape[0], mask.shape[1], mask.shape[2]


def _moved(grid: Grid, box: tuple[slice, slice, slice]) -> Affine:
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return affine
