"""One plan of the reference planner: a synthetic patient with its true CT, planned in a style."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from imaging.case import Case
from imaging.folder import write_case
from imaging.organ import NAMES
from imaging.resample import resample
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Volume
from planning.arcs import Arc
from planning.beams import Beam
from planning.check.dvh import histograms
from planning.check.judge import as_json, judge
from planning.contour.margins import expand
from planning.density import relative_electron_density
from planning.goals import brain_goals
from planning.machine import load_machine
from planning.optimise.automatic import plan_automatically
from planning.optimise.making import Task
from planning.optimise.settings import Settings
from planning.plan import Plan, Prescription
from planning.predict.plans import PLAN
from planning.styles import SURROUND, Style, goals_in_style, styles

from .cohort_job import software
from .console import Progress
from .held_out import HeldOut, gross_tumour, held_out
from .optimised import BODY, directions, dose_grid, dose_on
from .patient import contoured
from .plan_organs import Organs
from .request import Request, Technique

_ROUNDS = 6  # of styles, the last of which has arcs: they take three times as long
_PATIENTS_EACH = 6  # that a plan may try: some have no gross tumour to plan for
_PRESCRIPTION = Prescription(60.0, 30)
_NEAR, _FAR = 5.0, 25.0  # mm beyond the target that the tissue around it begins and ends


@dataclass(frozen=True)
class Planner:
    """What every plan of the reference planner follows from, beside its number.

    Parameters
    ----------
    seed
        Which stream of patients.
    recipe
        Of the patients, one of those that come along.
    dose_spacing
        Voxel size of the grid that dose is computed on (mm); it is kept on the CT's.
    n_beams
        Standing fields of an IMRT plan.
    arc_step
        Degrees from one control point of an arc to the next.
    settings
        Of the optimiser.

    Raises
    ------
    ValueError
        If the seed is negative or the spacing is not 2 to 5 mm.
    """

    seed: int = 0
    recipe: str = "fast"
    dose_spacing: float = 4.0
    n_beams: int = 9
    arc_step: float = 6.0
    settings: Settings = field(
        default_factory=lambda: Settings(leaf_iterations=60, n_presses=5, n_corrections=2)
    )

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"expected --seed of 0 or more, got {self.seed}")
        if not 2.0 <= self.dose_spacing <= 5.0:
            raise ValueError(f"expected --dose-spacing of 2 to 5 mm, got {self.dose_spacing:g}")


def way_to_plan(planner: Planner, k: int) -> tuple[Style, Request]:
    """Style and technique of plan k: styles take turns, and every sixth round of them has arcs.

    Every second round of arcs has two.
    """
    known = list(styles().values())
    turn = k // len(known)
    technique = Technique.VMAT if turn % _ROUNDS == _ROUNDS - 1 else Technique.IMRT
    request = Request(
        _PRESCRIPTION,
        dose_spacing=planner.dose_spacing,
        technique=technique,
        n_beams=planner.n_beams,
        n_arcs=1 + turn // _ROUNDS % 2,
    )
    return known[k % len(known)], request


def plan_reference(planner: Planner, k: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """Plan k written into an empty folder: a case with ``ct``, ``dose`` and structures, and ``plan.json``.

    The same values for the same planner and number, but for the seconds it took.

    Parameters
    ----------
    planner
        What it follows from.
    k
        Which plan; not negative.
    folder
        Where its files go.
    progress
        Told what happens and the share of it that is done.

    Returns
    -------
    dict
        What ``plan.json`` holds.

    Raises
    ------
    ValueError
        If no patient tried has a tumour to plan for.
    """
    start = time.monotonic()
    # Sums in another order round otherwise, and leaves would not lie the same.
    torch.set_num_threads(1)
    given = given_for(planner, k)
    style, request, patient, task = given.style, given.request, given.patient, given.task
    plan, report = plan_automatically(replace(task, progress=progress))
    dose = dose_of(plan, given)
    judged = judge(task.goals, histograms(dose, task.structures), _PRESCRIPTION)
    facts: dict[str, Any] = {
        "style": style.name,
        "technique": request.technique.value,
        "n_arcs": len(task.arcs),
        "gantry_angles": _angles(plan),
        "mu": round(report.mu, 2),
        "goals_met": sum(of.met is True for of in judged),
        "goals_judged": sum(of.met is not None for of in judged),
        "goals": as_json(judged),
        "planner": asdict(planner),
        "patient": given.number,
        "version": software(),
        "traits": dict(patient.traits),
    }
    here = resample(dose, task.structures.grid)
    write_case(
        Case(
            {"ct": patient.truth, "dose": replace(here, frame=patient.truth.frame)},
            task.structures,
            _source(k),
        ),
        folder,
    )
    facts["seconds"] = round(time.monotonic() - start, 1)
    (folder / PLAN).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return facts


@dataclass(frozen=True, eq=False)
class Given:
    """What plan k is made for.

    Parameters
    ----------
    style, request
        As :func:`way_to_plan` gives them.
    patient, number
        Whom, and which of the planner's stream.
    task
        With the goals of the style and the planner's settings.
    """

    style: Style
    request: Request
    patient: HeldOut
    number: int
    task: Task


def given_for(planner: Planner, k: int) -> Given:
    """What plan k is made for; errors as :func:`plan_reference`."""
    style, request = way_to_plan(planner, k)
    patient, number, structures = _patient(planner, k, request)
    body = structures.mask(BODY)
    task = Task(
        relative_electron_density(patient.truth, body),
        structures,
        _PRESCRIPTION,
        load_machine(request.machine),
        _turned(directions(structures, request), planner.arc_step),
        goals_in_style(brain_goals(), style),
        dose_grid(structures.grid, body, request.dose_spacing),
        settings=replace(planner.settings, press_priority=style.press),
    )
    return Given(style, request, patient, number, task)


def _turned(beams: Sequence[Beam] | Sequence[Arc], step: float) -> tuple[Beam, ...] | tuple[Arc, ...]:
    """Arcs with control points so far apart; standing fields as they are."""
    arcs = tuple(replace(beam, step=step) for beam in beams if isinstance(beam, Arc))
    return arcs or tuple(beam for beam in beams if isinstance(beam, Beam))


def dose_of(plan: Plan, given: Given) -> Volume:
    """Total dose (Gy) of a plan on the patient's true CT."""
    return dose_on(plan, given.patient.truth, given.task.structures.mask(BODY), given.task.dose_grid)


