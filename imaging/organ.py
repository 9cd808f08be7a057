"""Organs at risk that no tissue label tells apart, numbered once for every organ map that travels."""

from enum import IntEnum


class Organ(IntEnum):
    """Organ of a voxel; each voxel belongs to one at the most. Left is the patient's."""

    NONE = 0
    CHIASM = 1
    OPTIC_NERVE_L = 2
    OPTIC_NERVE_R = 3
    OPTIC_TRACT_L = 4
    OPTIC_TRACT_R = 5
    EYE_L = 6  # without its lens
    EYE_R = 7
    LENS_L = 8
    LENS_R = 9
    COCHLEA_L = 10
    COCHLEA_R = 11
    HIPPOCAMPUS_L = 12
    HIPPOCAMPUS_R = 13
    PITUITARY = 14
    LACRIMAL_L = 15
    LACRIMAL_R = 16
    MANDIBLE = 17


# Names of AAPM TG-263 (Mayo et al., Int. J. Radiat. Oncol. Biol. Phys. 100, 1057 (2018)).
NAMES: dict[str, tuple[Organ, ...]] = {
    "OpticChiasm": (Organ.CHIASM,),
    "OpticNrv_L": (Organ.OPTIC_NERVE_L,),
    "OpticNrv_R": (Organ.OPTIC_NERVE_R,),
    "OpticTract_L": (Organ.OPTIC_TRACT_L,),
    "OpticTract_R": (Organ.OPTIC_TRACT_R,),
    "Eye_L": (Organ.EYE_L, Organ.LENS_L),
    "Eye_R": (Organ.EYE_R, Organ.LENS_R),
    "Lens_L": (Organ.LENS_L,),
    "Lens_R": (Organ.LENS_R,),
    "Cochlea_L": (Organ.COCHLEA_L,),
    "Cochlea_R": (Organ.COCHLEA_R,),
    "Hippocampus_L": (Organ.HIPPOCAMPUS_L,),
    "Hippocampus_R": (Organ.HIPPOCAMPUS_R,),
    "Pituitary": (Organ.PITUITARY,),
    "Glnd_Lacrimal_L": (Organ.LACRIMAL_L,),
    "Glnd_Lacrimal_R": (Organ.LACRIMAL_R,),
    "Bone_Mandible": (Organ.MANDIBLE,),
}
