"""The tissues of a head, numbered once for every label map that travels."""

from enum import IntEnum


class Tissue(IntEnum):
    """Tissue of a voxel. 0 to 6 are numbered as in the Colin27 label map of MCX."""

    OUTSIDE = 0
    SCALP = 1
    SKULL = 2
    CSF = 3
    GREY = 4
    WHITE = 5
    AIR = 6
    EYE = 7
    BRAINSTEM = 8
    NECROSIS = 9
    OEDEMA = 10
    ENHANCING = 11
    MARROW = 12
    FAT = 13


BRAIN = (Tissue.GREY, Tissue.WHITE, Tissue.BRAINSTEM, Tissue.NECROSIS, Tissue.OEDEMA, Tissue.ENHANCING)
BONE = (Tissue.SKULL, Tissue.MARROW)
TUMOUR = (Tissue.NECROSIS, Tissue.OEDEMA, Tissue.ENHANCING)
