"""What a recipe says of tumours, and one patient's illness drawn from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from . import statistics as table
from .parts import Make
from .statistics import Kind, Place, Sizes
from .surgery import Operation, draw_operation

_LARGEST = 1500.0  # no recipe may ask for more than an adult brain holds (cc)
_MOST_DISPLACED = 0.92


def _default_shares() -> dict[str, float]:
    # A mixture to train on, not an incidence (assumed).
    return {"none": 0.0, "glioblastoma": 0.45, "low_grade": 0.15, "meningioma": 0.2, "metastases": 0.2}


def _default_volumes() -> dict[str, Sizes]:
    return {kind.value: sizes for kind, sizes in table.VOLUMES.items()}


@dataclass(frozen=True)
class TumourRecipe:
    """What tumours a cohort has.

    Parameters
    ----------
    shares
        Share of heads by kind: ``none``, ``glioblastoma``, ``low_grade``, ``meningioma``,
        ``metastases``; kinds left out have none; they sum to 1.
    volumes
        Volume (cc) by kind: rim and necrosis of a glioblastoma, all of a low-grade glioma or
        meningioma, each single metastasis. Kinds left out keep the published distribution.
    volume_cc
        One volume for every tumour instead (cc); metastases share it.
    counts
        Share of patients with one, two, three, ... metastases; the last holds for that many or
        more.
    post_operative
        Share of tumours that have been operated on.
    shunt
        Share of operated heads with a ventricular shunt.
    mass_effect
        Factor on how much of a tumour's volume pushes tissue aside: 0 for none, 1 as in
        `synth.statistics`.

    Raises
    ------
    ValueError
        For unknown kinds, shares that are negative or do not sum to 1, negative sizes, or a
        tumour larger than any brain.
    """

    shares: Mapping[str, float] = field(default_factory=_default_shares)
    volumes: Mapping[str, Sizes] = field(default_factory=_default_volumes)
    volume_cc: float | None = None
    counts: tuple[float, ...] = table.METASTASIS_COUNTS
    post_operative: float = 0.25
    shunt: float = 0.15
    mass_effect: float = 1.0

    def __post_init__(self) -> None:
        known = ", ".join(Kind)
        for name in (*self.shares, *self.volumes):
            if name not in set(Kind):
                raise ValueError(f"expected kinds of tumour among {known}, got {name}; mend the recipe")
        _expect_shares("shares of kinds of tumour", tuple(self.shares.values()))
        _expect_shares("shares of counts of metastases", self.counts)
        for name in ("post_operative", "shunt"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"expected {name} as a share from 0 to 1, got {value}")
        if not 0 <= self.mass_effect <= 1.5:
            raise ValueError(f"expected mass_effect from 0 to 1.5, got {self.mass_effect}")
        if self.volume_cc is not None and not 0 < self.volume_cc <= _LARGEST:
            raise ValueError(
                f"expected a tumour of more than 0 cc and less than a brain ({_LARGEST:.0f} cc), "
                f"got {self.volume_cc} cc"
            )
        for name, sizes in self.volumes.items():
            if sizes.high > _LARGEST:
                raise ValueError(
                    f"expected a {name} smaller than a brain ({_LARGEST:.0f} cc), got up to {sizes.high} cc"
                )


@dataclass(frozen=True)
class Lesion:
    """One tumour before it grows.

    Parameters
    ----------
    place
        Row of the table that it was drawn from.
    side
        1 for the patient's left, -1 for the right.
    jitter
        Standard deviations off the place's centre along x, y, z.
    volume_cc
        Volume asked for (cc).
    make
        Shares of its parts.
    """

    place: Place
    side: float
    jitter: tuple[float, float, float]
    volume_cc: float
    make: Make


@dataclass(frozen=True)
class Illness:
    """All that is drawn before anything grows.

    Parameters
    ----------
    kind
        What grows.
    lesions
        Largest first; empty where nothing grows.
    displaced
        Share of the volume that pushes tissue aside.
    operation
        What was done about the largest, or None.
    """

    kind: Kind
    lesions: tuple[Lesion, ...] = ()
    displaced: float = 0.0
    operation: Operation | None = None


def drawn(recipe: TumourRecipe, generator: torch.Generator) -> Illness:
    """One patient's illness, its parameters alone.

    Parameters
    ----------
    recipe
        What the cohort has.
    generator
        Draws kind, places, volumes and surgery.
    """
    kinds = list(recipe.shares)
    kind = Kind(kinds[_pick(list(recipe.shares.values()), generator)])
    if kind is Kind.NONE:
        return Illness(kind)
    places = {Kind.MENINGIOMA: table.MENINGIOMA_PLACES, Kind.METASTASES: table.METASTASIS_PLACES}
    rows = places.get(kind, table.GLIOMA_PLACES)
    count = _count(recipe, generator) if kind is Kind.METASTASES else 1
    sizes = recipe.volumes.get(kind, table.VOLUMES[kind])
    lesions = []
    for _ in range(count):
        place = rows[_pick([row.share for row in rows], generator)]
        side = 1.0 if float(torch.rand(1, generator=generator)) < 0.5 else -1.0
        x, y, z = torch.randn(3, generator=generator).clamp(-1.5, 1.5).tolist()
        volume = sizes.draw(generator) if recipe.volume_cc is None else recipe.volume_cc / count
        make = _make(kind, volume, generator)
        lesions.append(Lesion(place, side, (x, y, z), volume, make))
    lesions.sort(key=lambda lesion: -lesion.volume_cc)
    displaced = min(table.DISPLACED[kind] * recipe.mass_effect, _MOST_DISPLACED)
    operation = None
    if float(torch.rand(1, generator=generator)) < recipe.post_operative:
        operation = draw_operation(recipe.shunt, generator)
    return Illness(kind, tuple(lesions), displaced, operation)


def told(lesion: Lesion) -> dict[str, Any]:
    """A lesion's parameters as JSON values."""
    return {
        "place": lesion.place.name,
        "asked_cc": round(lesion.volume_cc, 4),
    }


