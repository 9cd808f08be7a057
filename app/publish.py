"""What leaves the walk: DICOM files, ``plan.json``, the review page and the report."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imaging.atomic import whole_file
from imaging.dicom.header import RESEARCH_ONLY, software_version
from imaging.uids import fresh_uid
from imaging.volume import Volume
from planning.beams import is_arc, n_segments
from planning.check.dvh import Dvh, curve, expect_frame, histograms_at, parts_of
from planning.check.judge import GoalResult, as_json, judge
from planning.check.parts import Parts
from planning.machine import load_machine
from planning.plan import Plan

from . import asked, ct_trust, goal_sheet, independent, mri_only, predicted_dose, robust
from .cautions import cut_off
from .dicom_set import write_dicom
from .evaluate_plan import complications, indices, metrics
from .patient import Planned
from .report.write import publish_report
from .request import Request
from .review.facts import CheckRow, Curve, GoalRow, Provenance, ReviewPage
from .review.page import write_page
from .steps import Walk

_CURVE_POINTS = 300
_ACHIEVED, _PREDICTED, _TRUE = "synthetic CT", "predicted", "true CT"  # what a histogram is of
_UNAPPROVED = (
    "Made with models that nobody has approved here: not to be used for anything but to try them "
    "(`spindose models`)."
)


@dataclass(frozen=True, eq=False)
class Truth:
    """The same plan computed on the true CT, where there is one.

    Parameters
    ----------
    ct
        The true CT (HU).
    dose
        Total dose on it (Gy).
    figures
        What the comparison found, for ``plan.json``.
    checks
        The same, in rows for the page.
    """

    ct: Volume
    dose: Volume
    figures: Mapping[str, object]
    checks: tuple[CheckRow, ...]


@dataclass(frozen=True, eq=False)
class Summary:
    """What a walk came to, for the person or the program that started it."""

    out: Path
    results: tuple[GoalResult, ...]
    seconds: Mapping[str, float]
    cautions: tuple[str, ...] = ()
    figures: Mapping[str, object] = field(default_factory=dict)
    independent: Mapping[str, object] = field(default_factory=dict)
    mri_only: Mapping[str, object] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """A few lines for a person."""
        judged = [r for r in self.results if r.met is not None]
        missed = [r for r in judged if not r.met]
        unjudged = len(self.results) - len(judged)
        return [
            f"Goals met: {len(judged) - len(missed)} of {len(judged)}; {unjudged} not evaluated",
            *(f"  not met: {r.goal.structure} {r.goal.text}, reached {r.value:.2f} {r.unit}" for r in missed),
            *independent.lines(self.independent),
            *mri_only.lines(self.mri_only),
            *(f"Caution: {caution}" for caution in self.cautions),
            f"DICOM:  {self.out / 'dicom'}",
            f"Goals:  {self.out / 'plan.json'}",
            f"Review: {self.out / 'review.html'}",
            f"Report: {self.out / 'report.pdf'}",
        ]

    def as_json(self) -> dict[str, object]:
        """The same for a program."""
        return {
            "out": str(self.out),
            "review": str(self.out / "review.html"),
            "report": str(self.out / "report.pdf"),
            "plan": str(self.out / "plan.json"),
            "dicom": str(self.out / "dicom"),
            "goals": as_json(self.results),
            "cautions": list(self.cautions),
            "independent": dict(self.independent) or None,
            "mri_only": dict(self.mri_only) or None,
            "seconds": {name: round(s, 2) for name, s in self.seconds.items()},
            **self.figures,
        }


def publish(
    walk: Walk,
    planned: Planned,
    request: Request,
    inputs: Mapping[str, str],
    truth: Truth | None = None,
    cautions: tuple[str, ...] = (),
) -> Summary:
    """DICOM files, ``plan.json``, the review page and the report of a planned patient.

    Parameters
    ----------
    walk
        The walk that planned the patient; results go to its folder.
    planned
        What the walk gave.
    request
        What was asked for.
    inputs
        Hash of each input by what it is.
    truth
        The plan on the true CT, where there is one.
    cautions
        What the reader of the plan must know, one sentence each.
    """
    # The key of the dose follows from all that was asked for: other plans have other UIDs.
    words = (fresh_uid(),) if request.seed is None else ("seed", request.seed, walk.keys["dose"])
    walk.step(
        "dicom",
        "DICOM",
        {"seed": request.seed, **({"mark": request.mark} if request.mark else {})},
        lambda: None,
        lambda _nothing, here: write_dicom(planned, here, words, request.mark),
        lambda _here: None,
        after=("dose",),
    )
    on_others = mri_only.walked(walk, planned, truth.dose if truth else None)
    parts = parts_of(planned.structures)
    curves = _histograms(planned, truth, parts)
    dvhs = curves[_ACHIEVED]
    goals = goal_sheet.goals_of(request)
    results = judge(goals, dvhs, request.prescription)
    wanted = predicted_dose.figures(planned.predicted, parts, dvhs, goals, request.prescription)
    inputs = {**inputs, **goal_sheet.inputs(request), **robust.inputs(request)}
    cautions = (
        *((_UNAPPROVED,) if request.mark else ()),
        *cautions,
        *planned.cautions,
        *predicted_dose.cautions(wanted, request),
        *cut_off(planned.scan.volumes["mr"].grid, planned.structures),
        *independent.cautions(planned.independent),
        *mri_only.cautions(on_others),
    )
    provenance = Provenance(
        software_version(),
        request.seed,
        inputs,
        _parameters(request, planned),
        notes=(*cautions, *robust.cautions(request)),
    )
    facts = _plan_facts(planned, results, dvhs, provenance, truth, on_others)
    facts |= {"predicted": wanted or None, "request": asked.as_json(request)}
    with whole_file(walk.folder / "plan.json") as part:
        part.write_text(json.dumps(facts, indent=1))
    walk.progress("Review page", 0.0)
    page = _page(planned, results, curves, provenance, truth, on_others, wanted)
    write_page(walk.folder / "review.html", page)
    walk.progress("Review page", 1.0)
    walk.progress("Report", 0.0)
    publish_report(walk.folder, planned, goals, dvhs, curves.get(_TRUE))
    walk.progress("Report", 1.0)
    return Summary(
        walk.folder,
        results,
        walk.seconds,
        cautions,
        truth.figures if truth else {},
        planned.independent,
        on_others,
    )


def _histograms(
    planned: Planned, truth: Truth | None, parts: Mapping[str, Parts]
) -> dict[str, dict[str, Dvh]]:
    """Of every dose that there is, on the same parts of the structures."""
    told = planned.predicted
    doses = {
        _ACHIEVED: planned.dose,
        **({_PREDICTED: told.dose} if told else {}),
        **({_TRUE: truth.dose} if truth else {}),
    }
    for dose in doses.values():
        expect_frame(dose, planned.structures.frame)
    return {of: histograms_at(dose, parts) for of, dose in doses.items()}


def _parameters(request: Request, planned: Planned) -> dict[str, str]:
    rx = request.prescription
    return {
        "prescription": f"{rx.dose_gy:g} Gy in {rx.n_fractions} fractions",
        "GTV to CTV": f"{request.ctv_margin:g} mm; beyond barriers: {request.barriers}",
        "CTV to PTV": f"{request.ptv_margin:g} mm",
        "dose grid": f"{request.dose_spacing:g} mm",
        "synthetic CT": _made_by(request) if planned.trust else "bulk densities of the aligned anatomy",
        "made for": f"a predicted dose ({request.style})" if planned.predicted else "goals alone",
        "machine": planned.plan.machine,
        "calibration": load_machine(planned.plan.machine).calibration,
        **goal_sheet.parameters(request),
        **robust.parameters(request),
    }


def _made_by(request: Request) -> str:
    return f"model {request.ct_model}" if request.ct_model else "networks that ship"


def _plan_facts(
    planned: Planned,
    results: tuple[GoalResult, ...],
    dvhs: Mapping[str, Dvh],
    provenance: Provenance,
    truth: Truth | None,
    on_others: Mapping[str, object],
) -> dict[str, object]:
    rx = planned.plan.prescription
    kinds = {name: structure.kind for name, structure in planned.structures.structures.items()}
    return {
        "note": RESEARCH_ONLY,
        "version": provenance.version,
        "seed": provenance.seed,
        "inputs": dict(provenance.inputs),
        "parameters": dict(provenance.parameters),
        "cautions": list(provenance.notes),
        "beams": [
            {
                "name": beam.name,
                "gantry": beam.gantry,
                "couch": beam.couch,
                "collimator": beam.collimator,
                "isocenter": beam.isocenter.tolist(),
                "mu": beam.mu,
                "segments": n_segments(beam),
                "arc": is_arc(beam),
            }
            for beam in planned.plan.beams
        ],
        "goals": as_json(results),
        "structures": {name: metrics(dvh, rx, kinds[name]) for name, dvh in dvhs.items()},
        "indices": indices(dvhs, kinds, rx),
        "complications": complications(dvhs, kinds, rx, [result.goal for result in results]),
        "true_ct": dict(truth.figures) if truth else None,
        "robustness": dict(planned.robustness) or None,
        "independent": dict(planned.independent) or None,
        "mri_only": dict(on_others),
        "dose_bands": dict(planned.trust.bands) if planned.trust else None,
    }


def _page(
    planned: Planned,
    results: tuple[GoalResult, ...],
    curves: Mapping[str, Mapping[str, Dvh]],
    provenance: Provenance,
    truth: Truth | None,
    on_others: Mapping[str, object],
    wanted: Mapping[str, Any],
) -> ReviewPage:
    scans = {"MRI": planned.scan.volumes["mr"], "Synthetic CT": planned.ct}
    doses = {"Dose on synthetic CT": planned.dose}
    if planned.predicted is not None:
        doses["Predicted dose"] = planned.predicted.dose
    if truth:
        scans["True CT"] = truth.ct
        doses["Dose on true CT"] = truth.dose
    if planned.trust is not None:
        scans["What the CT may be off by (HU)"] = planned.trust.sigma
        if planned.trust.dose_deviation is not None:
            scans["What the dose may be off by (Gy)"] = planned.trust.dose_deviation
    beams = planned.plan.beams
    return ReviewPage(
        title="MRI-only plan of a brain tumour",
        scans=scans,
        doses=doses,
        structures=planned.structures,
        prescription_gy=planned.plan.prescription.dose_gy,
        provenance=provenance,
        curves={on: _curves(dvhs) for on, dvhs in curves.items()},
        goals=tuple(map(_goal_row, results)),
        checks=(
            *mri_only.rows(on_others),
            *(truth.checks if truth else ()),
            *independent.rows(planned.independent),
            *robust.rows(planned.robustness),
            *predicted_dose.rows(wanted),
            *ct_trust.rows(planned.trust, planned.structures),
        ),
        facts={
            "Fractions": str(planned.plan.prescription.n_fractions),
            "Technique": technique_of(planned.plan),
            "Monitor units": f"{sum(beam.mu for beam in beams):.0f} per fraction",
            "Machine": planned.plan.machine,
            **({"Caution": " ".join(provenance.notes)} if provenance.notes else {}),
        },
    )


def technique_of(plan: Plan) -> str:
    """How a plan is delivered, in words."""
    n_arcs = sum(map(is_arc, plan.beams))
    if n_arcs:
        n_points = sum(len(beam.control_points) for beam in plan.beams)
        return f"{n_arcs} {'arc' if n_arcs == 1 else 'arcs'}, {n_points} control points"
    return f"{len(plan.beams)} beams, {sum(map(n_segments, plan.beams))} step-and-shoot segments"


def _goal_row(result: GoalResult) -> GoalRow:
    reached = "" if result.value is None else f"{result.value:.2f} {result.unit}"
    source = result.goal.source if result.goal.verified else f"{result.goal.source} (not verified)".strip()
    return GoalRow(result.goal.structure, result.goal.text, reached or result.reason, result.met, source)


def _curves(dvhs: Mapping[str, Dvh]) -> tuple[Curve, ...]:
    highest = max(float(dvh.doses.max()) for dvh in dvhs.values())
    doses = np.linspace(0.0, 1.02 * highest, _CURVE_POINTS)
    return tuple(Curve(name, doses, curve(dvh, doses)) for name, dvh in dvhs.items())
