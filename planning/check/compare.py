"""One plan's dose on two anatomies, structure by structure."""

from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.plan import Prescription

from .dvh import Dvh, dose_at_share, histograms_at, mean, parts_of


def compare(
    dose: Volume, reference: Volume, structures: StructureSet, prescription: Prescription
) -> dict[str, dict[str, float]]:
    """Differences of mean, D98%, D95% and D2% between a dose and its reference, for each structure.

    Parameters
    ----------
    dose
        Dose (Gy) of the plan on the synthetic CT.
    reference
        Dose (Gy) of the same plan on the true CT.
    structures
        Where to compare; structures off either dose grid are left out.
    prescription
        What the percentages refer to.

    Returns
    -------
    dict
        For each structure, the reference's value and the difference in Gy (``d95_gy``,
        ``d95_difference_gy``) and in percent of the prescription (``d95_difference_percent``).
    """
    parts = parts_of(structures)
    ours, truth = histograms_at(dose, parts), histograms_at(reference, parts)
    return {
        name: _differences(ours[name], truth[name], prescription.dose_gy)
        for name in ours
        if min(ours[name].share_inside, truth[name].share_inside) > 0
    }


def _differences(ours: Dvh, truth: Dvh, prescribed_gy: float) -> dict[str, float]:
    values = {"mean": (mean(ours), mean(truth))} | {
        f"d{x:g}": (dose_at_share(ours, x), dose_at_share(truth, x)) for x in (98.0, 95.0, 2.0)
    }
    out: dict[str, float] = {}
    for key, (our, true) in values.items():
        out[f"{key}_gy"] = round(true, 3)
        out[f"{key}_difference_gy"] = round(our - true, 4)
        out[f"{key}_difference_percent"] = round(100 * (our - true) / prescribed_gy, 3)
    return out
