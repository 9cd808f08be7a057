from functools import cache, partial

import numpy as np
import pytest
import torch

from imaging.grid import axial, positions
from imaging.volume import Quantity, Volume
from planning.beams import Beam
from planning.dose.bixels import covering
from planning.dose.influence import adjoint, apply, influence
from planning.machine import load_machine
from planning.optimise.correct import Problem, correct
from planning.optimise.fluence import Ended, minimise
from planning.optimise.objectives import (
    SquaredDeviation,
    SquaredMean,
    SquaredOverdose,
    prepare,
)
from planning.optimise.sampling import draw

MACHINE = load_machine("generic-6mv")
TERMS = [
    SquaredDeviation("target", 2.0, 20.0),
    SquaredOverdose("organ", 0.3, 10.0),
    SquaredOverdose("rest", 0.5, 10.0),
    SquaredMean("rest", 0.0, 10.0),
]


@cache
def _water():
    """A ball in a cube of water with an organ beside it: beams, bixels, density, points and voxels."""
    grid = axial(np.full(3, -50.0), np.full(3, 50.0), (5.0, 5.0, 5.0))
    points = positions(grid, np.argwhere(np.ones(grid.shape)).astype(np.float64))
    away = np.linalg.norm(points, axis=1)
    organ = np.linalg.norm(points - [22.0, 0.0, 0.0], axis=1) <= 10
    masks = {"target": (away <= 16) & ~organ, "organ": organ, "rest": (away > 16) & ~organ}
    voxels = {name: torch.from_numpy(np.flatnonzero(mask)) for name, mask in masks.items()}
    beams = [Beam(angle, 0.0, 0.0, np.zeros(3)) for angle in (0.0, 120.0, 240.0)]
    bixels = [covering(points[masks["target"]], beam, MACHINE) for beam in beams]
    density = Volume(torch.ones((1, *grid.shape)), grid, Quantity.DENSITY)
    return beams, bixels, density, points, voxels


def _problem(matrix, regions, weights):
    like = torch.ones(matrix.n_bixels)
    return Problem(
        partial(apply, matrix), partial(adjoint, matrix), prepare(TERMS, regions, weights, like=like)
    )


@cache
def _full():
    """The problem on all voxels, and where a search on the full dose alone ends."""
    beams, bixels, density, points, voxels = _water()
    full = _problem(influence(beams, bixels, density, points, MACHINE), voxels, None)
    return full, minimise(*_parts(full), _even(), max_iterations=1000, tolerance=1e-8)


@cache
def _sampled(share, seed):
    """The problem on drawn voxels, and where a search on those ends."""
    beams, bixels, density, points, voxels = _water()
    drawn = draw(voxels, {"rest": share, "organ": 3 * share}, torch.Generator().manual_seed(seed))
    matrix = influence(beams, bixels, density, points[drawn.rows.numpy()], MACHINE)
    part = _problem(matrix, drawn.regions, drawn.weights)
    return part, minimise(*_parts(part), _even(), max_iterations=100).weights


def _parts(problem):
    return problem.apply, problem.adjoint, problem.objective


def _even():
    return torch.full((sum(len(own.positions) for own in _water()[1]),), 0.05)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_corrected_weights_have_the_objective_of_a_search_on_the_full_dose(seed):
    full, least = _full()
    part, start = _sampled(1 / 8, seed)
    corrected = correct(start, part, full)
    assert corrected.before > 1.03 * least.value
    assert corrected.after == pytest.approx(least.value, rel=1e-3)
    assert float(corrected.weights.min()) >= 0
    np.testing.assert_allclose(corrected.dose.numpy(), full.apply(corrected.weights).numpy(), atol=1e-5)


def test_no_round_raises_the_full_objective_however_few_the_points():
    full, least = _full()
    # 78 points of the rest for 180 bixels: the search on those finds its way between them.
    part, start = _sampled(1 / 100, 0)
    told = []
    corrected = correct(
        start, part, full, max_rounds=5, progress=lambda step, share: told.append((step, share))
    )
    assert told == sorted(told)
    assert told[-1] == ("correct", 1.0)
    assert list(corrected.history) == sorted(corrected.history, reverse=True)
    assert corrected.after - least.value < 0.1 * (corrected.before - least.value)


def test_a_step_goes_only_as_far_as_the_full_objective_falls():
    # One weight, one voxel. The full objective (d - 1)² is bent twenty times as much as the sample says: its
    # step from 0 ends at 20, and of its halves only the fourth, 1.25, is better than 0.
    def problem(factor):
        return Problem(
            lambda w: w, lambda g: g, lambda d: (factor * float((d[0] - 1) ** 2), 2 * factor * (d - 1))
        )

    sampled, full = problem(0.05), problem(1.0)
    once = correct(torch.zeros(1), sampled, full, max_rounds=1)
    assert once.weights.tolist() == pytest.approx([1.25], rel=1e-3)
    assert once.history == pytest.approx([1.0, 0.0625], rel=1e-2)
    # That step tells how much the full objective is bent: the next one arrives.
    assert correct(torch.zeros(1), sampled, full, max_rounds=2).weights.tolist() == pytest.approx(
        [1.0], rel=1e-3
    )


def test_a_correction_costs_one_full_dose_and_one_adjoint_a_round():
    full, _ = _full()
    part, start = _sampled(1 / 8, 0)
    n_doses, n_adjoints = [], []
    counted = Problem(
        lambda w: (n_doses.append(1), full.apply(w))[1],
        lambda g: (n_adjoints.append(1), full.adjoint(g))[1],
        full.objective,
    )
    corrected = correct(start, part, counted, max_rounds=2, tolerance=0.0)
    assert corrected.ended is Ended.ITERATIONS
    assert (len(n_doses), len(n_adjoints)) == (3, 2)
    assert len(corrected.history) == 3


def test_weights_of_the_full_problem_have_nothing_to_correct():
    full, least = _full()
    corrected = correct(least.weights, _sampled(1 / 8, 0)[0], full)
    assert corrected.ended in (Ended.CONVERGED, Ended.STALLED)
    assert corrected.after == pytest.approx(least.value, rel=1e-4)


def test_a_correction_ends_when_goals_are_met():
    full, least = _full()
    part, start = _sampled(1 / 8, 0)

    def good_enough(dose):
        return full.objective(dose)[0] <= 1.01 * least.value

    corrected = correct(start, part, full, stop=good_enough)
    assert corrected.ended is Ended.GOALS_MET
    assert corrected.history[-2] > 1.01 * least.value >= corrected.after
    # What is good enough as it comes costs one full dose and nothing more.
    untouched = Problem(full.apply, lambda _: pytest.fail("asked for an adjoint"), full.objective)
    again = correct(corrected.weights, part, untouched, stop=good_enough)
    assert again.history == pytest.approx([corrected.after])


def test_a_full_dose_that_is_not_a_number_is_refused():
    full, _ = _full()
    part, start = _sampled(1 / 8, 0)
    bad = Problem(lambda w: full.apply(w) * float("nan"), full.adjoint, full.objective)
    with pytest.raises(ValueError, match="expected a finite objective"):
        correct(start, part, bad)
