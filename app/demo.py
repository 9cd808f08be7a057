"""``spindose demo``: an embedded synthetic patient, planned from its MRI, checked on its true CT."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imaging.agreement import hu_bias, hu_mae
from imaging.case import Case
from imaging.grid import Grid
from imaging.resample import resample, resample_structures
from imaging.shapes import Mask
from imaging.tissue import Tissue
from imaging.volume import Volume
from planning.check.compare import compare
from planning.check.gamma import gamma_pass
from planning.plan import Prescription
from synth.patient import patient

from .console import Progress
from .patient import Planned, dose_on, kept_structures, plan_patient
from .publish import Summary, Truth, publish
from .request import Request
from .review.facts import CheckRow
from .steps import Walk

_SAME_MAKER = (
    "This patient and the anatomy prior of its synthetic CT were made by the same code: "
    "figures on real scans are worse."
)
_GAMMA = ((2.0, 2.0), (1.0, 1.0))  # %, mm
_GAMMA_POINTS = 20_000
_MEAN_DOSE_PERCENT = 1.0  # MRI-only acceptance: target mean dose, and gamma 2 %/2 mm above 98 %
_GAMMA_PERCENT = 98.0


def walk_demo(out: Path, seed: int, progress: Progress, spacing: float = 1.0) -> Summary:
    """The whole walk on a patient made by code, and the plan computed again on the true CT.

    Parameters
    ----------
    out
        Where results go; an earlier run there is gone on with.
    seed
        Which patient; two runs with one seed give the same files.
    progress
        Called with what happens now and the share of it that is done.
    spacing
        Voxel size of the patient's scans (mm).
    """
    walk = Walk(out, progress)
    request = Request(Prescription(60.0, 30), seed=seed)
    made = walk.case(
        "patient", "Synthetic patient", {"seed": seed, "spacing": spacing}, lambda: patient(seed, spacing)
    )
    scan = walk.case(
        "scan",
        "Reading the MRI",
        {},
        lambda: Case({"mr": made.volumes["t1"]}, source=made.source),
        after=("patient",),
    )
    tumour = kept_structures(made)

    def gtv(grid: Grid) -> Mask:
        return resample_structures(tumour, grid).mask("GTV")

    planned = plan_patient(walk, scan, "GTV of the synthetic patient", gtv, request)
    inputs = {"synthetic patient": walk.keys["patient"]}
    return publish(walk, planned, request, inputs, _truth(walk, planned, made), (_SAME_MAKER,))


def _truth(walk: Walk, planned: Planned, made: Case) -> Truth:
    """The plan on the true CT with the true body, beside the plan on the synthetic CT."""
    ct = resample(made.volumes["ct"], planned.ct.grid)
    body = resample(made.volumes["labels"], ct.grid).data[0] > Tissue.OUTSIDE
    dose = walk.case(
        "true_dose",
        "Dose on the true CT",
        {},
        lambda: Case({"dose": dose_on(planned.plan, ct, body, planned.dose.grid)}),
        after=("dose", "patient"),
    ).volumes["dose"]
    figures = walk.step(
        "comparison",
        "Comparing the doses",
        {"gamma_points": _GAMMA_POINTS},
        lambda: _figures(planned, ct, body, dose),
        _write,
        lambda here: json.loads((here / "comparison.json").read_text()),
        after=("true_dose",),
    )
    return Truth(ct, dose, figures, _rows(figures))


def _write(found: dict[str, Any], here: Path) -> None:
    (here / "comparison.json").write_text(json.dumps(found, indent=1))


def _figures(planned: Planned, ct: Volume, body: Mask, dose: Volume) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "hu_mae": hu_mae(planned.ct, ct, body),
        "hu_bias": hu_bias(planned.ct, ct, body),
        "structures": compare(planned.dose, dose, planned.structures, planned.plan.prescription),
    }
    for percent, mm in _GAMMA:
        found = gamma_pass(dose, planned.dose, percent, mm, 10.0, n_points=_GAMMA_POINTS)
        figures[f"gamma_{percent:g}_{mm:g}_percent"] = found.pass_percent
    figures["gamma_points"] = found.n_points
    return figures


def _rows(figures: Mapping[str, Any]) -> tuple[CheckRow, ...]:
    ptv = figures["structures"]["PTV"]["mean_difference_percent"]
    gamma = figures["gamma_2_2_percent"]
    return (
        CheckRow(
            "Mean dose of the PTV, synthetic CT − true CT",
            f"{ptv:+.2f} % of the prescription",
            f"within {_MEAN_DOSE_PERCENT:g} %",
            abs(ptv) <= _MEAN_DOSE_PERCENT,
        ),
        CheckRow(
            "Gamma 2 %/2 mm above 10 %",
            f"{gamma:.2f} %",
            f"above {_GAMMA_PERCENT:g} %",
            gamma > _GAMMA_PERCENT,
        ),
        CheckRow("Gamma 1 %/1 mm above 10 %", f"{figures['gamma_1_1_percent']:.2f} %"),
        CheckRow("Mean absolute error of the synthetic CT in the body", f"{figures['hu_mae']:.0f} HU"),
        CheckRow("Mean error of the synthetic CT in the body", f"{figures['hu_bias']:+.0f} HU"),
    )
