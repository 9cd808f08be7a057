"""Structures of a clinic's own, by a network of its contours: a piece each, or one on each side."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from imaging.grid import Grid
from imaging.shapes import Mask
from imaging.volume import Volume

from .margins import expand
from .nets import ContourNet, shares
from .organs import agreed, on_grid
from .pieces import Piece, pieces
from .sides import Midplane

_SURE = 0.5
_BRIDGE = 1.5  # mm
_ABOUT = 5.0  # mm about a piece in which views may differ
_LEAST_CC = 0.01
_AS_LARGE = 1 / 3  # of the larger one: less is no second one of a pair


@dataclass(frozen=True, eq=False)
class Own:
    """What a network of a clinic's own found.

    Parameters
    ----------
    masks
        By name, on the scan's grid; with ``_L`` and ``_R`` where there is one on each side.
    agreement
        Of each, how alike the head and its mirror image were contoured (0 to 1).
    missing
        Why each of the others has no contour, clauses by name.
    """

    masks: Mapping[str, Mask]
    agreement: Mapping[str, float]
    missing: Mapping[str, str]


def own_structures(mr: Volume, net: nn.Module, config: ContourNet, plane: Midplane, grid: Grid) -> Own:
    """Contours of a network whose classes are any structures, ``none`` first, with both sides as one.

    A structure is its largest piece; where another lies on the other side of the head and has a third of its
    volume or more, the two are a pair.

    Parameters
    ----------
    mr
        As :func:`planning.contour.nets.shares` takes it.
    net, config
        The network, and what it was trained with.
    plane
        Between the halves of the head.
    grid
        Where the contours are wanted.
    """
    there, back = shares(mr, net, config)
    mean = (there.data + back.data) / 2
    masks: dict[str, Mask] = {}
    agreement: dict[str, float] = {}
    missing: dict[str, str] = {}
    for n, name in enumerate(config.classes.names[1:], start=1):
        found = _called(name, mean[n] > _SURE, plane, there.grid)
        for called, piece in found.items():
            drawn = on_grid(mean[n], piece.mask, there, grid)
            if drawn.any():
                about = expand(piece.mask, there.grid, _ABOUT)
                masks[called], agreement[called] = drawn, agreed(there.data[n] * about, back.data[n] * about)
        if not any(called in masks for called in found):
            missing[name] = "is not seen"
    return Own(masks, agreement, missing)


def _called(name: str, mask: torch.Tensor, plane: Midplane, grid: Grid) -> dict[str, Piece]:
    """The piece of a structure by its name, or those of both sides by theirs."""
    first: Piece | None = None
    for piece in pieces(mask, grid, _BRIDGE):
        if piece.cc < _LEAST_CC or (first is not None and piece.cc < _AS_LARGE * first.cc):
            break
        if first is None:
            first = piece
        elif _side(first, plane) != _side(piece, plane):
            return {f"{name}{_side(p, plane)}": p for p in (first, piece)}
    return {} if first is None else {name: first}


def _side(piece: Piece, plane: Midplane) -> str:
    return "_L" if float((piece.middle - plane.point) @ plane.normal) > 0 else "_R"
