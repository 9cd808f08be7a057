"""How near a predicted dose is to that of an accepted plan, as the OpenKBP challenge scores it.

Babier et al., Med. Phys. 48, 5549 (2021), and the challenge's published evaluation: what it does where the
paper leaves room is done here too, so that figures compare.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from imaging.volume import Quantity, Volume

from .patient import Patient, prescribed

_TENTH_CC = 100.0  # mm³
_SHARES = {"D99": 1.0, "D95": 5.0, "D1": 99.0}  # of a target's voxels with less, %

Doses = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Scored:
    """One patient's prediction against the accepted dose.

    Parameters
    ----------
    dose_gy
        Sum of absolute differences over all voxels, by the number of those where dose may be: dose that is
        told elsewhere counts against a prediction.
    off_gy
        Absolute difference of each metric of each structure that was drawn, by structure and metric.
    """

    dose_gy: float
    off_gy: Mapping[str, Mapping[str, float]]

    @property
    def histogram_gy(self) -> float:
        """Mean over the patient's own metrics; the challenge's score pools those of all patients."""
        return float(np.mean([off for one in self.off_gy.values() for off in one.values()]))


def scored(predicted: Volume, patient: Patient) -> Scored:
    """Scores of one patient.

    Parameters
    ----------
    predicted
        Gy, on the patient's grid.
    patient
        With the accepted dose. Structures with a prescription are targets (D99, D95, D1), those without are
        organs (D0.1cc, mean); empty ones count for nothing.

    Raises
    ------
    ValueError
        If there is no accepted dose, the prediction lies on another grid, has a dose that is negative or not
        finite, or there is no voxel where dose may be.
    """
    if patient.dose is None:
        raise ValueError("expected the accepted dose of a patient to score against, got none")
    told = predicted.expect(Quantity.DOSE).data[0].double().numpy()
    if predicted.grid != patient.ct.grid:
        raise ValueError("expected a prediction on the patient's grid, got another; resample it")
    if not np.isfinite(told).all() or told.min() < 0:
        raise ValueError("expected predicted doses of 0 Gy or more, got negative ones or none")
    truth = patient.dose.data[0].double().numpy()
    n = int((patient.possible.data > 0).sum())
    if n == 0:
        raise ValueError("expected voxels where dose may be, got none")
    volume = patient.ct.grid.voxel_volume
    targets, off = prescribed(patient.structures), {}
    for name, structure in patient.structures.structures.items():
        inside = structure.mask.numpy()
        if inside.any():
            told_of, true_of = (
                metrics(dose[inside], volume, target=name in targets) for dose in (told, truth)
            )
            off[name] = {metric: abs(told_of[metric] - value) for metric, value in true_of.items()}
    return Scored(float(np.abs(told - truth).sum()) / n, off)


def metrics(dose: Doses, voxel_mm3: float, *, target: bool) -> dict[str, float]:
    """What the challenge asks of a structure's doses (Gy), by NumPy's percentiles.

    ``D0.1cc`` is the percentile above which so many voxels lie as make 0.1 cm³, rounded, one at least; of a
    structure smaller than that it is the lowest dose.

    Parameters
    ----------
    dose
        Of its voxels.
    voxel_mm3
        Volume of one.
    target
        Whether it is one, or an organ.
    """
    if target:
        return {name: float(np.percentile(dose, share)) for name, share in _SHARES.items()}
    hottest = max(1.0, float(np.round(_TENTH_CC / voxel_mm3)))
    share = max(100.0 - 100.0 * hottest / len(dose), 0.0)
    return {"D0.1cc": float(np.percentile(dose, share)), "Dmean": float(dose.mean())}


def pooled(patients: Iterable[Scored]) -> dict[str, float]:
    """The challenge's two scores: the mean of patients' dose scores, and that of all metrics of all patients.

    Raises
    ------
    ValueError
        If there is no patient.
    """
    found = list(patients)
    if not found:
        raise ValueError("expected a patient or more to score, got none")
    off = [value for one in found for metric in one.off_gy.values() for value in metric.values()]
    return {"dose_gy": float(np.mean([one.dose_gy for one in found])), "dvh_gy": float(np.mean(off))}
