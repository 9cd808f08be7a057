"""TG119 planned by this project, as its users call it; the last line is JSON.

The counterpart of ``benchmarks/peer/tg119.py``: the same file, structures, objectives and dose grid,
in a process of its own. With the reference's five beams the full matrix is built and timed; with
other beams the plan is what a user makes: bixels laid by this project, influence at sampled voxels
alone, and the dose of every voxel at the end.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from planning.dose.influence import Influence, adjoint, apply, influence
from planning.machine import Machine, load_machine
from planning.optimise.correct import Problem, correct
from planning.optimise.fluence import optimise_fluence
from planning.optimise.objectives import evaluate, prepare
from planning.optimise.sampling import Drawn, draw, shares_for

from .roofline import best, peak_bytes
from .tg119 import GOAL, OBJECTIVES, dose, own_beams, phantom, reference_beams, scan, stored

Figures = dict[str, float | int | bool | None]

# Voxels that the optimiser looks at, of half a million: with a correction on all of them, and without.
_POINTS, _POINTS_ALONE = 20_000, 40_000


def main() -> None:
    """What was asked, timed step by step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of tg119.npz and reference/")
    parser.add_argument("--beams", type=int, help="a whole plan with so many; else the reference's five")
    asked = parser.parse_args()
    machine = load_machine("generic-6mv")
    if asked.beams is None:
        figures = _reference(asked.data, machine)
    else:
        figures = _plan(asked.data, asked.beams, machine)
    print(json.dumps({**figures, "n_threads": torch.get_num_threads(), "peak_bytes": peak_bytes()}))


def _reference(folder: Path, machine: Machine) -> Figures:
    """The full matrix of the reference's beams, and the search for weights that meet the goal.

    The search draws voxels, computes their influence anew (counted: the peer's search needs none),
    ends when the full objective, on every voxel, is at most the goal, and proves it.
    """
    seen = scan(folder)
    beams, bixels = reference_beams(stored(folder / "reference/tg119_5_beams.npz"))
    # Density on the dose grid is a part of it, as in the peer's.
    before = time.perf_counter()
    body = phantom(seen)
    matrix = influence(beams, bixels, body.density, body.points, machine)
    influence_s = time.perf_counter() - before
    before = time.perf_counter()
    drawn = _drawn(body.voxels, _POINTS)
    part = influence(beams, bixels, body.density, body.points[drawn.rows.numpy()], machine)
    sampled_s = time.perf_counter() - before
    sampled = _problem(part, prepare(OBJECTIVES, drawn.regions, drawn.weights, like=torch.empty(0)))
    full = _problem(matrix, prepare(OBJECTIVES, body.voxels, like=torch.empty(0)))
    found = optimise_fluence(
        part,
        OBJECTIVES,
        drawn.regions,
        drawn.weights,
        max_iterations=400,
        scaled=True,
        stop=lambda dose: sampled.objective(dose)[0] <= GOAL,
    )
    mended = correct(found.weights, sampled, full, stop=lambda dose: full.objective(dose)[0] <= GOAL)
    seconds = time.perf_counter() - before
    objective = evaluate(OBJECTIVES, body.voxels, apply(matrix, mended.weights))[0]
    return {
        "n_beams": len(beams),
        "n_bixels": matrix.n_bixels,
        "influence_s": influence_s,
        "influence_entries": matrix.n_entries,
        "influence_bytes": matrix.n_bytes,
        "apply_s": best(lambda: apply(matrix, mended.weights)),
        "adjoint_s": best(lambda: adjoint(matrix, mended.dose)),
        "sampled_influence_s": sampled_s,
        "goal": GOAL,
        "goal_s": seconds if objective <= GOAL else None,
        "goal_without_sampled_influence_s": seconds - sampled_s if objective <= GOAL else None,
        "n_iterations": len(found.history) - 1,
        "n_corrections": len(mended.history) - 1,
        "objective_before_correction": mended.before,
        "objective": objective,
    }


def _plan(folder: Path, n_beams: int, machine: Machine) -> Figures:
    """A whole plan: from the file to the dose of every voxel, never holding the full matrix."""
    started = time.perf_counter()
    body = phantom(scan(folder))
    beams, bixels = own_beams(body, n_beams, machine)
    loaded = time.perf_counter()
    drawn = _drawn(body.voxels, _POINTS_ALONE)
    part = influence(beams, bixels, body.density, body.points[drawn.rows.numpy()], machine)
    sampled = time.perf_counter()
    # Gains of less than a ten-thousandth fit the drawn voxels more than all of them.
    found = optimise_fluence(
        part,
        OBJECTIVES,
        drawn.regions,
        drawn.weights,
        max_iterations=400,
        tolerance=1e-4,
        scaled=True,
    )
    optimised = time.perf_counter()
    n_bixels = part.n_bixels
    del part
    grid = torch.zeros(body.inside.shape)
    grid[body.inside] = dose(body, beams, bixels, found.weights, machine)
    ended = time.perf_counter()
    return {
        "n_beams": n_beams,
        "n_bixels": n_bixels,
        "n_points": len(drawn.rows),
        "load_s": loaded - started,
        "sampled_influence_s": sampled - loaded,
        "optimisation_s": optimised - sampled,
        "dose_s": ended - optimised,
        "plan_s": ended - started,
        "n_iterations": len(found.history) - 1,
        "sampled_objective": found.value,
        "objective": evaluate(OBJECTIVES, body.voxels, grid[body.inside])[0],
    }


def _drawn(voxels: Mapping[str, Tensor], n_points: int) -> Drawn:
    return draw(voxels, shares_for(OBJECTIVES, voxels, n_points))


def _problem(matrix: Influence, objective: Callable[[Tensor], tuple[float, Tensor]]) -> Problem:
    return Problem(partial(apply, matrix), partial(adjoint, matrix), objective)


if __name__ == "__main__":
    main()