def _patient(planner: Planner, k: int, request: Request) -> tuple[HeldOut, int, StructureSet]:
    """The first patient of a plan's own few that has a tumour to plan for, its number and contours."""
    for number in range(k * _PATIENTS_EACH, (k + 1) * _PATIENTS_EACH):
        patient = held_out(planner.seed, number, recipe=planner.recipe)
        try:
            gtv = gross_tumour(patient, patient.truth.grid)
        except ValueError:
            continue
        structures = contoured(patient.tissues, gtv, request, patient.truth, None, Organs(_organs(patient)))
        return patient, number, _with_surround(structures)
    raise ValueError(f"expected a tumour to plan for in one of {_PATIENTS_EACH} patients, got none")


def _organs(patient: HeldOut) -> StructureSet:
    """Organs at risk as they truly lie."""
    if patient.structures is None:
        raise ValueError("expected a synthetic patient with its contours, got none; make it with structures")
    wanted = {"Brainstem", *NAMES}
    kept = {name: s for name, s in patient.structures.structures.items() if name in wanted}
    return replace(patient.structures, structures=kept)


def _with_surround(structures: StructureSet) -> StructureSet:
    """The tissue around the target, which styles may ask something of."""
    ptv, grid = structures.mask("PTV"), structures.grid
    around = expand(ptv, grid, _FAR) & ~expand(ptv, grid, _NEAR) & structures.mask(BODY)
    drawn = Structure(around, RoiType.CONTROL, (128, 128, 128))
    return replace(structures, structures={**structures.structures, SURROUND: drawn})


def _angles(plan: Plan) -> list[float]:
    """Gantry angles of standing fields, or of every control point of arcs (degrees), in order."""
    angles: list[float] = []
    for beam in plan.beams:
        for point in beam.control_points:
            if not angles or angles[-1] != point.gantry:
                angles.append(round(float(point.gantry), 3))
    return angles


def _source(k: int) -> Source:
    return Source(patient_id=f"SYNTH-PLAN-{k:05d}", patient_name="SYNTHETIC^PATIENT")


def told_short(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a plan's facts that a table has room for."""
    names = ("style", "technique", "n_arcs", "mu", "goals_met", "goals_judged", "seconds")
    return {name: facts[name] for name in names}
