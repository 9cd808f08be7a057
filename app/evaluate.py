"""``spindose evaluate plan``: an RTPLAN and its dose, read from files and put in figures."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imaging.volume import Volume
from planning.check.dvh import Dvh
from planning.goals import Goal, brain_goals, read_sheet

from .evaluate_files import (
    PlanFiles,
    Regions,
    expect_of_one_piece,
    plan_files,
    read_dose,
    read_plan_and_machine,
    read_regions,
)
from .evaluate_plan import figures
from .single import Reading
from .steps import file_hash

# What the walk found of a plan beside its dose, and keeps in ``plan.json``.
_KEPT = ("independent", "robustness", "mri_only", "true_ct")


@dataclass(frozen=True)
class Asked:
    """What is to be evaluated.

    Parameters
    ----------
    plan
        An RTPLAN, or a folder that holds one.
    dose, structures
        Files that go with it; those in the folder where None.
    goals
        A goal sheet (TOML); where None the sheet that the plan was made from, or the brain sheet.
    reading
        Dose and fractions, and which fraction group or machine is meant, where the RTPLAN does not say.
    """

    plan: Path
    dose: Path | None = None
    structures: Path | None = None
    goals: Path | None = None
    reading: Reading = field(default_factory=Reading)


def evaluate_plan(asked: Asked) -> dict[str, object]:
    """Figures of a plan, with the hash of every file that they follow from.

    Raises
    ------
    ValueError
        If a file cannot be read, files do not belong together, or there are structures without a dose.
    """
    files = plan_files(asked.plan, asked.dose, asked.structures)
    plan, machine, cautions = read_plan_and_machine(files.plan, asked.reading)
    cautions += expect_of_one_piece(files)
    sheet = asked.goals or _own_sheet(asked.plan)
    goals = _goals(sheet)
    dvhs, regions = _histograms(files)
    return {
        **figures(plan, machine, dvhs, regions.kinds if regions else {}, goals),
        **_kept(asked.plan),
        "cautions": list(dict.fromkeys(cautions)),
        "inputs": _hashes(files, sheet),
    }


def _histograms(files: PlanFiles) -> tuple[dict[str, Dvh], Regions | None]:
    if files.dose is None:
        if files.structures is not None:
            raise ValueError("expected a dose to look at structures in, got structures alone; give --dose")
        return {}, None
    if files.structures is None:
        raise ValueError("expected structures to look at the dose in, got a dose alone; give --structures")
    dose, source = read_dose(files.dose)
    regions = read_regions(files.structures, dose, source)
    return regions.histograms(_somewhere(dose)), regions


def _somewhere(dose: Volume) -> Volume:
    if float(dose.data.max()) <= 0:
        raise ValueError("expected a dose above 0 Gy somewhere, got none; export the dose of the plan again")
    return dose


def _own_sheet(path: Path) -> Path | None:
    """The goal sheet that a planned folder keeps where it was the planner's own."""
    own = path / "delivery" / "goals.toml"
    return own if own.is_file() else None


def _goals(sheet: Path | None) -> tuple[Goal, ...]:
    if sheet is None:
        return brain_goals()
    try:
        return read_sheet(sheet.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError("expected a sheet of goals in TOML, got a file that is no UTF-8 text") from None


def _kept(path: Path) -> dict[str, object]:
    """What a planned folder tells of the plan's checks; nothing of another folder."""
    facts = path / "plan.json"
    if not facts.is_file():
        return {}
    try:
        told = json.loads(facts.read_text(encoding="utf-8"))
        return {name: told[name] for name in _KEPT if told.get(name)}
    except (ValueError, AttributeError):
        raise ValueError("expected a plan.json as spindose writes it, got another; plan again") from None


def _hashes(files: PlanFiles, sheet: Path | None) -> dict[str, str]:
    named = {"RTPLAN": files.plan, "dose": files.dose, "structures": files.structures, "goals": sheet}
    return {name: file_hash(path) for name, path in named.items() if path is not None}


def lines(found: Mapping[str, object]) -> list[str]:
    """The figures for a person."""
    told: dict = dict(found)  # type: ignore[type-arg] # as JSON gives it
    rx, missed = told["prescription"], [goal for goal in told["goals"] if goal["met"] is False]
    seconds = told["delivery_seconds"]
    beams = f"{told['beams']} beam{'s' * (told['beams'] > 1)}"
    return [
        f"Plan: {rx['dose_gy']:g} Gy in {rx['n_fractions']} fractions, {beams}, {told['mu']:.0f} MU"
        + (f", {seconds / 60:.1f} min a fraction" if seconds is not None else ""),
        *([f"Goals met: {told['goals_met']} of {told['goals_judged']}"] if told["goals"] else []),
        *(f"  not met: {g['structure']} {g['goal']}, reached {g['value']:.2f} {g['unit']}" for g in missed),
        *(f"{name}: {_index(one)}" for name, one in told["targets"].items()),
        *(
            f"{name}: {one['model']} {one['percent']:.2f} % ({one['parameters']['end_point']}, not verified)"
            for name, models in told["complications"].items()
            for one in models
        ),
        f"Modulation: {_modulation(told['complexity'])}",
        *(f"Caution: {caution}" for caution in told["cautions"]),
    ]


def _index(one: Mapping[str, object]) -> str:
    if "not_evaluated" in one:
        return f"no indices, {one['not_evaluated']}"
    return (
        f"conformity {one['paddick_conformity']:.3f} (of the 95 % isodose "
        f"{one['paddick_conformity_of_95_percent']:.3f}), homogeneity {one['icru_homogeneity']:.3f}, "
        f"gradient {one['gradient_index']:.2f}"
    )


def _modulation(one: Mapping[str, object]) -> str:
    if "not_evaluated" in one:
        return str(one["not_evaluated"])
    return (
        f"score {one['modulation_score']:.3f}, mean area {one['area_mm2']:.0f} mm², "
        f"{one['mu_per_gray']:.0f} MU/Gy"
    )
