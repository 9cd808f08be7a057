from functools import partial

import pytest
import torch
from scipy.optimize import nnls

from planning.optimise.fluence import minimise
from planning.optimise.objectives import SquaredDeviation, evaluate


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
