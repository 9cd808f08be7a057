"""A plan on the true CT, where there is one: beside the synthetic CT that it was made on."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from imaging.agreement import hu_bias, hu_mae
from imaging.case import Case
from imaging.resample import resample
from imaging.scan import read_scan
from imaging.shapes import Mask
from imaging.volume import Quantity, Volume
from planning.check.compare import compare
from planning.check.gamma import gamma_pass
from planning.contour.body import body_of

from .optimised import BODY, dose_on
from .patient import Planned
from .publish import Truth
from .review.facts import CheckRow
from .steps import Walk

_GAMMA = ((2.0, 2.0), (1.0, 1.0))  # %, mm
_GAMMA_POINTS = 20_000
_GAMMA_PERCENT = 98.0  # MRI-only acceptance: gamma 2 %/2 mm above this
# Bodies of one head that overlap less (Dice, where both scans look) are not registered, or not of one head.
_SAME_HEAD = 0.9
# Share of the planned body that a true CT may leave out: a scan's outermost slices, no more.
_LEFT_OUT_AT_MOST = 0.05


def truth_of_file(walk: Walk, planned: Planned, path: Path, key: str, frame: str = "") -> Truth:
    """The plan on a true CT that somebody gave.

    Parameters
    ----------
    walk
        The walk that planned the patient.
    planned
        What it gave.
    path
        A NIfTI file or a DICOM series, registered to the MRI.
    key
        Hash of the file.
    frame
        Frame of reference of the MRI, where its files say so.

    Raises
    ------
    ValueError
        If the CT cannot be read, or does not lie where the planned head is.
    """
    given, source = read_scan(path, Quantity.HU)
    if frame and source.frame and source.frame != frame:
        raise ValueError(
            "expected a true CT in the MRI's frame of reference, got one in another; "
            "register it to the MRI and write it in that frame"
        )
    ct, body = placed(given, planned)
    return truth(walk, planned, ct, body, {"true CT": key})


def placed(given: Volume, planned: Planned) -> tuple[Volume, Mask]:
    """A true CT on the grid of the synthetic one, and its body, if both show one head in one place.

    Raises
    ------
    ValueError
        If the CT leaves out part of the planned body, or its own body lies elsewhere.
    """
    ours = planned.structures.mask(BODY)
    seen = resample(
        Volume(torch.ones(1, *given.grid.shape), given.grid, Quantity.PROBABILITY), planned.ct.grid
    ).data[0]
    left_out = float((ours & (seen == 0)).sum() / ours.sum())
    if left_out > _LEFT_OUT_AT_MOST:
        raise ValueError(
            f"expected a true CT of the whole planned head, got none of {100 * left_out:.0f} % of it; "
            "give a CT that covers the MRI, registered to it"
        )
    ct = resample(given, planned.ct.grid)
    body = body_of(ct)
    both = seen > 0
    overlap = float(2 * (ours & body & both).sum() / ((ours & both).sum() + (body & both).sum()))
    if overlap < _SAME_HEAD:
        raise ValueError(
            f"expected a true CT that lies where the MRI does, got heads of Dice {overlap:.2f}; "
            "register it to the MRI"
        )
    return replace(ct, frame=planned.ct.frame), body


def truth(walk: Walk, planned: Planned, ct: Volume, body: Mask, inputs: Mapping[str, object]) -> Truth:
    """The plan on a true CT with its body, beside the plan on the synthetic CT.

    Parameters
    ----------
    walk
        The walk that planned the patient.
    planned
        What it gave.
    ct
        The true CT (HU) on the grid of the synthetic one.
    body
        Its body.
    inputs
        What the CT follows from, for the key of the step.
    """
    dose = walk.case(
        "true_dose",
        "Dose on the true CT",
        inputs,
        lambda: Case({"dose": dose_on(planned.plan, ct, body, planned.dose.grid)}),
        after=("dose",),
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
    gamma = figures["gamma_2_2_percent"]
    return (
        CheckRow(
            "Gamma 2 %/2 mm above 10 %, synthetic CT against true CT",
            f"{gamma:.2f} %",
            f"above {_GAMMA_PERCENT:g} %",
            gamma > _GAMMA_PERCENT,
        ),
        CheckRow(
            "Gamma 1 %/1 mm above 10 %, synthetic CT against true CT",
            f"{figures['gamma_1_1_percent']:.2f} %",
        ),
        CheckRow("Mean absolute error of the synthetic CT in the body", f"{figures['hu_mae']:.0f} HU"),
        CheckRow("Mean error of the synthetic CT in the body", f"{figures['hu_bias']:+.0f} HU"),
    )
