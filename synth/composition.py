"""What tissues are made of, and the electrons, mass and Hounsfield units that follow from it.

A CT number and a composition leave one density open; mass and electrons follow exactly. So the table
of CT numbers (`synth.tissues`) is the only thing chosen, and HU, electron density and mass density
agree by the stoichiometric relation of Schneider, Bortfeld & Schlegel, Phys. Med. Biol. 45, 459
(2000).

Sources
-------
icru44
    ICRU Report 44 (1989), app. A: soft tissues, cortical bone, air.
icru46
    ICRU Report 46 (1992): marrow, lens.
white
    Woodard & White, Br. J. Radiol. 59, 1209 (1986): grey and white matter, CSF, connective tissue.
icrp110
    ICRP Publication 110 (2009), table B.1: teeth.

Muscle, adipose tissue, skin and cortical bone were checked against a copy of the tables; the other rows
and the constants k1, k2 are from memory, unverified.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from imaging.tissue import Tissue

from .tissues import PROPERTIES

Composition = Mapping[str, float]

# Atomic number and standard atomic weight: IUPAC.
ELEMENTS: dict[str, tuple[int, float]] = {
    "H": (1, 1.008),
    "C": (6, 12.011),
    "N": (7, 14.007),
    "O": (8, 15.999),
    "Na": (11, 22.990),
    "Mg": (12, 24.305),
    "Si": (14, 28.085),
    "P": (15, 30.974),
    "S": (16, 32.06),
    "Cl": (17, 35.45),
    "Ar": (18, 39.95),
    "K": (19, 39.098),
    "Ca": (20, 40.078),
    "Ti": (22, 47.867),
    "Fe": (26, 55.845),
    "Au": (79, 196.967),
}

# Mass fractions.
WATER: Composition = {"H": 0.1119, "O": 0.8881}
AIR: Composition = {"N": 0.755, "O": 0.232, "Ar": 0.013}  # icru44
MUSCLE: Composition = {
    "H": 0.102, "C": 0.143, "N": 0.034, "O": 0.710, "Na": 0.001, "P": 0.002, "S": 0.003, "Cl": 0.001,
    "K": 0.004,
}  # icru44  # fmt: skip
ADIPOSE: Composition = {
    "H": 0.114, "C": 0.598, "N": 0.007, "O": 0.278, "Na": 0.001, "S": 0.001, "Cl": 0.001,
}  # icru44  # fmt: skip
CORTICAL_BONE: Composition = {
    "H": 0.034, "C": 0.155, "N": 0.042, "O": 0.435, "Na": 0.001, "Mg": 0.002, "P": 0.103, "S": 0.003,
    "Ca": 0.225,
}  # icru44  # fmt: skip
MARROW: Composition = {  # red marrow
    "H": 0.105, "C": 0.414, "N": 0.034, "O": 0.439, "P": 0.001, "S": 0.002, "Cl": 0.002, "K": 0.002,
    "Fe": 0.001,
}  # icru46  # fmt: skip
GREY: Composition = {
    "H": 0.107, "C": 0.095, "N": 0.018, "O": 0.767, "Na": 0.002, "P": 0.003, "S": 0.002, "Cl": 0.003,
    "K": 0.003,
}  # white  # fmt: skip
WHITE: Composition = {
    "H": 0.106, "C": 0.194, "N": 0.025, "O": 0.661, "Na": 0.002, "P": 0.004, "S": 0.002, "Cl": 0.003,
    "K": 0.003,
}  # white  # fmt: skip
FLUID: Composition = {"H": 0.111, "O": 0.880, "Na": 0.005, "Cl": 0.004}  # white: CSF
LENS: Composition = {
    "H": 0.096, "C": 0.195, "N": 0.057, "O": 0.646, "Na": 0.001, "P": 0.001, "S": 0.003, "Cl": 0.001,
}  # icru46  # fmt: skip
CONNECTIVE: Composition = {
    "H": 0.094, "C": 0.207, "N": 0.062, "O": 0.622, "Na": 0.006, "S": 0.006, "Cl": 0.003,
}  # white  # fmt: skip
TOOTH: Composition = {
    "H": 0.022, "C": 0.095, "N": 0.029, "O": 0.421, "Mg": 0.007, "P": 0.137, "Ca": 0.289,
}  # icrp110  # fmt: skip
SILICONE: Composition = {"H": 0.0816, "C": 0.3239, "O": 0.2157, "Si": 0.3788}  # C2H6OSi
TITANIUM: Composition = {"Ti": 1.0}
GOLD: Composition = {"Au": 1.0}

WATER_DENSITY = 1.0  # g/cm³
TITANIUM_DENSITY = 4.51  # g/cm³
CROWN_DENSITY = 16.0  # g/cm³, dental gold alloys 15–18 (assumed)
_AIR_DENSITY = 0.001205  # g/cm³, 20 °C
_K1, _K2 = 1.24e-3, 3.06e-5  # Schneider et al. (2000), at 120 kV

# Bone is a mixture of compact bone and marrow, which together give its CT number, after the same paper.
COMPACT_BONE_DENSITY, MARROW_DENSITY = 1.92, 1.03  # g/cm³, icru44, icru46
MIXED = (Tissue.SKULL, Tissue.MARROW)

OF: dict[Tissue, Composition] = {
    Tissue.OUTSIDE: AIR,
    Tissue.AIR: AIR,
    Tissue.SCALP: MUSCLE,
    Tissue.FAT: ADIPOSE,
    Tissue.SKULL: CORTICAL_BONE,
    Tissue.MARROW: CORTICAL_BONE,
    Tissue.CSF: FLUID,
    Tissue.EYE: FLUID,
    Tissue.GREY: GREY,
    Tissue.WHITE: WHITE,
    Tissue.BRAINSTEM: WHITE,
    Tissue.NECROSIS: GREY,
    Tissue.OEDEMA: GREY,
    Tissue.ENHANCING: GREY,
    Tissue.LENS: LENS,
    Tissue.NERVE: WHITE,
    Tissue.GLAND: MUSCLE,
    Tissue.TOOTH: TOOTH,
    Tissue.FLUID: FLUID,
    Tissue.INFILTRATION: GREY,
    Tissue.CAVITY: FLUID,
    Tissue.METAL: TITANIUM,
    Tissue.DURA: CONNECTIVE,
    Tissue.SHUNT: SILICONE,
}

Values = Float[Tensor, "*n"]


def electrons_per_mass(composition: Composition) -> float:
    """Electrons per gram relative to water's."""
    return _sum(composition, 1.0) / _sum(WATER, 1.0)


