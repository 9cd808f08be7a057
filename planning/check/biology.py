"""Probabilities of complications and of tumour control, by published models with published parameters.

They rank plans for one patient; none of them is a prediction for a patient. What a number means is said by
the parameters: the end point, the fractionation and the patients they were fitted to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, ndtr

from .dvh import Dvh
from .indices import geud

_BURMAN = (
    "Burman et al., Int. J. Radiat. Oncol. Biol. Phys. 21, 123 (1991), fitted by eye to the tolerances of "
    "Emami et al., ibid. 21, 109 (1991)"
)
_GAY = "Gay and Niemierko, Phys. Med. 23, 115 (2007), after Emami et al. (1991)"


@dataclass(frozen=True)
class Lyman:
    """What the Lyman–Kutcher–Burman model needs of an organ.

    Parameters
    ----------
    n
        Volume effect: 1 for the mean dose, towards 0 for the maximum.
    m
        Slope: the standard deviation of the tolerance over its middle.
    td50_gy
        Uniform dose to the whole organ (Gy, in fractions of about 2 Gy) at which half have the end point.
    end_point
        The complication.
    source
        Where the numbers are published.
    """

    n: float
    m: float
    td50_gy: float
    end_point: str
    source: str


@dataclass(frozen=True)
class Logistic:
    """What Niemierko's model needs of an organ or a tumour.

    Parameters
    ----------
    a
        Volume effect of the gEUD; negative for tumours.
    gamma50
        Slope: percent of probability for one percent of dose, at the middle.
    d50_gy
        gEUD (Gy, in fractions of about 2 Gy) at which the probability is a half.
    end_point
        The complication, or control.
    source
        Where the numbers are published.
    """

    a: float
    gamma50: float
    d50_gy: float
    end_point: str
    source: str


# Given from memory and compared with what other programs quote from the same papers, not with the papers.
# A cochlea has none: neither paper fits one.
LYMAN: Mapping[str, Lyman] = {
    "Brain": Lyman(0.25, 0.15, 60.0, "necrosis or infarction", _BURMAN),
    "Brainstem": Lyman(0.16, 0.14, 65.0, "necrosis or infarction", _BURMAN),
    "SpinalCord": Lyman(0.05, 0.175, 66.5, "myelitis or necrosis", _BURMAN),
    "OpticChiasm": Lyman(0.25, 0.14, 65.0, "blindness", _BURMAN),
    "OpticNrv": Lyman(0.25, 0.14, 65.0, "blindness", _BURMAN),
    "Lens": Lyman(0.30, 0.27, 18.0, "cataract that needs intervention", _BURMAN),
}
LOGISTIC: Mapping[str, Logistic] = {
    "Brain": Logistic(5.0, 3.0, 60.0, "necrosis", _GAY),
    "Brainstem": Logistic(7.0, 3.0, 65.0, "necrosis", _GAY),
    "OpticChiasm": Logistic(25.0, 3.0, 65.0, "blindness", _GAY),
    "OpticNrv": Logistic(25.0, 3.0, 65.0, "blindness", _GAY),
    "Retina": Logistic(15.0, 2.0, 65.0, "blindness", _GAY),
    "Lens": Logistic(3.0, 1.0, 18.0, "cataract", _GAY),
}


def equieffective(dvh: Dvh, n_fractions: int, alpha_beta_gy: float) -> Dvh:
    """The histogram of the dose in 2 Gy fractions that has the same effect (EQD2), part by part.

    D (D/n + α/β) / (2 + α/β), Withers, Thames and Peters, Radiother. Oncol. 1, 187 (1983). The parameters
    above are for about 2 Gy a fraction, which parts of an organ seldom receive.

    Parameters
    ----------
    dvh
        Total physical dose.
    n_fractions
        Fractions that it is given in.
    alpha_beta_gy
        α/β of the tissue (Gy).

    Raises
    ------
    ValueError
        If there are no fractions or α/β is not above 0.
    """
    if n_fractions < 1 or not alpha_beta_gy > 0:
        raise ValueError(
            f"expected fractions and an α/β above 0 Gy, got {n_fractions} and {alpha_beta_gy:g} Gy; "
            "give those of the prescription and the tissue"
        )
    doses = dvh.doses.astype(np.float64)
    same = doses * (doses / n_fractions + alpha_beta_gy) / (2 + alpha_beta_gy)
    return replace(dvh, doses=same.astype(np.float32))


def lyman_ntcp(dvh: Dvh, organ: Lyman) -> float:
    """Probability of a complication (0..1) by Lyman's model with the effective volume of Kutcher and Burman.

    Φ((D - TD50) / (m TD50)), Lyman, Radiat. Res. Suppl. 8, S13 (1985). The reduction of Kutcher and Burman,
    Int. J. Radiat. Oncol. Biol. Phys. 16, 1623 (1989), with the power law TD50(v) = TD50 v⁻ⁿ, is the same as
    D = gEUD with a = 1/n (Mohan et al., Med. Phys. 19, 933 (1992)).

    Parameters
    ----------
    dvh
        Total dose of the organ, in about 2 Gy fractions or as EQD2 (:func:`equieffective`).
    organ
        Its parameters.
    """
    return float(ndtr((geud(dvh, 1 / organ.n) - organ.td50_gy) / (organ.m * organ.td50_gy)))


def effective_volume(dvh: Dvh, n: float) -> float:
    """Kutcher and Burman's effective volume: the share that, given the greatest dose, has the same effect."""
    hottest = float(dvh.doses[-1])
    return (geud(dvh, 1 / n) / hottest) ** (1 / n) if hottest > 0 else 0.0


