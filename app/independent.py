"""Every plan's dose against the second engine: what the walk computes, keeps and tells of it."""

import json
from collections.abc import Mapping
from pathlib import Path

from imaging.grid import Grid
from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.check.independent import GAMMA_PERCENT, TARGET_PERCENT, IndependentCheck, independent_check
from planning.machine import load_machine
from planning.plan import Plan

from .console import Progress
from .review.facts import CheckRow

STEP = "independent"
# The second engine's cost grows with the voxels: finer than this it checks no plan better (mm).
FINEST = 3.0
N_POINTS = 20_000
_FILE = "independent.json"


def check(
    plan: Plan, density: Volume, structures: StructureSet, dose: Volume, grid: Grid, progress: Progress
) -> dict[str, object]:
    """A plan's dose beside the collapsed cone's on a grid of its own, as plain values."""
    found = independent_check(
        plan,
        density,
        structures,
        load_machine(plan.machine),
        dose,
        grid=grid,
        n_points=N_POINTS,
        progress=progress,
    )
    return as_json(found, float(max(grid.spacing)))


def as_json(found: IndependentCheck, spacing: float) -> dict[str, object]:
    """What a check found as plain values, with what was expected."""
    return {
        "engine": "collapsed cone",
        "grid_mm": spacing,
        "gamma_3_2_percent": round(found.gamma_3_2.pass_percent, 3),
        "gamma_2_2_percent": round(found.gamma_2_2.pass_percent, 3),
        "gamma_points": found.gamma_3_2.n_points,
        "structures": found.differences,
        "targets": list(found.targets),
        "worst": found.worst,
        "tolerance": {
            "target_mean_percent": TARGET_PERCENT,
            "target_mean_source": "chosen by this project",
            "gamma_3_2_percent": GAMMA_PERCENT,
            "gamma_source": "AAPM TG-218, Med. Phys. 45, e53 (2018), for measurements; not verified",
        },
        "agrees": found.agrees and found.gamma_agrees,
    }


def write(found: dict[str, object], here: Path) -> None:
    """Keep what a check found."""
    (here / _FILE).write_text(json.dumps(found, indent=1))


def read(here: Path) -> dict[str, object]:
    """What a check found, as it was kept."""
    return dict(json.loads((here / _FILE).read_text()))


def cautions(found: Mapping[str, object]) -> tuple[str, ...]:
    """What the reader of a plan must know of its check, one sentence at most."""
    if not found or found["agrees"]:
        return ()
    disagrees = (
        f"The second dose engine disagrees with the plan's dose ({_words(found)}); find out why before "
        "the plan is used for anything."
    )
    return (disagrees,)


def lines(found: Mapping[str, object]) -> list[str]:
    """A check for a person, in one line."""
    return [f"Second dose engine: {_words(found)}"] if found else []


def rows(found: Mapping[str, object]) -> tuple[CheckRow, ...]:
    """The same for a page: targets and gamma with what was expected, then every other structure."""
    if not found:
        return ()
    told: dict = dict(found)  # type: ignore[type-arg] # as JSON gives it
    means = _means(found)
    gamma, expected = told["gamma_3_2_percent"], told["tolerance"]
    others = [f"{name} {mean:+.1f}" for name, mean in means.items() if name not in told["targets"]]
    return (
        *(
            CheckRow(
                f"Mean dose of the {name}, plan − second engine",
                f"{means[name]:+.2f} % of the prescription",
                f"within {expected['target_mean_percent']:g} % ({expected['target_mean_source']})",
                abs(means[name]) <= expected["target_mean_percent"],
            )
            for name in told["targets"]
        ),
        CheckRow(
            "Gamma 3 %/2 mm above 10 %, plan against second engine",
            f"{gamma:.2f} %",
            f"at least {expected['gamma_3_2_percent']:g} % ({expected['gamma_source']})",
            gamma >= expected["gamma_3_2_percent"],
        ),
        CheckRow(
            "Mean dose of other structures, plan − second engine",
            f"{', '.join(others)} % of the prescription" if others else "none",
        ),
    )


def _words(found: Mapping[str, object]) -> str:
    told: dict = dict(found)  # type: ignore[type-arg] # as JSON gives it
    means = _means(found)
    return (
        f"{', '.join(f'{name} mean {means[name]:+.1f} %' for name in told['targets'])}; "
        f"gamma 3 %/2 mm {told['gamma_3_2_percent']:.1f} %"
    )


def _means(found: Mapping[str, object]) -> dict[str, float]:
    told: dict = dict(found)  # type: ignore[type-arg] # as JSON gives it
    return {name: one["mean_difference_percent"] for name, one in told["structures"].items()}
