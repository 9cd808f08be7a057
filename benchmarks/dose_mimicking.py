"""Plans of one patient made in four ways, for :mod:`benchmarks.dose_prediction`: which meet as many goals.

The reference planner; goals alone; the predicted dose mimicked; the reference's own dose mimicked; and, of
standing fields, the predicted dose mimicked by a linear model as OpenKBP-Opt's, whose fluence no leaves have
to deliver. Seconds are of the processor in one process, of planning alone: predicting counts, making the
patient and writing do not.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from app.openkbp_linear import Linear, linear_openkbp
from app.openkbp_plans import Mimicking
from app.optimised import BODY
from app.predict_dose import Predictor
from app.reference_plan import Given, Planner, dose_of, given_for
from app.request import Technique
from imaging.atomic import whole_file
from imaging.resample import resample
from imaging.structures import StructureSet
from imaging.volume import Quantity, Volume
from planning.check.dvh import histograms
from planning.check.judge import GoalResult, judge
from planning.optimise.automatic import plan_automatically
from planning.optimise.making import Task
from planning.optimise.mimic import plan_mimicking, quickly
from planning.optimise.settings import Settings
from planning.plan import Plan
from planning.predict.aimed import fields_of
from planning.predict.patient import Patient
from planning.predict.predicted import predicted
from planning.predict.scores import scored
from planning.predict.site import Site, matched

WAYS = ("reference", "goals", "predicted", "true")
LINEAR = "linear"
# Of the linear model: fewer points than of OpenKBP's patients, as there are twice as many organs.
_SMALL = Linear(points=Mimicking(n_fractions=30, n_target=1500, n_organ=120, n_tissue=200), seconds=240.0)
_BEST = 2  # goals of these priorities are told apart


def row(planner: Planner, k: int, predictor: Predictor, keep: Path) -> dict[str, Any]:
    """What became of plan k in each way; read where an earlier run kept it."""
    path = keep / f"{planner.seed}_{k}.json"
    if path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    # Sums in another order round otherwise, and leaves would not lie the same.
    torch.set_num_threads(1)
    given = given_for(planner, k)
    task, found = given.task, {}
    found["reference"], reference = _made(given, lambda: plan_automatically(task)[0])
    found["goals"], _ = _made(given, lambda: plan_automatically(replace(task, settings=Settings()))[0])
    quick = replace(task, settings=quickly(task.settings))
    started = time.process_time()
    told = _predicted(given, predictor)
    took = time.process_time() - started
    for way, dose in (("predicted", told), ("true", reference)):
        found[way], achieved = _made(given, _mimicking(quick, dose))
        found[way]["off_reference_gy"] = _off(achieved, reference, given)
    found["predicted"] |= {"seconds": found["predicted"]["seconds"] + took, "predicting_seconds": took}
    truth = _patient(given, predictor.site, resample(reference, told.grid))
    score = scored(told, truth)
    if given.request.technique is Technique.IMRT:
        found[LINEAR] = _linearly(given, truth, told, predictor.site)
    out = {
        "style": given.style.name,
        "technique": given.request.technique.value,
        "patient": given.number,
        "ways": found,
        "dose_gy": score.dose_gy,
        "dvh_gy": [off for one in score.off_gy.values() for off in one.values()],
    }
    with whole_file(path) as part:
        part.write_text(json.dumps(out), encoding="utf-8")
    return out


def as_good(of: Mapping[str, Any], way: str) -> bool:
    """Whether a plan made in a way meets as many goals as the reference planner's."""
    return bool(of["ways"][way]["met"] >= of["ways"]["reference"]["met"])


def _mimicking(task: Task, dose: Volume) -> Callable[[], Plan]:
    return lambda: plan_mimicking(task, dose)[0]


def _made(given: Given, make: Callable[[], Plan]) -> tuple[dict[str, Any], Volume]:
    started = time.process_time()
    plan = make()
    seconds = time.process_time() - started
    dose = dose_of(plan, given)
    results = judge(given.task.goals, histograms(dose, given.task.structures), given.task.prescription)
    return {**_told(results), "seconds": seconds, "mu": sum(beam.mu for beam in plan.beams)}, dose


def _told(results: tuple[GoalResult, ...]) -> dict[str, Any]:
    judged = [r for r in results if r.met is not None]
    return {
        "met": sum(bool(r.met) for r in judged),
        "met_first": sum(bool(r.met) for r in judged if r.goal.priority < _BEST),
        "judged": len(judged),
        "values": {f"{r.goal.structure} {r.goal.text}": r.value for r in judged},
    }


def _predicted(given: Given, predictor: Predictor) -> Volume:
    """The dose foretold of a patient, as the walk has it."""
    ct, structures = given.patient.truth, given.task.structures
    inside = structures.mask(BODY)[None].to(torch.uint8)
    possible = Volume(inside, ct.grid, Quantity.LABEL, ct.frame)
    patient = Patient(ct, replace(structures, frame=ct.frame), possible)
    fields = fields_of(given.task.beams)
    return predicted(patient, predictor.nets, predictor.site, predictor.config, given.style.name, fields)[0]


def _off(dose: Volume, reference: Volume, given: Given) -> float:
    """Mean difference in the body (Gy)."""
    body = resample(
        Volume(
            given.task.structures.mask(BODY)[None].float(), given.task.structures.grid, Quantity.PROBABILITY
        ),
        dose.grid,
    )
    inside = body.data > 0.5
    return float((dose.data - reference.data).abs()[inside].mean())


def _linearly(given: Given, patient: Patient, told: Volume, site: Site) -> dict[str, Any]:
    """What the fluence of a linear model gives; ``failed`` where it has no end in time."""
    started = time.process_time()
    try:
        dose = linear_openkbp(patient, told, given.task.machine, site, _SMALL).dose
    except ValueError as error:
        return {"failed": str(error), "seconds": time.process_time() - started}
    seconds = time.process_time() - started
    results = judge(given.task.goals, histograms(dose, given.task.structures), given.task.prescription)
    return {**_told(results), "seconds": seconds}


def _patient(given: Given, site: Site, dose: Volume) -> Patient:
    """The site's target and organs on the patient's own voxels, as OpenKBP scores them."""
    ct, structures = given.patient.truth, given.task.structures
    counted = {d.name for d in (*site.targets, *site.organs)}
    names = [own for name, own in matched(site, structures).items() if name in counted]
    kept = StructureSet(structures.grid, {name: structures.structures[name] for name in names}, ct.frame)
    inside = structures.mask(BODY)[None].to(torch.uint8)
    there = replace(dose, data=dose.data * inside, frame=ct.frame)
    return Patient(ct, kept, Volume(inside, ct.grid, Quantity.LABEL, ct.frame), there)
