"""Organs at risk of what the networks found: one piece each, on its own side, of a size and place to believe.

Plausible volumes are wide ranges about those in the sources of :mod:`synth.organs`; places are distances from
the midplane of the mean head with room for turned and large heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from imaging.grid import Grid
from imaging.resample import resample
from imaging.shapes import Mask
from imaging.volume import Quantity, Volume

from .classes import OrganClass
from .margins import expand
from .pieces import Piece, pieces, seen_from, without_holes
from .sides import Midplane, off

_SURE = 0.5  # share from which a voxel belongs to an organ
_BRIDGE = 1.5  # mm
_ABOUT = 5.0  # mm about a piece in which views may differ


@dataclass(frozen=True)
class Rule:
    """What an organ must be to be believed.

    Parameters
    ----------
    of
        Its classes.
    names
        Of AAPM TG-263: one, or those of the left and the right.
    cc
        Least and greatest volume of one (cm³).
    off
        How far its middle lies from the midplane, least and most (mm).
    """

    of: tuple[OrganClass, ...]
    names: tuple[str, ...]
    cc: tuple[float, float]
    off: tuple[float, float]


def _sided(name: str) -> tuple[str, str]:
    return f"{name}_L", f"{name}_R"


RULES = (
    Rule((OrganClass.BRAINSTEM,), ("Brainstem",), (8.0, 50.0), (0.0, 10.0)),
    Rule((OrganClass.CHIASM,), ("OpticChiasm",), (0.05, 1.5), (0.0, 9.0)),
    Rule((OrganClass.OPTIC_NERVE,), _sided("OpticNrv"), (0.15, 2.5), (4.0, 40.0)),
    Rule((OrganClass.EYE, OrganClass.LENS), _sided("Eye"), (4.0, 14.0), (20.0, 48.0)),
    Rule((OrganClass.LENS,), _sided("Lens"), (0.05, 0.6), (20.0, 48.0)),
    Rule((OrganClass.COCHLEA,), _sided("Cochlea"), (0.02, 0.6), (12.0, 38.0)),
    Rule((OrganClass.HIPPOCAMPUS,), _sided("Hippocampus"), (0.8, 8.0), (10.0, 45.0)),
    Rule((OrganClass.PITUITARY,), ("Pituitary",), (0.1, 2.0), (0.0, 9.0)),
    Rule((OrganClass.LACRIMAL,), _sided("Glnd_Lacrimal"), (0.1, 2.0), (28.0, 58.0)),
)


@dataclass(frozen=True, eq=False)
class Found:
    """What became of the organs.

    Parameters
    ----------
    masks
        By name, on the scan's grid.
    agreement
        Of each, how alike the head and its mirror image were contoured (0 to 1).
    missing
        Why each of the others has no contour, clauses by name.
    doubts
        What is not as it should be of those that have one, clauses by name.
    """

    masks: Mapping[str, Mask]
    agreement: Mapping[str, float]
    missing: Mapping[str, str]
    doubts: Mapping[str, str]


def organs(there: Volume, back: Volume, plane: Midplane, grid: Grid) -> Found:
    """Contours of the small organs.

    Parameters
    ----------
    there, back
        Probability of each :class:`planning.contour.classes.OrganClass`, of the head and of its mirror image,
        as :func:`planning.contour.nets.shares` gives them.
    plane
        Between the halves of the head.
    grid
        Where the contours are wanted.

    Raises
    ------
    ValueError
        If a volume holds no probabilities.
    """
    first, second = (v.expect(Quantity.PROBABILITY).data for v in (there, back))
    masks: dict[str, Mask] = {}
    agreement: dict[str, float] = {}
    missing: dict[str, str] = {}
    doubts: dict[str, str] = {}
    away = off(plane, there.grid)
    for rule in RULES:
        channels = [int(c) for c in rule.of]
        views = first[channels].sum(dim=0), second[channels].sum(dim=0)
        share = (views[0] + views[1]) / 2
        for name, side in zip(rule.names, (1.0, -1.0) if len(rule.names) > 1 else (0.0,), strict=True):
            own = share > _SURE
            own = own & (side * away > 0) if side else own
            piece = _believable(own, rule, plane, there.grid)
            if piece is None:
                missing[name] = "is not seen" if not own.any() else "is not seen where it should be"
                continue
            if piece.cc < rule.cc[0]:
                missing[name] = f"is seen as {piece.cc:.2f} cm³ alone, where {rule.cc[0]:g} are the least"
                continue
            if piece.cc > rule.cc[1]:
                doubts[name] = f"has {piece.cc:.1f} cm³, where {rule.cc[1]:g} are the most"
            masks[name] = on_grid(share, piece.mask, there, grid)
            about = expand(piece.mask, there.grid, _ABOUT)
            agreement[name] = agreed(*(v * about for v in views))
            if not masks[name].any():
                del masks[name], agreement[name]
                missing[name] = "is smaller than the voxels of the scan"
    return Found(masks, agreement, missing, doubts)


def on_grid(share: Tensor, piece: Mask, of: Volume, grid: Grid) -> Bool[Tensor, "_ _ _"]:
    """A piece on another grid, its border where its share is half: between voxels, not on them."""
    out = torch.zeros(grid.shape, dtype=torch.bool)
    seen = seen_from(piece, of.grid, grid)
    if seen is not None:
        window, part = seen
        kept = torch.where(_room(piece, of.grid), share, 0.0)
        there = resample(Volume(kept[None], of.grid, Quantity.PROBABILITY, of.frame), part).data[0] > _SURE
        out[window] = without_holes(there)
    return out


def _room(piece: Mask, grid: Grid) -> Mask:
    """A piece and the voxels about it, in which its share falls to nothing."""
    return expand(piece, grid, 1.01 * float(np.max(grid.spacing)))


def agreed(one: torch.Tensor, other: torch.Tensor) -> float:
    """Overlap of two fields of shares (soft Dice): twice the least of both over their sum."""
    return float(2 * torch.minimum(one, other).sum() / (one + other).sum().clamp(min=1e-6))


def _believable(mask: Mask, rule: Rule, plane: Midplane, grid: Grid) -> Piece | None:
    """The largest piece whose middle lies where the organ may; None where none does."""
    for piece in pieces(mask, grid, _BRIDGE):
        if rule.off[0] <= abs(float((piece.middle - plane.point) @ plane.normal)) <= rule.off[1]:
            return piece
    return None
