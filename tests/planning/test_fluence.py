from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from planning.optimise.dose_volume import AtLeast, Mean, MinDvh
from planning.optimise.fluence import Ended, even_scale, expect_reach, minimise
from planning.optimise.objectives import SquaredDeviation, SquaredOverdose, evaluate
from planning.optimise.voxelwise import Mimic


def _problem():
    random = torch.Generator().manual_seed(0)
    matrix = torch.rand(40, 12, dtype=torch.float64, generator=random)
    objective = partial(evaluate, [SquaredDeviation("a", 2.0, 40.0)], {"a": torch.arange(40)})
    return matrix, objective


def test_least_squares_with_bounds_reaches_the_active_set_solution():
    matrix, objective = _problem()
    found = minimise(
        lambda x: matrix @ x,
        lambda d: matrix.T @ d,
        objective,
        torch.ones(12, dtype=torch.float64),
        max_iterations=1000,
        tolerance=1e-14,
    )
    _, residual = nnls(matrix.numpy(), torch.full((40,), 2.0, dtype=torch.float64).numpy())
    assert found.value == pytest.approx(residual**2, rel=1e-6)
    assert found.converged
    assert float(found.weights.min()) >= 0


def test_the_objective_never_rises_and_progress_is_told():
    matrix, objective = _problem()
    told = []
    found = minimise(
        lambda x: matrix @ x,
        lambda d: matrix.T @ d,
        objective,
        torch.zeros(12, dtype=torch.float64),
        progress=lambda _, share: told.append(share),
    )
    assert list(found.history) == sorted(found.history, reverse=True)
    assert told == sorted(told)
    assert 0 < told[0] <= told[-1] <= 1


@pytest.mark.parametrize("start", [[-1.0], [float("nan")]])
def test_a_negative_or_nan_start_is_refused(start):
    with pytest.raises(ValueError, match="starting weights"):
        minimise(lambda x: x, lambda d: d, lambda d: (0.0, d), torch.tensor(start))


def test_a_search_ends_when_its_goals_are_met_and_says_so():
    matrix, objective = _problem()
    parts = (lambda x: matrix @ x, lambda d: matrix.T @ d, objective, torch.zeros(12, dtype=torch.float64))
    whole = minimise(*parts)
    assert whole.ended is Ended.CONVERGED
    good_enough = 2 * whole.value
    found = minimise(*parts, stop=lambda dose: objective(dose)[0] <= good_enough)
    assert found.ended is Ended.GOALS_MET
    assert not found.converged
    assert len(found.history) < len(whole.history)
    # It ended at the first iteration that was good enough, with the weights of that iteration.
    assert found.history[-2] > good_enough >= found.history[-1]
    assert objective(matrix @ found.weights)[0] == pytest.approx(found.value, rel=1e-12)
    again = minimise(*parts[:3], found.weights, stop=lambda dose: objective(dose)[0] <= good_enough)
    assert again.ended is Ended.GOALS_MET
    assert again.history == pytest.approx([found.value])
    assert torch.equal(again.weights, found.weights)


def test_a_search_that_runs_out_of_iterations_says_so_and_goes_on_from_there():
    matrix, objective = _problem()
    parts = (lambda x: matrix @ x, lambda d: matrix.T @ d, objective)
    short = minimise(*parts, torch.ones(12, dtype=torch.float64), max_iterations=3)
    assert short.ended is Ended.ITERATIONS
    assert len(short.history) == 4
    more = minimise(*parts, short.weights, tolerance=1e-12)
    assert more.history[0] == pytest.approx(short.value, rel=1e-12)
    assert more.value < short.value


def test_no_dose_is_computed_twice():
    matrix, objective = _problem()
    asked = []

    def apply(x):
        asked.append(tuple(x.tolist()))
        return matrix @ x

    minimise(
        apply,
        lambda d: matrix.T @ d,
        objective,
        torch.ones(12, dtype=torch.float64),
        stop=lambda dose: bool((dose < 0).any()),
    )
    assert len(asked) == len(set(asked)) > 5


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_dose_that_is_not_a_number_is_refused(bad):
    matrix, objective = _problem()
    matrix[3, 4] = bad
    with pytest.raises(ValueError, match="expected a finite objective"):
        minimise(lambda x: matrix @ x, lambda d: matrix.T @ d, objective, torch.ones(12, dtype=torch.float64))
    with pytest.raises(ValueError, match="expected finite doses of the bixels"):
        expect_reach([], {}, matrix @ torch.ones(12, dtype=torch.float64))