def logistic_probability(dvh: Dvh, parameters: Logistic) -> float:
    """Probability of a complication, or of control (0..1), by Niemierko's model.

    1 / (1 + (D50 / gEUD)^(4 γ50)), Gay and Niemierko, Phys. Med. 23, 115 (2007); of control
    where ``a`` is negative and the rest a tumour's.

    Parameters
    ----------
    dvh
        Total dose, in about 2 Gy fractions or as EQD2 (:func:`equieffective`).
    parameters
        Of the organ or tumour.
    """
    dose = geud(dvh, parameters.a)
    if dose <= 0:
        return 0.0
    return float(expit(4 * parameters.gamma50 * np.log(dose / parameters.d50_gy)))


def poisson_tcp(
    dvh: Dvh, *, clonogens_per_cc: float, alpha_per_gy: float, alpha_beta_gy: float, n_fractions: int
) -> float:
    """Probability (0..1) that no clonogen survives, by Poisson statistics and the linear–quadratic model.

    exp(-Σ ρ v exp(-α D (1 + (D/n) / (α/β)))) after Webb and Nahum, Phys. Med. Biol. 38, 653 (1993), with one
    α, neither spread over patients nor repopulation: steeper than what is seen. No parameters come with
    it: published ones differ by orders of magnitude in ρ.

    Parameters
    ----------
    dvh
        Total physical dose of the tumour.
    clonogens_per_cc
        Density ρ of clonogens (cm⁻³).
    alpha_per_gy
        Radiosensitivity α (Gy⁻¹).
    alpha_beta_gy
        α/β (Gy).
    n_fractions
        Equal fractions that the dose is given in.

    Raises
    ------
    ValueError
        If there are no fractions or a parameter is not above 0.
    """
    if n_fractions < 1 or not min(clonogens_per_cc, alpha_per_gy, alpha_beta_gy) > 0:
        raise ValueError(
            "expected at least one fraction and parameters above 0, got "
            f"{n_fractions}, {clonogens_per_cc:g}, {alpha_per_gy:g} and {alpha_beta_gy:g}"
        )
    doses = dvh.doses.astype(np.float64)
    surviving = np.exp(-alpha_per_gy * doses * (1 + doses / n_fractions / alpha_beta_gy))
    return float(np.exp(-clonogens_per_cc * dvh.volume_cc * surviving.mean()))
