"""SynthRAD's dose metrics: a plan's dose on a synthetic CT beside the same plan's on the true CT.

As the challenge computes them (Huijben et al., Med. Image Anal. 97, 103276 (2024)). What it calls V95 is the
conformity index of matRad, Paddick's of the 95 % isodose.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from imaging.volume import Quantity, Volume, expect_finite

from .dvh import Dvh, dose_at_share, mean
from .indices import conformity

HIGH_DOSE = 0.9  # of the prescription: above it the error of the dose counts
_ISODOSE = 0.95  # of the prescription, of the conformity index
_ORGANS = 3


@dataclass(frozen=True, eq=False)
class PlanHistograms:
    """Histograms of one dose.

    Parameters
    ----------
    target
        The planning target.
    everything
        All that an isodose may lie in, usually the body.
    organs
        Organs at risk by name.
    """

    target: Dvh
    everything: Dvh
    organs: Mapping[str, Dvh]


def high_dose_error(dose: Volume, true_dose: Volume, prescribed_gy: float) -> float:
    """Mean absolute error of the dose as a share of the prescription, where the true dose reaches 90 % of it.

    Parameters
    ----------
    dose
        Dose (Gy) on the synthetic CT.
    true_dose
        Dose (Gy) of the same plan on the true CT, on the same grid.
    prescribed_gy
        Prescribed dose (Gy).

    Raises
    ------
    ValueError
        If the volumes are not doses on one grid, or no voxel reaches 90 % of the prescription.
    """
    for one in (dose, true_dose):
        expect_finite(one.expect(Quantity.DOSE))
    if dose.grid != true_dose.grid:
        raise ValueError("expected two doses on one grid, got two grids; compute both on one")
    high = true_dose.data >= HIGH_DOSE * prescribed_gy
    if not bool(high.any()):
        raise ValueError(
            f"expected a true dose that reaches {100 * HIGH_DOSE:g} % of {prescribed_gy:g} Gy somewhere, got "
            "none; check the prescription and where the plan's isocentre lies"
        )
    off = (dose.data[high].double() - true_dose.data[high].double()).abs()
    return float(off.mean()) / prescribed_gy


def dvh_metric(found: PlanHistograms, truth: PlanHistograms, prescribed_gy: float) -> float:
    """Sum of relative errors: of the target's D98% and conformity, and on average of organs' D2% and mean.

    Parameters
    ----------
    found
        On the synthetic CT.
    truth
        On the true CT, the same structures.
    prescribed_gy
        Prescribed dose (Gy).

    Raises
    ------
    ValueError
        If the target has no dose or no 95 % isodose on the true CT.
    """
    isodose = _ISODOSE * prescribed_gy
    of_target = [
        (dose_at_share(one.target, 98.0), conformity(one.target, one.everything, isodose))
        for one in (found, truth)
    ]
    if min(of_target[1]) <= 0:
        raise ValueError(
            "expected a target with dose all over and some of the 95 % isodose on the true CT, got one "
            "without; check the prescription and which structure is the target"
        )
    total = sum(abs(ours - true) / true for ours, true in zip(*of_target, strict=True))
    names = most_irradiated(truth.organs)
    errors = [_relative(found.organs[n], truth.organs[n]) for n in names]
    return total + (sum(errors) / len(errors) if errors else 0.0)


def most_irradiated(organs: Mapping[str, Dvh]) -> tuple[str, ...]:
    """Names of the three organs, or fewer, with the greatest (D5% + mean) / 2; none that has no dose."""
    irradiated = {name: dose_at_share(dvh, 5.0) + mean(dvh) for name, dvh in organs.items() if mean(dvh) > 0}
    return tuple(sorted(irradiated, key=irradiated.__getitem__, reverse=True)[:_ORGANS])


def _relative(found: Dvh, truth: Dvh) -> float:
    """Relative errors of D2% and mean, added; an organ whose hottest 2 % have no dose has none there."""
    pairs = [(dose_at_share(one, 2.0), mean(one)) for one in (found, truth)]
    return sum(abs(ours - true) / true for ours, true in zip(*pairs, strict=True) if true > 0)
