"""Settings of a network in a study's words, none of which is trusted before it is looked at."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from models.unet import MULTIPLE, UNetConfig

_SIDE = 160  # voxels of a sample or window, at the most
_SPACING = (0.5, 8.0)  # mm of a voxel

Shape = tuple[int, int, int]


def expect_words(told: Mapping[str, Any], known: Mapping[str, type]) -> None:
    """Refuses words that are unknown, or of another kind.

    Raises
    ------
    ValueError
        If there is one.
    """
    if told.keys() - known.keys():
        raise ValueError(f"expected {', '.join(known)} under [model] of this task's study, got others")
    kinds = {word: (int, float) if of is float else (of,) for word, of in known.items()}
    if any(type(value) not in kinds[word] for word, value in told.items()):
        raise ValueError("expected another kind of value under [model] of this task's study")


def shape_of(told: Mapping[str, Any], word: str, usual: Shape) -> Shape:
    """Three sides (voxels) that a U-Net takes.

    Raises
    ------
    ValueError
        If they are others.
    """
    sides = told.get(word, list(usual))
    whole = all(type(n) is int and 0 < n <= _SIDE and n % MULTIPLE == 0 for n in sides)
    # Of one place alone in the deepest level instance norm has no deviation.
    if len(sides) != 3 or not whole or max(sides) == MULTIPLE:
        raise ValueError(
            f"expected three sides of {MULTIPLE} to {_SIDE} voxels, whole times {MULTIPLE} and one of them "
            f"twice or more, for {word} of a study, got others"
        )
    return sides[0], sides[1], sides[2]


def spacing_of(told: Mapping[str, Any], usual: float) -> float:
    """Side of a network's voxel (mm).

    Raises
    ------
    ValueError
        If it is none that a head is learnt on.
    """
    spacing = float(told.get("spacing", usual))
    if not _SPACING[0] <= spacing <= _SPACING[1]:
        raise ValueError(f"expected a spacing of {_SPACING[0]} to {_SPACING[1]} mm in a study, got another")
    return spacing


def unet_of(told: Mapping[str, Any], usual: UNetConfig) -> UNetConfig:
    """A U-Net of the usual inputs and outputs, and otherwise as it is told.

    Raises
    ------
    ValueError
        If a word is unknown, or there is no such network.
    """
    free = {f.name for f in fields(UNetConfig)} - {"inputs", "outputs"}
    if told.keys() - free:
        raise ValueError(f"expected {', '.join(sorted(free))} of a network in a study, got others")
    return UNetConfig.of({**usual.as_json(), **told})
