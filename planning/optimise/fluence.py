"""Weights of bixels or segments that minimise an objective of the dose."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

Weights = Float[Tensor, " m"]
Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Result:
    """Where a minimisation ended.

    Parameters
    ----------
    weights
        Best weights found, shape ``(m,)``, none negative.
    value
        The objective there.
    history
        The objective at the start and after each iteration.
    converged
        Whether it stopped because it no longer fell, not because iterations ran out.
    """

    weights: Weights
    value: float
    history: tuple[float, ...]
    converged: bool


def minimise(
    apply: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    objective: Callable[[Tensor], tuple[float, Tensor]],
    start: Weights,
    *,
    max_iterations: int = 200,
    tolerance: float = 1e-5,
    progress: Progress | None = None,
) -> Result:
    """Weights of at least zero with the least objective of their dose.

    L-BFGS-B: Byrd, Lu, Nocedal, Zhu, SIAM J. Sci. Comput. 16, 1190 (1995).

    Parameters
    ----------
    apply
        Dose of weights, linear: shape ``(m,)`` to ``(n,)``.
    adjoint
        Its transpose: shape ``(n,)`` to ``(m,)``.
    objective
        Value and gradient of a dose, such as ``partial(evaluate, objectives, voxels)``.
    start
        Where to begin, shape ``(m,)``; its type and device are those of the computation.
    max_iterations
        Iterations at most.
    tolerance
        Stop when an iteration lowers the objective by less than this share of it.
    progress
        Told the share of the iterations done, 0..1.

    Raises
    ------
    ValueError
        If a starting weight is negative or not finite.
    """
    if not bool(torch.isfinite(start).all()) or bool((start < 0).any()):
        raise ValueError("expected finite starting weights of at least 0; start from zeros or ones")

    def value_and_slope(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(apply(torch.from_numpy(x).to(start)))
        return value, adjoint(gradient).cpu().numpy().astype(np.float64)

    begin = start.cpu().numpy().astype(np.float64)
    history = [value_and_slope(begin)[0]]

    def note(intermediate_result: object) -> None:
        history.append(float(intermediate_result.fun))  # type: ignore[attr-defined]
        if progress is not None:
            progress("optimise", min(len(history) / max_iterations, 1.0))

    found = minimize(
        value_and_slope,
        begin,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * len(begin),
        callback=note,
        options={"maxiter": max_iterations, "maxfun": 2 * max_iterations, "maxcor": 20, "ftol": tolerance},
    )
    return Result(torch.from_numpy(found.x).to(start), float(found.fun), tuple(history), bool(found.success))
