"""What leaves the walk: DICOM files, ``plan.json`` and the review page."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from imaging.atomic import whole_file
from imaging.dicom.header import RESEARCH_ONLY, date, software_version, time
from imaging.dicom.rtdose import write_rtdose
from imaging.dicom.rtstruct import write_rtstruct
from imaging.dicom.writer import write_ct
from imaging.uids import fresh_uid, seeded_uid
from imaging.volume import Volume
from planning.beams import source_position
from planning.check.dvh import Dvh, curve, histograms, numbers
from planning.check.judge import GoalResult, as_json, judge
from planning.density import relative_electron_density
from planning.dose.raytrace import surface_distance
from planning.goals import brain_goals
from planning.machine import load_machine
from planning.rtplan import write_rtplan

from .patient import BODY, Planned
from .request import Request
from .review.facts import CheckRow, Curve, GoalRow, Provenance, ReviewPage
from .review.page import write_page
from .steps import Walk

_CURVE_POINTS = 300


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
    figures: Mapping[str, object] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """A few lines for a person."""
        judged = [r for r in self.results if r.met is not None]
        missed = [r for r in judged if not r.met]
        unjudged = len(self.results) - len(judged)
        return [
            f"Goals met: {len(judged) - len(missed)} of {len(judged)}; {unjudged} not evaluated",
            *(f"  not met: {r.goal.structure} {r.goal.text}, reached {r.value:.2f} {r.unit}" for r in missed),
            f"DICOM:  {self.out / 'dicom'}",
            f"Goals:  {self.out / 'plan.json'}",
            f"Review: {self.out / 'review.html'}",
        ]

    def as_json(self) -> dict[str, object]:
        """The same for a program."""
        return {
            "out": str(self.out),
            "review": str(self.out / "review.html"),
            "plan": str(self.out / "plan.json"),
            "dicom": str(self.out / "dicom"),
            "goals": as_json(self.results),
            "seconds": {name: round(s, 2) for name, s in self.seconds.items()},
            **self.figures,
        }


def publish(
    walk: Walk,
    planned: Planned,
    request: Request,
    inputs: Mapping[str, str],
    truth: Truth | None = None,
) -> Summary:
    """DICOM files, ``plan.json`` and the review page of a planned patient.

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
    """
    words = ("seed", request.seed, *inputs.values()) if request.seed is not None else (fresh_uid(),)
    walk.step(
        "dicom",
        "DICOM",
        {"seed": request.seed},
        lambda: None,
        lambda _nothing, here: write_dicom(planned, here, words),
        lambda _here: None,
        after=("dose",),
    )
    dvhs = histograms(planned.dose, planned.structures)
    results = judge(brain_goals(), dvhs, request.prescription)
    provenance = Provenance(
        software_version(), request.seed, inputs=inputs, parameters=_parameters(request, planned)
    )
    facts = _plan_facts(planned, results, dvhs, provenance, truth)
    with whole_file(walk.folder / "plan.json") as part:
        part.write_text(json.dumps(facts, indent=1))
    walk.progress("Review page", 0.0)
    write_page(walk.folder / "review.html", _page(planned, results, dvhs, provenance, truth))
    walk.progress("Review page", 1.0)
    return Summary(walk.folder, results, walk.seconds, truth.figures if truth else {})


def write_dicom(planned: Planned, folder: Path, words: tuple[object, ...]) -> None:
    """CT series, RTSTRUCT, RTPLAN and RTDOSE that refer to each other, in one frame of reference."""

    def uid(name: str) -> str:
        return seeded_uid(*words, name)

    now = datetime.now().astimezone()
    of = planned.scan.source
    # A study that began without a date, as from NIfTI, began when its results are filed.
    of = of if of.study_date else dataclasses.replace(of, study_date=date(now), study_time=time(now))
    source = write_ct(planned.ct, of, folder / "CT", seed=(*words, "CT"), when=now)
    structures = write_rtstruct(
        planned.structures,
        source,
        planned.ct.grid,
        folder / "RTSTRUCT.dcm",
        series_uid=uid("RTSTRUCT series"),
        instance_uid=uid("RTSTRUCT"),
        when=now,
    )
    machine = load_machine(planned.plan.machine)
    density = relative_electron_density(planned.ct, planned.structures.mask(BODY))
    distances = {
        beam.name: surface_distance(density, source_position(beam, machine.sad), beam.isocenter)
        for beam in planned.plan.beams
    }
    plan = write_rtplan(
        planned.plan,
        machine,
        source,
        folder / "RTPLAN.dcm",
        structure_set_uid=structures,
        target_roi=list(planned.structures.structures).index("PTV") + 1,
        surface_distances={name: mm for name, mm in distances.items() if mm is not None},
        series_uid=uid("RTPLAN series"),
        instance_uid=uid("RTPLAN"),
        when=now,
    )
    write_rtdose(
        planned.dose,
        source,
        folder / "RTDOSE.dcm",
        plan_uid=plan,
        series_uid=uid("RTDOSE series"),
        instance_uid=uid("RTDOSE"),
        when=now,
    )


def _parameters(request: Request, planned: Planned) -> dict[str, str]:
    rx = request.prescription
    return {
        "prescription": f"{rx.dose_gy:g} Gy in {rx.n_fractions} fractions",
        "GTV to CTV": f"{request.ctv_margin:g} mm, inside the brain",
        "CTV to PTV": f"{request.ptv_margin:g} mm",
        "dose grid": f"{request.dose_spacing:g} mm",
        "machine": planned.plan.machine,
        "calibration": load_machine(planned.plan.machine).calibration,
    }


def _plan_facts(
    planned: Planned,
    results: tuple[GoalResult, ...],
    dvhs: Mapping[str, Dvh],
    provenance: Provenance,
    truth: Truth | None,
) -> dict[str, object]:
    return {
        "note": RESEARCH_ONLY,
        "version": provenance.version,
        "seed": provenance.seed,
        "inputs": dict(provenance.inputs),
        "parameters": dict(provenance.parameters),
        "beams": [
            {
                "name": beam.name,
                "gantry": beam.gantry,
                "couch": beam.couch,
                "collimator": beam.collimator,
                "isocenter": beam.isocenter.tolist(),
                "mu": beam.mu,
                "segments": len(beam.control_points) // 2,
            }
            for beam in planned.plan.beams
        ],
        "goals": as_json(results),
        "structures": numbers(dvhs),
        "true_ct": dict(truth.figures) if truth else None,
    }


def _page(
    planned: Planned,
    results: tuple[GoalResult, ...],
    dvhs: Mapping[str, Dvh],
    provenance: Provenance,
    truth: Truth | None,
) -> ReviewPage:
    scans = {"MRI": planned.scan.volumes["mr"], "Synthetic CT": planned.ct}
    doses = {"Dose on synthetic CT": planned.dose}
    curves = {"synthetic CT": _curves(dvhs)}
    if truth:
        scans["True CT"] = truth.ct
        doses["Dose on true CT"] = truth.dose
        curves["true CT"] = _curves(histograms(truth.dose, planned.structures))
    beams = planned.plan.beams
    segments = sum(len(beam.control_points) // 2 for beam in beams)
    return ReviewPage(
        title="MRI-only plan of a brain tumour",
        scans=scans,
        doses=doses,
        structures=planned.structures,
        prescription_gy=planned.plan.prescription.dose_gy,
        provenance=provenance,
        curves=curves,
        goals=tuple(map(_goal_row, results)),
        checks=truth.checks if truth else (),
        facts={
            "Fractions": str(planned.plan.prescription.n_fractions),
            "Technique": f"{len(beams)} beams, {segments} step-and-shoot segments",
            "Monitor units": f"{sum(beam.mu for beam in beams):.0f} per fraction",
            "Machine": planned.plan.machine,
        },
    )


def _goal_row(result: GoalResult) -> GoalRow:
    reached = "" if result.value is None else f"{result.value:.2f} {result.unit}"
    source = result.goal.source if result.goal.verified else f"{result.goal.source} (not verified)"
    return GoalRow(result.goal.structure, result.goal.text, reached or result.reason, result.met, source)


def _curves(dvhs: Mapping[str, Dvh]) -> tuple[Curve, ...]:
    highest = max(float(dvh.doses.max()) for dvh in dvhs.values())
    doses = np.linspace(0.0, 1.02 * highest, _CURVE_POINTS)
    return tuple(Curve(name, doses, curve(dvh, doses)) for name, dvh in dvhs.items())
