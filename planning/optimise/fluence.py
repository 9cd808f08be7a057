"""Weights of bixels or segments that minimise an objective of the dose."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Integer
from scipy.optimize import minimize
from torch import Tensor

from planning.dose.influence import Influence, adjoint, apply

from .objectives import Objective, SquaredDeviation, SquaredUnderdose, evaluate

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
    if progress is not None:
        progress("optimise", 1.0)
    return Result(torch.from_numpy(found.x).to(start), float(found.fun), tuple(history), bool(found.success))


def optimise_fluence(
    matrix: Influence,
    objectives: Sequence[Objective],
    voxels: Mapping[str, Integer[Tensor, " _"]],
    weights: Float[Tensor, " points"] | None = None,
    *,
    start: Weights | None = None,
    max_iterations: int = 200,
    progress: Progress | None = None,
) -> Result:
    """Bixel weights of one fraction that minimise objectives of the dose at the influence's points.

    Parameters
    ----------
    matrix
        Dose of each bixel.
    objectives
        The terms (Gy in one fraction).
    voxels
        For each structure, its points; overlaps resolved beforehand with ``resolve_overlaps``.
    weights
        How many voxels each point stands for; all 1 where it is None.
    start
        Where to begin, shape ``(bixels,)``; even weights that give the wanted dose on average if None.
    max_iterations
        Iterations at most.
    progress
        Told the share of the iterations done.

    Raises
    ------
    ValueError
        If a structure that is to get dose has points that no bixel reaches.
    """
    reached = torch.zeros(matrix.n_voxels, dtype=torch.bool)
    reached[matrix.voxels[matrix.row_starts.diff() > 0]] = True
    wanted = [o for o in objectives if isinstance(o, SquaredDeviation | SquaredUnderdose) and o.dose_gy > 0]
    for objective in wanted:
        n_dark = int((~reached[voxels[objective.structure]]).sum())
        if n_dark:
            raise ValueError(
                f"expected bixels that reach all of {objective.structure}, got none at {n_dark} points; "
                "cover the target with bixels"
            )
    if start is None:
        start = torch.ones(matrix.n_bixels)
        if wanted:
            mean = float(apply(matrix, start)[voxels[wanted[0].structure]].mean())
            start *= wanted[0].dose_gy / mean
    return minimise(
        partial(apply, matrix),
        partial(adjoint, matrix),
        lambda dose: evaluate(objectives, voxels, dose, weights),
        start,
        max_iterations=max_iterations,
        progress=progress,
    )
