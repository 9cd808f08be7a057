"""What a synthetic CT does to dose: a plan on it, the same on the true CT, and bands that should hold it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.ct_dose_figures import on_both
from app.evaluate_files import Regions
from app.held_out import HeldOut
from app.request import Request
from app.treated import treated_on
from mr2ct.calibration import Calibration
from mr2ct.convert import SyntheticCt
from planning.check.dose_bands import inside
from planning.check.dvh import histograms
from planning.machine import load_machine
from planning.plan import Prescription

_REQUEST = Request(Prescription(60.0, 30))


def dose_row(patient: HeldOut, found: SyntheticCt, calibration: Calibration, k: int) -> dict[str, Any]:
    """Figures of the dose of one patient; none where there is too little tumour to plan for."""
    treated = treated_on(found, patient, calibration, _REQUEST, k)
    if treated is None:
        return {}
    kinds = {name: one.kind for name, one in treated.structures.structures.items()}
    regions = Regions(kinds, lambda dose: histograms(dose, treated.structures))
    machine, both = load_machine(treated.plan.machine), (treated.ct, treated.truth)
    figures = on_both(treated.plan, machine, both, regions, _REQUEST.dose_spacing, _quiet)
    return {**figures, "held": inside(treated.bands.bands, treated.true_histograms)}


def dose_summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures over patients: the worst target, mean gamma, the share of histogram points that bands held."""
    if not rows:
        return {}
    mean = [row["target_mean_difference_percent"] for row in rows]
    each = [100 * float(np.mean([h for held in row["held"].values() for h in held])) for row in rows]
    coverage = float(np.mean(each))
    return {
        "plans": len(rows),
        "target_mean_error_percent_max": float(np.abs(mean).max()),
        "target_mean_error_percent": mean,
        "gamma_2_2_percent": float(np.mean(_all(rows, "gamma_2_2_percent"))),
        "gamma_1_1_percent": float(np.mean(_all(rows, "gamma_1_1_percent"))),
        "gamma_2_2_percent_quartiles": np.percentile(
            [r["gamma_2_2_percent"] for r in rows], [25, 75]
        ).tolist(),
        "synthrad_dose_mae_percent": 100 * float(np.mean([row["synthrad"]["dose_mae"] for row in rows])),
        "synthrad_dvh_metric": float(np.mean([row["synthrad"]["dvh_metric"] for row in rows])),
        "band_coverage_percent": coverage,
        "band_coverage_percent_from_90": abs(coverage - 90.0),
        "band_coverage_percent_quartiles": np.percentile(each, [25, 75]).tolist(),
    }


def _quiet(_title: str, _share: float) -> None:
    pass


def _all(rows: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [float(row[name]) for row in rows]
