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
    LENS = 14
    NERVE = 15  # optic nerves, chiasm and tracts
    GLAND = 16  # pituitary and lacrimal glands
    TOOTH = 17
    FLUID = 18  # mucus or fluid in a sinus or mastoid
    INFILTRATION = 19  # tumour that does not enhance
    CAVITY = 20  # left by a resection
    METAL = 21
    DURA = 22  # falx, tentorium and dura mater
    SHUNT = 23  # silicone of a catheter


BRAIN = (
    Tissue.GREY,
    Tissue.WHITE,
    Tissue.BRAINSTEM,
    Tissue.NECROSIS,
    Tissue.OEDEMA,
    Tissue.ENHANCING,
    Tissue.INFILTRATION,
)
BONE = (Tissue.SKULL, Tissue.MARROW, Tissue.TOOTH)
TUMOUR = (Tissue.NECROSIS, Tissue.OEDEMA, Tissue.ENHANCING, Tissue.INFILTRATION)

# What each tissue counts as where only the first fourteen are told apart.
SIMPLER: dict[Tissue, Tissue] = {
    Tissue.LENS: Tissue.EYE,
    Tissue.NERVE: Tissue.WHITE,
    Tissue.GLAND: Tissue.SCALP,
    Tissue.TOOTH: Tissue.SKULL,
    Tissue.FLUID: Tissue.SCALP,
    Tissue.INFILTRATION: Tissue.OEDEMA,
    Tissue.CAVITY: Tissue.CSF,
    Tissue.METAL: Tissue.SKULL,
    Tissue.DURA: Tissue.CSF,
    Tissue.SHUNT: Tissue.CSF,
}
