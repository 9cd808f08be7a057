"""Single numbers that tell how a dose fits its target: conformity, homogeneity, fall-off, and the gEUD."""

import numpy as np

from .dvh import Dvh, dose_at_share, share_at_dose


def conformity(target: Dvh, everything: Dvh, prescription_gy: float) -> float:
    """Paddick's conformity index: 1 where the prescription isodose is the target, 0 where it misses it.

    TV_PIV² / (TV · PIV) after Paddick, J. Neurosurg. 93 (Suppl. 3), 219 (2000): the covered share of the
    target times the share of the prescription isodose that lies in the target. 0 also where no volume
    receives the prescription.

    Parameters
    ----------
    target
        Histogram of the target.
    everything
        Histogram of all that the isodose may lie in, usually the body; it holds the target.
    prescription_gy
        Dose of the isodose (Gy).
    """
    covered = _volume_cc(target, prescription_gy)
    isodose = _volume_cc(everything, prescription_gy)
    # The two histograms are sampled apart: a covered target may come out a little larger than the isodose.
    isodose = max(isodose, covered)
    return covered**2 / (target.volume_cc * isodose) if isodose > 0 else 0.0


def homogeneity(target: Dvh) -> float:
    """ICRU 83's homogeneity index (D2% - D98%) / D50%: 0 where the dose is uniform.

    ICRU Report 83, J. ICRU 10 (1), section 3.7.1 (2010).

    Raises
    ------
    ValueError
        If half of the target receives no dose.
    """
    median = dose_at_share(target, 50.0)
    if median <= 0:
        raise ValueError(
            "expected a dose in at least half of the target, got none; check what was irradiated"
        )
    return (dose_at_share(target, 2.0) - dose_at_share(target, 98.0)) / median


def gradient(everything: Dvh, prescription_gy: float) -> float:
    """The gradient index: volume of half the prescription over that of the prescription; small is steep.

    Paddick and Lippitz, J. Neurosurg. 105 (Suppl.), 194 (2006).

    Parameters
    ----------
    everything
        Histogram of all that the isodoses may lie in, usually the body.
    prescription_gy
        Dose of the inner isodose (Gy).

    Raises
    ------
    ValueError
        If no volume receives the prescription.
    """
    inner = _volume_cc(everything, prescription_gy)
    if inner <= 0:
        raise ValueError(
            f"expected some volume that receives the prescription of {prescription_gy:g} Gy, got none; "
            "normalise the dose or give the isodose that is prescribed"
        )
    return _volume_cc(everything, prescription_gy / 2) / inner


def geud(dvh: Dvh, a: float) -> float:
    """Generalised equivalent uniform dose (Gy): the mean of the doses to the power a, to the power 1/a.

    Niemierko, Med. Phys. 26, 1100 (1999). ``a`` = 1 is the mean dose; large values go to the maximum (serial
    organs), large negative ones to the minimum (targets, where any part without dose gives 0).

    Parameters
    ----------
    dvh
        The structure.
    a
        Volume effect, other than 0; 1/n of the Lyman model.

    Raises
    ------
    ValueError
        If ``a`` is 0 or not finite.
    """
    if a == 0 or not np.isfinite(a):
        raise ValueError(f"expected a volume effect other than 0, got {a:g}; take 1 for the mean dose")
    doses = dvh.doses.astype(np.float64)
    # Powers of ratios to the part that counts most: none is above 1, so nothing overflows.
    leading = float(doses[-1] if a > 0 else doses[0])
    if leading <= 0:
        return 0.0
    return leading * float(np.mean((np.maximum(doses, 0.0) / leading) ** a)) ** (1 / a)


def _volume_cc(dvh: Dvh, dose_gy: float) -> float:
    return share_at_dose(dvh, dose_gy) / 100 * dvh.volume_cc
