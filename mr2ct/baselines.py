"""Synthetic CTs that need no network: what a learned one must beat.

All water, and a true CT with one number for each class (bulk density), which is the best that perfect
contours of those classes could give. Numbers are those of :mod:`mr2ct.bulk`.
"""

import torch

from imaging.shapes import Mask
from imaging.volume import Quantity, Volume

from .bulk import AIR_HU

AIR_BELOW, FAT_BELOW, BONE_ABOVE = -300.0, -30.0, 150.0  # HU, of a true CT inside the body
_WATER, _FAT, _SOFT, _BONE = 0.0, -76.0, 36.0, 1002.0  # between brain and muscle; the whole cranium


def classes(ct: Volume, body: Mask) -> dict[str, Mask]:
    """Air, fat, soft tissue and bone inside the body, by CT number."""
    hu = ct.expect(Quantity.HU).data[0]
    return {
        "air": body & (hu < AIR_BELOW),
        "fat": body & (hu >= AIR_BELOW) & (hu < FAT_BELOW),
        "soft tissue": body & (hu >= FAT_BELOW) & (hu < BONE_ABOVE),
        "bone": body & (hu >= BONE_ABOVE),
    }


def water(body: Mask, like: Volume) -> Volume:
    """Water in the body, air outside."""
    return _filled(like, [(body, _WATER)])


def three_classes(ct: Volume, body: Mask) -> Volume:
    """Air, soft tissue and bone of a true CT, one number each."""
    part = classes(ct, body)
    return _filled(ct, [(body, _SOFT), (part["air"], AIR_HU), (part["bone"], _BONE)])


def four_classes(ct: Volume, body: Mask) -> Volume:
    """Air, fat, soft tissue and bone of a true CT, one number each."""
    fat = classes(ct, body)["fat"]
    return _filled(three_classes(ct, body), [(fat, _FAT)], keep=True)


def _filled(like: Volume, parts: list[tuple[Mask, float]], *, keep: bool = False) -> Volume:
    hu = like.data[0].clone() if keep else torch.full(like.grid.shape, AIR_HU)
    for mask, value in parts:
        hu[mask] = value
    return Volume(hu[None], like.grid, Quantity.HU, like.frame)
