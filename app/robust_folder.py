"""``spindose robust``: a finished plan held against errors, its histograms as bands, and what fails first."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from imaging.atomic import new_folder
from imaging.dicom.header import RESEARCH_ONLY, software_version
from imaging.structures import RoiType, StructureSet, named
from planning.check import first_failure
from planning.check.dvh import parts_of
from planning.check.first_failure import ErrorKind, FirstFailure
from planning.check.judge import GoalResult, judge
from planning.check.robust import Robustness, histograms_in, robustness
from planning.check.robust_facts import as_json
from planning.goals import same_name
from planning.scenarios import Scenario, combined

from .console import Progress
from .plan_errors import Errors, Finished, error_kinds, finished, parameters
from .review.facts import Provenance
from .robust_page import RobustPage, write_page
from .steps import file_hash


def walk_robust(planned: Path, errors: Errors, out: Path, progress: Progress) -> dict[str, object]:
    """A plan under errors, in a new folder: ``robust.json`` and ``robust.html``.

    Parameters
    ----------
    planned
        Folder of an earlier ``spindose plan`` or ``spindose demo``.
    errors
        What it shall be held against.
    out
        Where the results go.
    progress
        Called with what happens now and the share of it that is done.

    Raises
    ------
    ValueError
        If the folder holds no such run, or an error cannot be one of its patient.
    """
    here = finished(planned, errors)
    kinds = error_kinds(here, errors)
    scenarios = combined(*(kind.scenarios for kind in kinds))
    found = robustness(
        here.plan,
        scenarios,
        here.density,
        here.structures,
        here.goals,
        _targets(here.structures),
        here.dose.grid,
        here.machine,
        deviation=here.deviation,
        distortion=here.distortion,
        progress=lambda _step, share: progress("Dose in every scenario", share),
    )
    failures = _failures(kinds, found, here, progress)
    provenance = Provenance(
        software_version(),
        inputs={
            "plan": file_hash(planned / "delivery"),
            "contours": file_hash(planned / "contours"),
            "synthetic CT": file_hash(planned / "synthetic_ct"),
            **{name: file_hash(path) for name, path in errors.files.items()},
        },
        parameters=parameters(errors, here),
    )
    facts = {
        "note": RESEARCH_ONLY,
        "version": provenance.version,
        "inputs": dict(provenance.inputs),
        "parameters": dict(provenance.parameters),
        **as_json(found),
        "histograms": _bands(found),
        "first_failure": [first_failure.as_json(failure) for failure in failures],
    }
    with new_folder(out) as folder:
        (folder / "robust.json").write_text(json.dumps(facts, indent=1))
        write_page(
            folder / "robust.html",
            RobustPage(found, failures, here.structures, here.plan.prescription, provenance),
        )
    return {"page": str(out / "robust.html"), "facts": str(out / "robust.json"), **_short(facts)}


def lines(facts: Mapping[str, object]) -> list[str]:
    """What was found, for a person."""
    told: dict = dict(facts)  # type: ignore[type-arg] # as JSON gives it
    return [
        f"Scenarios: {told['n_scenarios']}",
        *(
            f"  {name} V95%: {c['nominal']:.1f} % as planned, {c['worst']:.1f} % at worst "
            f"({c['worst_scenario']})"
            for name, c in told["v95_percent"].items()
        ),
        *(f"{one['error']}: {_sentence(one)}" for one in told["first_failure"]),
        f"Facts: {told['facts']}",
        f"Page:  {told['page']}",
    ]


def _sentence(one: Mapping[str, object]) -> str:
    first: list = one["first"]  # type: ignore[assignment, type-arg] # as JSON gives it
    if not first:
        return f"no goal that is met as planned is missed up to {one['holds_at']:g} {one['unit']}"
    goals = "; ".join(
        f"{g['structure']} {g['goal']} ({g['value']:.2f} {g['unit']}, {g['scenario']})" for g in first
    )
    return f"first missed at {one['fails_at']:.3g} {one['unit']}: {goals}"


def _short(facts: Mapping[str, object]) -> dict[str, object]:
    """What a command answers: coverage, what fails first, and the goals missed at worst."""
    told: dict = dict(facts)  # type: ignore[type-arg] # as JSON gives it
    return {
        "n_scenarios": len(told["scenarios"]),
        "v95_percent": told["v95_percent"],
        "first_failure": [{k: v for k, v in one.items() if k != "levels"} for one in told["first_failure"]],
        "missed_at_worst": [
            {k: g[k] for k in ("structure", "goal", "nominal", "worst", "unit", "worst_scenario")}
            for g in told["goals"]
            if g["met_in_all"] is False
        ],
    }


def _bands(found: Robustness) -> dict[str, object]:
    """Histograms as planned and between what they lie, for a program."""
    return {
        name: {
            key: [round(float(v), 3) for v in values]
            for key, values in (
                ("dose_gy", band.doses),
                ("nominal", band.nominal),
                ("low", band.low),
                ("high", band.high),
            )
        }
        for name, band in found.envelopes.items()
    }


def _failures(
    kinds: tuple[ErrorKind, ...], found: Robustness, here: Finished, progress: Progress
) -> tuple[FirstFailure, ...]:
    """What each kind of error takes away first; scenarios that were judged already are not computed again."""
    known = {_key(s): judged for s, judged in zip(found.scenarios, found.results, strict=True)}
    judged = _judging(here, known)
    failures = []
    for n, kind in enumerate(kinds):
        progress("Which goal fails first", n / len(kinds))
        failures.append(first_failure.first_failure(kind, found.results[0], judged))
        aside = _without_ptv(found.results[0], here.structures)
        # The margin of a PTV is there for what moves tissue, so that its goals fail first of all.
        if any(way.distortion or any(way.shift) for way in kind.scenarios) and aside != found.results[0]:
            rest = replace(kind, name=f"{kind.name}, goals of the PTV aside")
            failures.append(first_failure.first_failure(rest, aside, judged))
    progress("Which goal fails first", 1.0)
    return tuple(failures)


def _without_ptv(results: tuple[GoalResult, ...], structures: StructureSet) -> tuple[GoalResult, ...]:
    """Results in which no goal of a PTV counts, if there is a CTV to look at instead."""
    ptvs = named(structures, RoiType.PTV) if named(structures, RoiType.CTV) else []
    return tuple(
        replace(result, met=None) if any(same_name(result.goal.structure, ptv) for ptv in ptvs) else result
        for result in results
    )


def _judging(
    here: Finished, known: dict[tuple[float, ...], tuple[GoalResult, ...]]
) -> Callable[[Scenario], tuple[GoalResult, ...]]:
    """Goals by scenario, each computed once, on the structures that goals are about."""
    parts = parts_of(
        StructureSet(
            here.structures.grid,
            {
                name: structure
                for name, structure in here.structures.structures.items()
                if any(same_name(name, goal.structure) for goal in here.goals)
            },
        )
    )

    def judged(scenario: Scenario) -> tuple[GoalResult, ...]:
        if _key(scenario) not in known:
            (dvhs,) = histograms_in(
                here.plan,
                (scenario,),
                here.density,
                parts,
                here.dose.grid,
                here.machine,
                deviation=here.deviation,
                distortion=here.distortion,
            )
            known[_key(scenario)] = judge(here.goals, dvhs, here.plan.prescription)
        return known[_key(scenario)]

    return judged


def _key(scenario: Scenario) -> tuple[float, ...]:
    return (*scenario.shift, scenario.density_sigmas, scenario.distortion)


def _targets(structures: StructureSet) -> list[str]:
    kinds = (RoiType.GTV, RoiType.CTV, RoiType.PTV)
    return [name for kind in kinds for name in named(structures, kind)]
