"""Plans that hold when something is otherwise: what ``spindose plan`` asks, checks and tells of them."""

import json
from collections.abc import Mapping
from pathlib import Path

from imaging.nifti import read_nifti
from imaging.structures import RoiType, StructureSet, named
from imaging.volume import Quantity, Volume
from mr2ct.calibration import common
from planning.check.robust import robustness
from planning.check.robust_facts import as_json
from planning.hu_deviation import density_deviation
from planning.machine import load_machine
from planning.optimise.robust import Aggregate
from planning.optimise.settings import Settings
from planning.plan import Plan
from planning.scenarios import expect_deviation

from .console import Progress
from .ct_nets import INTERVALS, ZOO, calibration_of
from .goal_sheet import goals_of
from .request import Request
from .review.facts import CheckRow
from .steps import file_hash

STEP = "robustness"
_FILE = "robustness.json"


def asked(request: Request) -> dict[str, object]:
    """What a request says of errors, for the key of a step; nothing where it says nothing."""
    told: dict[str, object] = {}
    if request.setup_error:
        told["setup_error"] = request.setup_error
    if request.density_uncertainty is not None:
        told["density_uncertainty"] = file_hash(request.density_uncertainty)
    if request.robust_ct:
        told["robust_ct"] = file_hash(ZOO / INTERVALS)
    if told and request.expected_value:
        told["expected_value"] = True
    return told


def parameters(request: Request) -> dict[str, str]:
    """What a request says of errors, for a reader; nothing where it says nothing."""
    told: dict[str, str] = {}
    if request.setup_error:
        told["set-up error"] = f"{request.setup_error:g} mm either way along each axis"
    if request.density_uncertainty is not None or request.robust_ct:
        told["density error"] = f"{settings_of(request).density_sigmas:g} standard deviation either way"
    if told:
        told["over these errors"] = f"best {'on average' if request.expected_value else 'in the worst case'}"
    return told


def inputs(request: Request) -> dict[str, str]:
    """Hash of the file that a robust plan follows from beside the scan and the target, where there is one."""
    path = request.density_uncertainty
    return {} if path is None else {"density's standard deviation": file_hash(path)}


def settings_of(request: Request) -> Settings:
    """How a plan is made against these errors."""
    aggregate = Aggregate.EXPECTED if request.expected_value else Aggregate.WORST
    return Settings(setup_error_mm=request.setup_error, aggregate=aggregate)


def deviation_of(request: Request, density: Volume, ct: Volume, sigma: Volume | None) -> Volume | None:
    """One standard deviation of the density, checked against it; None where none is asked for.

    Parameters
    ----------
    request
        Says whether it is that of a file, or of the networks' CT.
    density
        Of the plan.
    ct, sigma
        HU, and what the networks' CT may be off by.
    """
    if request.robust_ct:
        calibration = calibration_of(())
        if sigma is None or calibration is None:
            raise ValueError(
                "expected a CT with calibrated deviations for --robust-ct, got none; plan without it"
            )
        return expect_deviation(density_deviation(common(ct, sigma, calibration), ct), density)
    if request.density_uncertainty is None:
        return None
    return expect_deviation(read_nifti(request.density_uncertainty, Quantity.DENSITY), density)


def expect_uncertainty(request: Request) -> None:
    """Nothing, unless the file of deviations cannot be one, whatever the patient.

    Raises
    ------
    ValueError
        If it cannot be read, or for what :func:`planning.scenarios.expect_deviation` refuses.
    """
    if request.density_uncertainty is not None:
        expect_deviation(read_nifti(request.density_uncertainty, Quantity.DENSITY))


def cautions(request: Request) -> tuple[str, ...]:
    """What the reader of a robust plan must know, one sentence each."""
    if not (request.setup_error and request.ptv_margin):
        return ()
    twice = (
        f"The PTV holds a margin of {request.ptv_margin:g} mm and the plan is robust against "
        f"{request.setup_error:g} mm as well; take --ptv-margin 0 if both stand for the same errors."
    )
    return (twice,)


def check(
    plan: Plan,
    density: Volume,
    structures: StructureSet,
    dose: Volume,
    request: Request,
    deviation: Volume | None,
    progress: Progress,
) -> dict[str, object]:
    """The goals of a plan and the coverage of its targets in every scenario, as plain values."""
    found = robustness(
        plan,
        settings_of(request).scenarios(deviation),
        density,
        structures,
        goals_of(request),
        [name for kind in (RoiType.GTV, RoiType.CTV, RoiType.PTV) for name in named(structures, kind)],
        dose.grid,
        load_machine(plan.machine),
        deviation=deviation,
        progress=progress,
    )
    return {**as_json(found), "cautions": list(cautions(request))}


def write(found: dict[str, object], here: Path) -> None:
    """Keep what a check found."""
    (here / _FILE).write_text(json.dumps(found, indent=1))


def read(here: Path) -> dict[str, object]:
    """What a check found, as it was kept."""
    return dict(json.loads((here / _FILE).read_text()))


def facts(out: Path, request: Request) -> dict[str, object]:
    """What was found of a plan that was asked to be robust, for a program; nothing of another."""
    return {"robustness": read(out / STEP)} if asked(request) else {}


def lines(found: dict[str, object]) -> list[str]:
    """The same for a person: coverage, and the goals that are missed in some scenario."""
    if not found:
        return []
    told: dict = found["robustness"]  # type: ignore[assignment, type-arg] # as JSON gives it
    missed = [goal for goal in told["goals"] if goal["met_in_all"] is False]
    return [
        f"Robustness: {len(told['scenarios'])} scenarios",
        *(
            f"  {name} V95%: {c['nominal']:.1f} % as planned, {c['worst']:.1f} % at worst "
            f"({c['worst_scenario']})"
            for name, c in told["v95_percent"].items()
        ),
        *(
            f"  missed at worst: {g['structure']} {g['goal']}, {g['worst']:.2f} {g['unit']} "
            f"({g['worst_scenario']})"
            for g in missed
        ),
        *(f"Caution: {caution}" for caution in told["cautions"]),
    ]


def rows(found: Mapping[str, object]) -> tuple[CheckRow, ...]:
    """The same for a page: coverage at worst, and the goals of the structures there are."""
    told: dict = dict(found)  # type: ignore[type-arg] # as JSON gives it
    goals = [goal for goal in told.get("goals", []) if goal["met_in_all"] is not None]
    return (
        *(
            CheckRow(
                f"{name} V95% in the worst of {len(told['scenarios'])} scenarios",
                f"{c['worst']:.1f} % ({c['worst_scenario']}); {c['nominal']:.1f} % as planned",
            )
            for name, c in told.get("v95_percent", {}).items()
        ),
        *(
            CheckRow(
                f"{g['structure']} {g['goal']}, at worst",
                f"{g['worst']:.2f} {g['unit']} ({g['worst_scenario']}); {g['nominal']:.2f} as planned",
                g["goal"].split(maxsplit=1)[1],
                g["met_in_all"],
            )
            for g in goals
        ),
    )