def attenuation_per_mass(composition: Composition) -> float:
    """Attenuation per gram of the beam of a CT at 120 kV, relative to water's (Schneider et al.).

    Above calcium the parametrisation was never meant to hold.
    """

    def total(of: Composition) -> float:
        return _sum(of, 1.0) + _K1 * _sum(of, 2.86) + _K2 * _sum(of, 4.62)

    return total(composition) / total(WATER)


def electron_density(composition: Composition, density: float) -> float:
    """Electrons per volume relative to water's, of a material of so many g/cm³."""
    return density * electrons_per_mass(composition) / WATER_DENSITY


def hounsfield(composition: Composition, density: float) -> float:
    """CT number (HU) of a material of so many g/cm³ at 120 kV."""
    return 1000 * (density * attenuation_per_mass(composition) / WATER_DENSITY - 1)


def mass_density(tissue: Tissue, hu: Values) -> Values:
    """Density (g/cm³) at which a tissue has these CT numbers."""
    if tissue in MIXED:
        compact = _compact(hu)
        return compact * COMPACT_BONE_DENSITY + (1 - compact) * MARROW_DENSITY
    if OF[tissue] is AIR:
        return torch.full_like(hu, _AIR_DENSITY)
    if tissue is Tissue.METAL:
        return torch.full_like(hu, TITANIUM_DENSITY)
    return (1 + hu / 1000) * WATER_DENSITY / attenuation_per_mass(OF[tissue])


def relative_electron_density(tissue: Tissue, hu: Values) -> Values:
    """Electron density relative to water at which a tissue has these CT numbers."""
    if tissue in MIXED:
        compact = _compact(hu)
        bone = electron_density(CORTICAL_BONE, COMPACT_BONE_DENSITY)
        return compact * bone + (1 - compact) * electron_density(MARROW, MARROW_DENSITY)
    return mass_density(tissue, hu) * electrons_per_mass(OF[tissue]) / WATER_DENSITY


def mean_hu() -> Values:
    """CT number of every tissue, by label."""
    out = torch.full((max(Tissue) + 1,), -1000.0)
    for tissue, properties in PROPERTIES.items():
        out[tissue] = properties.hu
    return out


def _compact(hu: Values) -> Values:
    """Share of compact bone in bone of these CT numbers; above compact bone's own it exceeds 1."""
    low = hounsfield(MARROW, MARROW_DENSITY)
    return (hu - low) / (hounsfield(CORTICAL_BONE, COMPACT_BONE_DENSITY) - low)


def _sum(composition: Composition, power: float) -> float:
    return sum(share / ELEMENTS[e][1] * ELEMENTS[e][0] ** power for e, share in composition.items())
