"""Synthetic CTs that need no network: what a learned one must beat.

All water; a true CT with one number for each class (bulk density), which is the best that perfect contours
of those classes could give; and from the MRI alone, once an anatomy is registered to it, the same classes as
its tissues, and an atlas. Numbers are those of :mod:`mr2ct.bulk`.
"""

import torch

from imaging.resample import resample
from imaging.shapes import Mask
from imaging.tissue import BONE, Tissue
from imaging.tissue_maps import N_TISSUES
from imaging.volume import Quantity, Volume

from .bulk import AIR_HU, BULK_HU

AIR_BELOW, FAT_BELOW, BONE_ABOVE = -300.0, -30.0, 150.0  # HU, of a true CT inside the body
_WATER, _FAT, _SOFT, _BONE = 0.0, -76.0, 36.0, 1002.0  # between brain and muscle; the whole cranium
_FEW = 1e-3  # probability beside which a prior that sees nothing but outside is skin


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


def three_classes_of_tissues(tissues: Volume) -> Volume:
    """Air, soft tissue and bone, one number each, of a label map (:class:`imaging.tissue.Tissue`)."""
    labels = tissues.expect(Quantity.LABEL).data[0]
    bone = torch.isin(labels, torch.tensor(BONE, dtype=labels.dtype))
    air = labels == Tissue.AIR
    return _filled(tissues, [(labels != Tissue.OUTSIDE, _SOFT), (air, AIR_HU), (bone, _BONE)])


def four_classes_of_tissues(tissues: Volume) -> Volume:
    """Air, fat, soft tissue and bone, one number each, of a label map (:class:`imaging.tissue.Tissue`)."""
    fat = tissues.expect(Quantity.LABEL).data[0] == Tissue.FAT
    return _filled(three_classes_of_tissues(tissues), [(fat, _FAT)], keep=True)


def atlas(aligned: Volume, head: Volume) -> Volume:
    """CT numbers of a registered anatomy alone: of the MRI itself only the outline of the head is looked at.

    The mean of the tissues' numbers under the probability that registration gives each of them, so that
    borders are as wide as the registration may be off.

    Parameters
    ----------
    aligned
        Probability of each tissue, channel t for ``Tissue(t)``, as :func:`imaging.register.fit` gives.
    head
        Label 1 inside the head, on the grid of the result.

    Raises
    ------
    ValueError
        If a volume holds something else than it should.
    """
    aligned.expect(Quantity.PROBABILITY)
    if aligned.data.shape[0] != N_TISSUES:
        raise ValueError(
            f"expected a probability for each of {N_TISSUES} tissues, got {aligned.data.shape[0]} channels"
        )
    inside = head.expect(Quantity.LABEL).data[0] > 0
    share = aligned.data[1:].clone()
    share[Tissue.SCALP - 1] += _FEW
    numbers = torch.tensor([BULK_HU[Tissue(t)] for t in range(1, N_TISSUES)])
    hu = torch.einsum("t,tijk->ijk", numbers, share) / share.sum(dim=0)
    found = resample(Volume(hu[None], aligned.grid, Quantity.HU, head.frame), head.grid)
    return Volume(torch.where(inside, found.data, AIR_HU), head.grid, Quantity.HU, head.frame)


def _filled(like: Volume, parts: list[tuple[Mask, float]], *, keep: bool = False) -> Volume:
    hu = like.data[0].clone() if keep else torch.full(like.grid.shape, AIR_HU)
    for mask, value in parts:
        hu[mask] = value
    return Volume(hu[None], like.grid, Quantity.HU, like.frame)
