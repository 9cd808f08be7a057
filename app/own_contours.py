"""Structures that a clinic trained a network of its own for, beside those of the networks that ship."""

from dataclasses import replace
from pathlib import Path

import torch

from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Volume
from planning.contour.convert import Contoured
from planning.contour.own import own_structures
from planning.contour.sides import midplane

from .contour_nets import read_own

_COLORS = ((0, 150, 136), (205, 220, 57), (121, 85, 72), (233, 30, 99), (63, 81, 181), (255, 193, 7))


def with_own(
    drawn: StructureSet, made: Contoured, shown: Volume, path: Path, device: str
) -> tuple[StructureSet, Contoured]:
    """Contours with those of a network of one's own, which take no name that is there already.

    Raises
    ------
    ValueError
        If the file is no such network, or draws a structure that is there.
    """
    net, config = read_own(path, device)
    eyes = [made.masks[name] for name in ("Eye_L", "Eye_R") if name in made.masks]
    seen = torch.stack(eyes).any(dim=0) if eyes else torch.zeros_like(made.masks["Brain"])
    found = own_structures(shown, net, config, midplane(seen, made.masks["Brain"], drawn.grid), drawn.grid)
    if there := sorted({*found.masks} & {*drawn.structures, *made.masks}):
        raise ValueError(
            f"expected structures of one's own by new names, got {there[0]}, which is there already"
        )
    more = {
        name: Structure(mask, RoiType.ORGAN, _COLORS[n % len(_COLORS)])
        for n, (name, mask) in enumerate(found.masks.items())
    }
    told = replace(
        made,
        masks={**made.masks, **found.masks},
        agreement={**made.agreement, **found.agreement},
        missing={**made.missing, **found.missing},
    )
    return StructureSet(drawn.grid, {**drawn.structures, **more}, drawn.frame), told
