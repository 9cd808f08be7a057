"""A held-out patient treated: planned on the synthetic CT, computed on the true one, beside bands."""

from collections.abc import Mapping
from dataclasses import dataclass

from imaging.resample import resample
from imaging.structures import StructureSet
from imaging.volume import Volume
from mr2ct.calibration import Calibration, deviation
from mr2ct.convert import SyntheticCt
from planning.check.dose_bands import DoseBands
from planning.check.dvh import Dvh, histograms
from planning.contour.body import body_of
from planning.plan import Plan

from .dose_bands import bands_of
from .head_ct import ct_grid
from .held_out import HeldOut, gross_tumour, planned_on
from .optimised import BODY, dose_grid, dose_on
from .request import Request


@dataclass(frozen=True, eq=False)
class Treated:
    """What became of one patient.

    Parameters
    ----------
    plan, structures
        Made on the synthetic CT, with the true organs and target.
    ct, truth
        Synthetic and true CT (HU) on the grid of the structures.
    bands
        Of the histograms, over CTs that the synthetic one leaves open.
    true_histograms
        Of the plan's dose on the true CT and body.
    """

    plan: Plan
    structures: StructureSet
    ct: Volume
    truth: Volume
    bands: DoseBands
    true_histograms: Mapping[str, Dvh]


def treated_on(
    found: SyntheticCt, patient: HeldOut, calibration: Calibration, request: Request, seed: int
) -> Treated | None:
    """A plan on a patient's synthetic CT, computed on the true one; None of a patient who has no target.

    Parameters
    ----------
    found
        The synthetic CT, on the patient's grid.
    patient
        Whose truth.
    calibration
        How errors of the CT lie.
    request
        What plan is asked for.
    seed
        Of the draws.
    """
    try:
        gross_tumour(patient, ct_grid(found.ct.grid))
    except ValueError:
        return None
    plan, structures = planned_on(found.ct, patient, request, _quiet)
    volumes = (found.ct, patient.truth, deviation(found, calibration))
    ct, truth, sigma = (resample(volume, structures.grid) for volume in volumes)
    grid = dose_grid(structures.grid, structures.mask(BODY), request.dose_spacing)
    bands = bands_of(ct, sigma, calibration, plan, structures, grid, _quiet, seed=seed)
    true_dose = dose_on(plan, truth, body_of(truth), grid)
    return Treated(plan, structures, ct, truth, bands, histograms(true_dose, structures))


def _quiet(_title: str, _share: float) -> None:
    pass