def _count(recipe: TumourRecipe, generator: torch.Generator) -> int:
    count = 1 + _pick(list(recipe.counts), generator)
    if count < len(recipe.counts) or count >= table.MOST_METASTASES:
        return count
    return count + int(torch.randint(table.MOST_METASTASES - count + 1, (1,), generator=generator))


def _make(kind: Kind, volume: float, generator: torch.Generator) -> Make:
    u = torch.rand(4, generator=generator).tolist()
    oedema = min(volume * table.OEDEMA[kind].draw(generator), table.MOST_OEDEMA)
    oedema = oedema if u[0] < table.WITH_OEDEMA[kind] else 0.0
    if kind is Kind.GLIOBLASTOMA:
        return Make(table.between(table.NECROSIS, u[1]), table.between(table.INFILTRATION, u[2]), 0.0, oedema)
    if kind is Kind.LOW_GRADE:
        faint = table.between(table.LOW_GRADE_ENHANCING, u[2]) if u[1] < table.LOW_GRADE_WITH_UPTAKE else 0.0
        return Make(enhancing=faint, oedema=oedema)
    if kind is Kind.METASTASES:
        return Make(table.between(table.RING, u[1]), oedema=oedema)
    return Make(oedema=oedema)


def _pick(shares: list[float], generator: torch.Generator) -> int:
    weights: Float[Tensor, " n"] = torch.tensor(shares, dtype=torch.float64)
    return int(torch.multinomial(weights, 1, generator=generator))


def _expect_shares(what: str, shares: tuple[float, ...]) -> None:
    if not shares or min(shares) < 0 or not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
        raise ValueError(f"expected {what} of 0 or more that sum to 1, got {', '.join(map(str, shares))}")
