"""One contour of several readers': by their votes, or weighed by how far each can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from .grid import Grid
from .shapes import Mask
from .sitk import from_sitk, to_sitk
from .volume import Quantity, Volume


@dataclass(frozen=True, eq=False)
class Staple:
    """A consensus, and how well each reader finds its inside (sensitivity) and outside (specificity)."""

    mask: Mask
    sensitivities: tuple[float, ...]
    specificities: tuple[float, ...]


def majority(masks: Sequence[Mask]) -> Mask:
    """Voxels that more than half of the readers have inside; a tie is outside."""
    some = _some(masks)
    return 2 * torch.stack(some).sum(dim=0) > len(some)


def staple(masks: Sequence[Mask]) -> Staple:
    """Voxels more probably inside than not, by STAPLE (Warfield, IEEE TMI 23, 903 (2004)), of SimpleITK.

    It weighs in how much outside there is, so what it gives depends on the region that masks are cut to.
    """
    some = _some(masks)
    if all(torch.equal(mask, some[0]) for mask in some):
        sure = (1.0,) * len(some)
        return Staple(some[0], sure, sure)
    shape = some[0].shape
    grid = Grid((shape[0], shape[1], shape[2]), np.eye(4))
    voting = sitk.STAPLEImageFilter()
    voting.SetForegroundValue(1)
    images = [to_sitk(Volume(mask[None].byte(), grid, Quantity.LABEL)) for mask in some]
    probable = from_sitk(voting.Execute(images), Quantity.PROBABILITY).data[0]
    return Staple(probable > 0.5, tuple(voting.GetSensitivity()), tuple(voting.GetSpecificity()))


def _some(masks: Sequence[Mask]) -> list[Mask]:
    if not masks:
        raise ValueError("expected the contours of one reader or more, got none")
    return list(masks)
