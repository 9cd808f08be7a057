"""Which sequence makes a contrast, with what times: ranges that a recipe gives, and one draw from them."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from imaging.tissue import Tissue

from . import contrast
from .tissues import FIELDS, column

Range = tuple[float, float]
Sequence = contrast.SpinEcho | contrast.SpoiledGradientEcho | contrast.InversionRecovery | contrast.Mprage

T1_SEQUENCES = ("spin_echo", "gradient_echo", "mprage")
CONTRASTS = ("t1", "t1c", "t2", "flair", "pd", "t2star")

Column = Float[Tensor, "*n"]


@dataclass(frozen=True)
class Protocol:
    """Ranges that one kind of sequence draws its settings from.

    Parameters
    ----------
    tr, te
        Repetition and echo time (ms).
    ti
        Inversion time (ms); for FLAIR 0 to 0 stands for the time that nulls CSF.
    flip
        Angle of excitation (degrees), where it is not 90.

    Raises
    ------
    ValueError
        If a range is not ascending, finite and positive, or the echo comes after the repetition.
    """

    tr: Range
    te: Range
    ti: Range = (0.0, 0.0)
    flip: Range = (90.0, 90.0)

    def __post_init__(self) -> None:
        for name in ("tr", "te", "ti", "flip"):
            expect_range(name, getattr(self, name), 0.0, 180.0 if name == "flip" else math.inf)
        if min(self.tr[0], self.te[0], self.flip[0]) <= 0:
            raise ValueError(f"expected tr, te and flip above 0, got {self}")
        if self.te[1] + self.ti[1] >= self.tr[0]:
            raise ValueError(f"expected te and ti to fit into tr, got {self}; lengthen tr")


@dataclass(frozen=True)
class Chance:
    """How often something happens, and how strongly when it does.

    Parameters
    ----------
    probability
        Share of images.
    low, high
        Strength, drawn evenly between them; the unit is that of the recipe's field.

    Raises
    ------
    ValueError
        If the probability is none, or the strengths do not ascend from 0 or more.
    """

    probability: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"expected a probability from 0 to 1, got {self.probability}")
        expect_range("strength", (self.low, self.high), 0.0, math.inf)


def expect_range(name: str, values: Range, low: float, high: float) -> None:
    """Refuse a range that does not ascend or leaves its bounds.

    Raises
    ------
    ValueError
        Naming the range.
    """
    if len(values) != 2 or not all(math.isfinite(v) for v in values):
        raise ValueError(f"expected {name} as two finite numbers, got {values}")
    if not low <= values[0] <= values[1] <= high:
        raise ValueError(
            f"expected {name} to ascend between {low:g} and {high:g}, got {values[0]:g} to {values[1]:g}"
        )


def uniform(generator: torch.Generator, values: Range) -> float:
    """A number between two."""
    return values[0] + (values[1] - values[0]) * float(torch.rand(1, generator=generator))


def chosen(generator: torch.Generator, n: int) -> int:
    """A whole number from 0 to n − 1."""
    return int(torch.randint(n, (1,), generator=generator))


def happens(generator: torch.Generator, chance: Chance) -> float:
    """The strength drawn, or 0 where nothing happens."""
    share, strength = torch.rand(2, generator=generator).tolist()
    return chance.low + (chance.high - chance.low) * strength if share < chance.probability else 0.0


def drawn(kind: str, protocol: Protocol, csf_t1: float, generator: torch.Generator) -> Sequence:
    """One sequence of a kind (``spin_echo``, ``gradient_echo``, ``mprage``, ``flair``) with times drawn.

    Parameters
    ----------
    kind
        Kind of sequence.
    protocol
        Ranges.
    csf_t1
        T1 of the fluid that FLAIR nulls (ms).
    generator
        Draws.
    """
    tr, te, ti, flip = (
        round(uniform(generator, r), 1) for r in (protocol.tr, protocol.te, protocol.ti, protocol.flip)
    )
    if kind == "spin_echo":
        return contrast.SpinEcho(tr, te)
    if kind == "gradient_echo":
        return contrast.SpoiledGradientEcho(tr, te, flip)
    if kind == "mprage":
        return contrast.Mprage(tr=tr, te=te, ti=ti, flip=flip)
    return contrast.InversionRecovery(tr, te, ti if ti > 0 else round(contrast.null_time(csf_t1, tr), 1))


def signal(sequence: Sequence, pd: Column, t1: Column, t2: Column, field: float) -> Column:
    """Magnitude of a sequence for tissues at 1.5 or 3 T."""
    if isinstance(sequence, contrast.SpinEcho):
        return contrast.spin_echo(pd, t1, t2, sequence)
    if isinstance(sequence, contrast.SpoiledGradientEcho):
        return contrast.spoiled_gradient_echo(pd, t1, contrast.t2_star(t2, field), sequence)
    if isinstance(sequence, contrast.Mprage):
        return contrast.mprage(pd, t1, t2, sequence)
    return contrast.inversion_recovery(pd, t1, t2, sequence)


def settings(sequence: Sequence) -> dict[str, Any]:
    """A sequence as JSON values, with its kind."""
    kinds = {
        contrast.SpinEcho: "spin_echo",
        contrast.SpoiledGradientEcho: "gradient_echo",
        contrast.Mprage: "mprage",
        contrast.InversionRecovery: "inversion_recovery",
    }
    return {"sequence": kinds[type(sequence)], **dataclasses.asdict(sequence)}


@dataclass(frozen=True, eq=False)
class Body:
    """Relaxation of one subject's tissues at one field strength.

    Parameters
    ----------
    t1, t2
        Relaxation times (ms) by tissue.
    pd
        Proton density by tissue.
    uptake
        Contrast agent (mmol/l) by tissue.
    field
        Field strength (T).
    """

    t1: Float[Tensor, " tissues"]
    t2: Float[Tensor, " tissues"]
    pd: Float[Tensor, " tissues"]
    uptake: Float[Tensor, " tissues"]
    field: float


def random_body(field: float, variation: float, generator: torch.Generator) -> Body:
    """Tissues of one subject: relaxation and proton density differ by a few per cent from the table's.

    Uptake differs eight times as much: dose, delay and leak of the barrier differ too. Draws are cut off
    at two standard deviations.
    """
    if field not in FIELDS:
        raise ValueError(f"expected a field of 1.5 or 3 T, got {field}")
    t1, t2, pd = (_varied(column(name, field), generator, variation) for name in ("t1", "t2", "pd"))
    # No fluid holds more protons than CSF, whose density is 1.
    pd = torch.where(pd > 0, pd, 0).clamp(max=1.0)
    pd[Tissue.CSF] = 1.0
    return Body(t1, t2, pd, _varied(column("uptake", field), generator, 8 * variation), field)


def _varied(values: Tensor, generator: torch.Generator, sd: float) -> Tensor:
    return values * torch.exp(sd * torch.randn(len(values), generator=generator).clamp(-2, 2))
