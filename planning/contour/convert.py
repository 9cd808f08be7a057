"""Contours of one head from its MRI: the two networks, one after the other, and what their answers become."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from imaging.brats import ED, ET, NCR, RC
from imaging.resample import resample
from imaging.shapes import Mask
from imaging.volume import Quantity, Volume

from .classes import HeadClass
from .head import TUMOUR, organ_box, tissues, tumour
from .nets import HEAD_NET, ORGAN_NET, ContourNet, shares
from .organs import agreed, organs
from .prior import contours
from .sides import midplane

_WHOLE = ("Body", "Brain", "Skull")  # drawn from the network of heads
_INSTEAD = ("Brainstem", "Eye_L", "Eye_R")  # so, where the network of organs does not show them
_OF: dict[str, tuple[HeadClass, ...]] = {
    "Body": tuple(c for c in HeadClass if c is not HeadClass.OUTSIDE),
    "Brain": (HeadClass.BRAIN, HeadClass.BRAINSTEM, HeadClass.FLUID, *TUMOUR),
    "Skull": (HeadClass.BONE,),
    "Brainstem": (HeadClass.BRAINSTEM,),
    "Eye_L": (HeadClass.EYE,),
    "Eye_R": (HeadClass.EYE,),
}
_PARTS = {"GTV": (NCR, ET, RC), "Oedema": (ED,), "Cavity": (RC,)}
_PART_CLASSES = {
    "GTV": (HeadClass.CORE, HeadClass.ENHANCING, HeadClass.CAVITY),
    "Oedema": (HeadClass.OEDEMA,),
    "Cavity": (HeadClass.CAVITY,),
}


@dataclass(frozen=True, eq=False)
class Contoured:
    """One head's contours.

    Parameters
    ----------
    masks
        By TG-263 name, on the MRI's grid.
    tumour
        Labels of BraTS (NCR 1, ED 2, ET 3, RC 4), all 0 where no tumour was found.
    agreement
        Of each mask, how alike the head and its mirror image were contoured (0 to 1).
    missing
        Why organs have no contour, clauses by name.
    doubts
        What is not as it should be of contours, clauses by name.
    """

    masks: Mapping[str, Mask]
    tumour: Volume
    agreement: Mapping[str, float]
    missing: Mapping[str, str]
    doubts: Mapping[str, str]


def contoured(
    mr: Volume,
    head_net: nn.Module,
    organ_net: nn.Module,
    head_config: ContourNet = HEAD_NET,
    organ_config: ContourNet = ORGAN_NET,
) -> Contoured:
    """Body, brain, skull, organs at risk and tumour of one head.

    The network of heads looks at all of it and finds the tumour, eyes and brainstem; that of organs looks
    closely at the box about these. Both see the head and its mirror image.

    Parameters
    ----------
    mr
        MR signal of one head, shape ``(c, i, j, k)``: :data:`planning.contour.classes.CONTRASTS`, 0 where one
        was not taken.
    head_net, organ_net
        Trained networks.
    head_config, organ_config
        What they were trained with.

    Raises
    ------
    ValueError
        If the volume is not such MR signal, or no head or no brain is found in it.
    """
    views = shares(mr, head_net, head_config)
    share = _mean(views)
    drawn = contours(tissues(share))
    whole = {
        name: resample(Volume(s.mask[None].float(), share.grid, Quantity.PROBABILITY), mr.grid).data[0] > 0.5
        for name, s in drawn.structures.items()
    }
    box = organ_box(share)
    close = shares(mr, organ_net, organ_config, box)
    eyes = share.data[int(HeadClass.EYE)] > 0.5
    found = organs(*close, midplane(eyes, drawn.mask("Brain"), share.grid), mr.grid)
    labels = tumour(share, drawn.mask("Brain"), mr.grid)
    parts = {name: _any(labels, numbers) for name, numbers in _PARTS.items()}
    parts = {name: mask for name, mask in parts.items() if mask.any()}
    instead = [name for name in _INSTEAD if name in whole and name not in found.masks]
    own = {name: whole[name] for name in (*_WHOLE, *instead) if name in whole}
    agreement = {
        **{name: _agreement(views, _OF[name]) for name in own},
        **{name: _agreement(views, _PART_CLASSES[name]) for name in parts},
        **found.agreement,
    }
    missing = {name: why for name, why in found.missing.items() if name not in instead}
    doubts = {**found.doubts, **dict.fromkeys(instead, "is drawn from the whole head at 1.5 mm alone")}
    return Contoured({**own, **parts, **found.masks}, labels, agreement, missing, doubts)


def _mean(views: tuple[Volume, Volume]) -> Volume:
    there, back = views
    return Volume((there.data + back.data) / 2, there.grid, Quantity.PROBABILITY, there.frame)


def _agreement(views: tuple[Volume, Volume], classes: tuple[HeadClass, ...]) -> float:
    one, other = (v.data[[int(c) for c in classes]].sum(dim=0) for v in views)
    return agreed(one, other)


def _any(labels: Volume, numbers: tuple[int, ...]) -> Mask:
    return torch.isin(labels.data[0], torch.tensor(numbers, dtype=torch.uint8))
