"""The last word to the full dose: weights found on a part of the voxels, corrected on all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .fluence import Ended, Progress, Stop, Weights, even_scale, expect_numbers, minimise

# Of a round's way to new weights the first of so many halves is taken that lowers the full objective.
_HALVINGS = 6
# A bend of less than this share of the greatest possible along a step is not distinguished from none.
_FLATTEST = 1e-4


@dataclass(frozen=True, eq=False)
class Problem:
    """What weights do to a dose, and what that costs.

    Parameters
    ----------
    apply
        Dose of weights, linear: shape ``(m,)`` to ``(n,)``; a matrix, or computed on the way.
    adjoint
        Its transpose: shape ``(n,)`` to ``(m,)``.
    objective
        Value and gradient of a dose, such as ``prepare(objectives, voxels, weights, like=start)``.
    """

    apply: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    objective: Callable[[Tensor], tuple[float, Tensor]]


@dataclass(frozen=True, eq=False)
class Correction:
    """Weights before and after, as the full dose sees them.

    Parameters
    ----------
    weights
        The corrected weights, shape ``(m,)``, none negative.
    dose
        Their full dose (Gy), shape ``(n,)``.
    history
        The full objective at the start and after each round.
    ended
        Why it ended there.
    """

    weights: Weights
    dose: Tensor
    history: tuple[float, ...]
    ended: Ended

    @property
    def before(self) -> float:
        """The full objective of the weights that came in."""
        return self.history[0]

    @property
    def after(self) -> float:
        """The full objective of the corrected weights."""
        return self.history[-1]


def correct(
    start: Weights,
    sampled: Problem,
    full: Problem,
    *,
    max_rounds: int = 4,
    max_iterations: int = 60,
    tolerance: float = 1e-4,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> Correction:
    """Weights with the least objective of the full dose, at the price of a few full doses.

    Each round minimises the sampled objective plus the linear term that gives it, where the round
    begins, the gradient of the full objective: first-order consistency, Nash, Optim. Methods Softw. 14,
    99 (2000). Weights that this leaves in place are a minimum of the full objective too, and what the
    sample knows of curvature need not be learnt again, as a search on the full dose would have to. What
    it does not know is learnt from each round's step. A round costs one full dose and one full adjoint,
    and its step is taken only as far as the full objective falls.

    Parameters
    ----------
    start
        Weights found with the sampled problem, shape ``(m,)``.
    sampled, full
        The problem on drawn points and on all of them.
    max_rounds
        Rounds at most.
    max_iterations
        Iterations on the sampled problem in each round at most.
    tolerance
        End when a round lowers the full objective by less than this share of it.
    stop
        Whether a full dose is good enough to end with; asked at the start and after each round.
    progress
        Told the share of the rounds done, 0..1.

    Raises
    ------
    ValueError
        If a starting weight is negative or not finite, or an objective or its gradient is not finite.
    """
    weights, dose = start, full.apply(start)
    value, gradient = full.objective(dose)
    history = [value]
    ended = Ended.GOALS_MET if stop is not None and stop(dose) else None
    scale = even_scale(sampled.apply, sampled.adjoint, sampled.objective, start) if ended is None else None
    bends, step = start.new_empty((0, len(start))), torch.zeros_like(start)
    tilt: Weights | None = None
    while ended is None:
        slope = full.adjoint(gradient)
        expect_numbers(value, slope)
        before, tilt = tilt, slope - _slope(sampled, weights)
        if before is not None:
            bends = _bent(bends, step, tilt - before)
        model = _tilted(sampled, tilt, bends, weights)
        found = minimise(
            model.apply,
            model.adjoint,
            model.objective,
            weights,
            max_iterations=max_iterations,
            tolerance=0.01 * tolerance,
            scale=scale,
        ).weights
        way = full.apply(found) - dose
        share = _step(dose, way, full, value)
        step = share * (found - weights)
        weights, dose = weights + step, dose + share * way
        value, gradient = full.objective(dose)
        history.append(value)
        if progress is not None:
            progress("correct", min((len(history) - 1) / max_rounds, 1.0))
        ended = _why(history, share, stop is not None and stop(dose), max_rounds, tolerance)
    if progress is not None:
        progress("correct", 1.0)
    return Correction(weights, dose, tuple(history), ended)


def _slope(problem: Problem, weights: Weights) -> Weights:
    """Gradient of a problem by its weights."""
    return problem.adjoint(problem.objective(problem.apply(weights))[1])


def _tilted(problem: Problem, tilt: Weights, bends: Float[Tensor, "k m"], start: Weights) -> Problem:
    """The same problem with a linear and a quadratic term of the weights' way from where a round starts.

    They are the "dose" of a few points more: one with the linear term, and one for each bend that costs
    half its square.
    """
    rows = torch.cat([tilt[None], bends])
    n = len(rows)

    def objective(dose: Tensor) -> tuple[float, Tensor]:
        value, gradient = problem.objective(dose[:-n])
        bent = dose[-n + 1 :] if n > 1 else dose[:0]
        value += float(dose[-n]) + 0.5 * float(bent.square().sum())
        return value, torch.cat([gradient, gradient.new_ones(1), bent])

    return Problem(
        lambda weights: torch.cat([problem.apply(weights), rows @ (weights - start)]),
        lambda gradient: problem.adjoint(gradient[:-n]) + gradient[-n:] @ rows,
        objective,
    )


def _bent(bends: Float[Tensor, "k m"], step: Weights, missing: Weights) -> Float[Tensor, "_ m"]:
    """The bends with one more, for what the gradient changed beyond what the sample said.

    The symmetric rank-one update: Nocedal, Wright, Numerical Optimization, 2nd ed. (2006), section 6.2.
    Only where the full objective is bent more than the sample knows; the model stays convex.
    """
    missing = missing - (bends @ step) @ bends
    along = float(missing @ step)
    if along <= _FLATTEST * float(missing.norm() * step.norm()):
        return bends
    return torch.cat([bends, (missing / along**0.5)[None]])


def _step(dose: Tensor, way: Tensor, full: Problem, value: float) -> float:
    """The first of 1, 1/2, 1/4 ... of the way that lowers the full objective; 0 if none does."""
    for n in range(_HALVINGS):
        if full.objective(dose + 0.5**n * way)[0] < value:
            return float(0.5**n)
    return 0.0


def _why(
    history: Sequence[float], share: float, is_good: bool, max_rounds: int, tolerance: float
) -> Ended | None:
    """Why the rounds end here, or None if they go on."""
    if is_good:
        return Ended.GOALS_MET
    if share == 0:
        return Ended.STALLED
    if history[-2] - history[-1] <= tolerance * abs(history[-2]):
        return Ended.CONVERGED
    return Ended.ITERATIONS if len(history) > max_rounds else None
