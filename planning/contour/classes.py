"""What the contouring networks tell apart, and how tissues and organs of label maps become it.

Sides are told by where an organ lies, never by a network: it sees mirrored heads as often as others, so that
left and right cannot be swapped by what it learnt.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from imaging.organ import Organ
from imaging.tissue import BONE, Tissue

CONTRASTS = ("t1", "t1c", "t2", "flair")  # channels of the networks; what is missing is 0


class HeadClass(IntEnum):
    """What the network of whole heads tells apart."""

    OUTSIDE = 0
    SOFT = 1
    BONE = 2
    AIR = 3
    FLUID = 4
    BRAIN = 5
    BRAINSTEM = 6
    EYE = 7
    CORE = 8  # necrosis, and tumour that does not enhance (BraTS: NCR, or NETC)
    ENHANCING = 9
    OEDEMA = 10
    CAVITY = 11  # left by a resection


class OrganClass(IntEnum):
    """What the network of small organs tells apart."""

    NONE = 0
    BRAINSTEM = 1
    CHIASM = 2
    OPTIC_NERVE = 3
    EYE = 4
    LENS = 5
    COCHLEA = 6
    HIPPOCAMPUS = 7
    PITUITARY = 8
    LACRIMAL = 9


HEAD_OF: dict[Tissue, HeadClass] = {
    Tissue.OUTSIDE: HeadClass.OUTSIDE,
    **dict.fromkeys((Tissue.SCALP, Tissue.FAT, Tissue.GLAND, Tissue.FLUID, Tissue.NERVE), HeadClass.SOFT),
    **dict.fromkeys((*BONE, Tissue.METAL), HeadClass.BONE),
    **dict.fromkeys((Tissue.CSF, Tissue.DURA, Tissue.SHUNT), HeadClass.FLUID),
    **dict.fromkeys((Tissue.GREY, Tissue.WHITE), HeadClass.BRAIN),
    **dict.fromkeys((Tissue.EYE, Tissue.LENS), HeadClass.EYE),
    **dict.fromkeys((Tissue.NECROSIS, Tissue.INFILTRATION), HeadClass.CORE),
    Tissue.AIR: HeadClass.AIR,
    Tissue.BRAINSTEM: HeadClass.BRAINSTEM,
    Tissue.ENHANCING: HeadClass.ENHANCING,
    Tissue.OEDEMA: HeadClass.OEDEMA,
    Tissue.CAVITY: HeadClass.CAVITY,
}
ORGAN_OF: dict[Organ, OrganClass] = {
    Organ.CHIASM: OrganClass.CHIASM,
    Organ.OPTIC_NERVE_L: OrganClass.OPTIC_NERVE,
    Organ.OPTIC_NERVE_R: OrganClass.OPTIC_NERVE,
    Organ.EYE_L: OrganClass.EYE,
    Organ.EYE_R: OrganClass.EYE,
    Organ.LENS_L: OrganClass.LENS,
    Organ.LENS_R: OrganClass.LENS,
    Organ.COCHLEA_L: OrganClass.COCHLEA,
    Organ.COCHLEA_R: OrganClass.COCHLEA,
    Organ.HIPPOCAMPUS_L: OrganClass.HIPPOCAMPUS,
    Organ.HIPPOCAMPUS_R: OrganClass.HIPPOCAMPUS,
    Organ.PITUITARY: OrganClass.PITUITARY,
    Organ.LACRIMAL_L: OrganClass.LACRIMAL,
    Organ.LACRIMAL_R: OrganClass.LACRIMAL,
}

Labels = UInt8[Tensor, "*shape"]


@dataclass(frozen=True)
class Classes:
    """The classes of one network.

    Parameters
    ----------
    names
        In the order of the network's channels.
    of_tissue
        Class of each tissue that has one; 0 of the others.
    of_organ
        Class of each organ that has one; it wins over that of its tissue.
    weight
        Of each class in the cross-entropy: rare ones that a plan depends on weigh more.
    least
        Voxels of a training sample that a class must have for its overlap to count.
    """

    names: tuple[str, ...]
    of_tissue: Mapping[Tissue, int]
    of_organ: Mapping[Organ, int] = field(default_factory=dict)
    weight: tuple[float, ...] = ()
    least: float = 1.0

    def wanted(self, labels: Labels, organs: Labels | None = None) -> Int64[Tensor, "*shape"]:
        """The class of each voxel of a label map.

        Raises
        ------
        ValueError
            If classes are organs and none are given.
        """
        out = _table(self.of_tissue, len(Tissue), labels)[labels.long()]
        if not self.of_organ:
            return out
        if organs is None:
            raise ValueError("expected organs beside tissues for a network of organs, got none")
        of = _table(self.of_organ, max(Organ) + 1, labels)[organs.long()]
        return torch.where(of > 0, of, out)

    def only(self, organs: Labels) -> Labels:
        """Organs of which a class is made, 0 elsewhere, of heads of shape ``(n, i, j, k)``."""
        table = torch.zeros(max(Organ) + 1, dtype=torch.uint8, device=organs.device)
        table[[int(organ) for organ in self.of_organ]] = 1
        return torch.stack([head * table[head.int()] for head in organs])


HEAD = Classes(
    tuple(c.name.lower() for c in HeadClass),
    HEAD_OF,
    weight=(0.5, 1.0, 2.0, 2.0, 1.5, 1.0, 1.5, 2.0, 2.0, 2.0, 1.5, 2.0),
    least=1000.0,
)
ORGANS = Classes(
    tuple(c.name.lower() for c in OrganClass),
    {Tissue.BRAINSTEM: OrganClass.BRAINSTEM},
    ORGAN_OF,
    weight=(1.0, 1.5, 4.0, 4.0, 2.0, 4.0, 4.0, 3.0, 4.0, 4.0),
    least=40.0,
)


def _table(of: Mapping[Tissue, int] | Mapping[Organ, int], n: int, like: Tensor) -> Int64[Tensor, " n"]:
    table = torch.zeros(n, dtype=torch.long, device=like.device)
    for key, value in of.items():
        table[int(key)] = int(value)
    return table