INSIDE = {"ptv": torch.arange(10)}
REACHED = torch.tensor([0.0] + [1.0] * 9)


@pytest.mark.parametrize(
    "term",
    [
        SquaredDeviation("ptv", 2.0),
        MinDvh("ptv", 2.0, 95.0),
        Mimic("ptv", torch.full((10,), 2.0)),
        AtLeast("ptv", Mean(), 2.0),
    ],
)
def test_a_target_in_the_dark_is_refused(term):
    with pytest.raises(ValueError, match=r"reach .* of ptv, got none at 10 points; cover the target"):
        expect_reach([term], INSIDE, torch.zeros(10))


def test_a_dose_volume_goal_lets_as_much_lie_in_the_dark_as_it_says():
    expect_reach([MinDvh("ptv", 2.0, 90.0), Mimic("ptv", torch.ones(10))], INSIDE, REACHED)
    with pytest.raises(ValueError, match=r"95 % of ptv, got none at 1 points"):
        expect_reach([MinDvh("ptv", 2.0, 95.0)], INSIDE, REACHED)
    with pytest.raises(ValueError, match="all of ptv, got none at 1 points"):
        expect_reach([SquaredDeviation("ptv", 2.0)], INSIDE, REACHED)
    # What shall get little or nothing may lie in the dark.
    expect_reach([SquaredOverdose("ptv", 2.0), SquaredDeviation("ptv", 0.0)], INSIDE, torch.zeros(10))


def test_a_scale_makes_up_for_bixels_of_unlike_strength():
    matrix, objective = _problem()
    matrix = matrix * torch.logspace(-1.5, 0, 12, dtype=torch.float64)
    parts = (lambda x: matrix @ x, lambda d: matrix.T @ d, objective)
    start = torch.ones(12, dtype=torch.float64)
    scale = even_scale(*parts, start)
    plain = minimise(*parts, start, max_iterations=500, tolerance=1e-12)
    scaled = minimise(*parts, start, max_iterations=500, tolerance=1e-12, scale=scale)
    assert scaled.value == pytest.approx(plain.value, rel=1e-5)
    assert float(scaled.weights.min()) >= 0
    assert objective(matrix @ scaled.weights)[0] == pytest.approx(scaled.value, rel=1e-12)
    assert len(scaled.history) < 0.7 * len(plain.history)


def test_the_scale_bounds_the_curvature_along_every_weight():
    matrix, objective = _problem()
    scale = even_scale(
        lambda x: matrix @ x, lambda d: matrix.T @ d, objective, torch.ones(12, dtype=torch.float64)
    )
    # Squared deviation with priority 40 over 40 points: the Hessian is 2 AᵀA. In units of the scale its
    # diagonal is below one number, that of its row sums, however the bixels differ.
    hessian = 2 * matrix.T @ matrix
    rows = hessian.sum(dim=1)
    np.testing.assert_allclose((scale**2 * rows).numpy(), float(rows.median()))
    assert bool((scale**2 * hessian.diagonal() <= rows.median()).all())


def test_terms_that_do_not_bend_have_a_scale_of_one():
    flat = even_scale(
        lambda x: x, lambda d: d, lambda d: (float(d.sum()), torch.ones_like(d)), torch.zeros(3)
    )
    assert flat.tolist() == [1, 1, 1]


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_not_a_length_is_refused(bad):
    with pytest.raises(ValueError, match="scale above 0"):
        minimise(lambda x: x, lambda d: d, lambda d: (0.0, d), torch.ones(2), scale=torch.tensor([1.0, bad]))


def test_low_priorities_do_not_end_a_search_where_it_starts():
    matrix, _ = _problem()
    ends = []
    for priority in (1.0, 1e-8):
        objective = partial(evaluate, [SquaredDeviation("a", 2.0, priority)], {"a": torch.arange(40)})
        ends.append(
            minimise(
                lambda x: matrix @ x,
                lambda d: matrix.T @ d,
                objective,
                torch.ones(12, dtype=torch.float64),
                tolerance=1e-9,
            )
        )
    assert ends[1].value == pytest.approx(1e-8 * ends[0].value, rel=1e-3)
