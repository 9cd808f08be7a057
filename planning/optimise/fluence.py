"""Weights of bixels or segments that minimise an objective of the dose."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Integer
from scipy.optimize import OptimizeResult
from scipy.optimize import minimize as scipy_minimize
from torch import Tensor

from planning.dose.influence import Influence, adjoint, apply

from .objectives import Demand, Objective, prepare

Weights = Float[Tensor, " m"]
Progress = Callable[[str, float], None]
Stop = Callable[[Tensor], bool]


class Ended(StrEnum):
    """Why a minimisation ended."""

    CONVERGED = "converged"
    GOALS_MET = "goals met"
    ITERATIONS = "iterations"
    STALLED = "no lower value found along the search direction"


# Steps that the search remembers, and the share of the first slope that counts as none.
_N_PAIRS = 20
_FLATTEST = 1e-5
# What bends the objective less than this share of the median is scaled as if it bent it so much.
_LEAST_BEND = 0.05

# What SciPy's L-BFGS-B says with its status.
_ENDS = {0: Ended.CONVERGED, 1: Ended.ITERATIONS, 2: Ended.STALLED}


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
    ended
        Why it ended there.
    """

    weights: Weights
    value: float
    history: tuple[float, ...]
    ended: Ended

    @property
    def converged(self) -> bool:
        """Whether it ended because the objective no longer fell."""
        return self.ended is Ended.CONVERGED


class _Search:
    """Value and slope at weights in units of a scale, and the dose of the last ones asked for.

    The search asks for the value at the start that we note ourselves, and a stop wants the dose of the
    weights that were last tried: neither is computed twice.
    """

    def __init__(
        self,
        apply: Callable[[Tensor], Tensor],
        adjoint: Callable[[Tensor], Tensor],
        objective: Callable[[Tensor], tuple[float, Tensor]],
        scale: Tensor,
    ) -> None:
        self._apply, self._adjoint, self._objective, self._scale = apply, adjoint, objective, scale
        self._x: np.ndarray | None = None
        self._dose = torch.empty(0)
        self._found = (0.0, np.empty(0))

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        if self._x is None or not np.array_equal(x, self._x):
            self._dose = self._apply(self.weights(x))
            value, gradient = self._objective(self._dose)
            slope = self._adjoint(gradient) * self._scale
            expect_numbers(value, slope)
            # The search writes on in its own x.
            self._x, self._found = x.copy(), (value, slope.cpu().numpy().astype(np.float64))
        return self._found

    def weights(self, x: np.ndarray) -> Tensor:
        """What the search calls ``x``, in units of the scale."""
        return torch.from_numpy(x).to(self._scale) * self._scale

    def dose(self, x: np.ndarray) -> Tensor:
        """Dose of weights."""
        self(x)
        return self._dose


def minimise(
    apply: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    objective: Callable[[Tensor], tuple[float, Tensor]],
    start: Weights,
    *,
    max_iterations: int = 200,
    tolerance: float = 1e-5,
    scale: Weights | None = None,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> Result:
    """Weights of at least zero with the least objective of their dose.

    L-BFGS-B: Byrd, Lu, Nocedal, Zhu, SIAM J. Sci. Comput. 16, 1190 (1995), on weights in units of a
    scale.

    Parameters
    ----------
    apply
        Dose of weights, linear: shape ``(m,)`` to ``(n,)``.
    adjoint
        Its transpose: shape ``(n,)`` to ``(m,)``.
    objective
        Value and gradient of a dose, such as ``prepare(objectives, voxels, like=start)``.
    start
        Where to begin, shape ``(m,)``; its type and device are those of the computation.
    max_iterations
        Iterations at most.
    tolerance
        Stop when an iteration lowers the objective by less than this share of it.
    scale
        Length along each weight over which the objective bends about as much, such as :func:`even_scale`
        tells: fewer iterations. The same for all where it is None.
    stop
        Whether a dose is good enough to end with; asked at the start and after each iteration.
    progress
        Told the share of the iterations done, 0..1.

    Raises
    ------
    ValueError
        If a starting weight is negative or not finite, a scale is not positive, or the objective or its
        gradient is not finite.
    """
    if not bool(torch.isfinite(start).all()) or bool((start < 0).any()):
        raise ValueError("expected finite starting weights of at least 0; start from zeros or ones")
    scale = torch.ones_like(start) if scale is None else scale
    if not bool((torch.isfinite(scale) & (scale > 0)).all()):
        raise ValueError("expected a finite scale above 0 for each weight; take even_scale or none")
    search = _Search(apply, adjoint, objective, scale)
    begin = (start / scale).cpu().numpy().astype(np.float64)
    value, slope = search(begin)
    history = [value]
    if stop is not None and stop(search.dose(begin)):
        return Result(start.clone(), history[0], tuple(history), Ended.GOALS_MET)
    why: Ended | None = None

    def note(intermediate_result: OptimizeResult) -> None:
        nonlocal why
        history.append(float(intermediate_result.fun))
        if progress is not None:
            progress("optimise", min(len(history) / max_iterations, 1.0))
        if stop is not None and stop(search.dose(intermediate_result.x)):
            why = Ended.GOALS_MET
        # SciPy's own test is absolute for objectives below 1.
        elif history[-2] - history[-1] <= tolerance * abs(history[-1]):
            why = Ended.CONVERGED
        if why is not None:
            raise StopIteration

    found = scipy_minimize(
        search,
        begin,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * len(begin),
        callback=note,
        options={
            "maxiter": max_iterations,
            "maxfun": 2 * max_iterations,
            "maxcor": _N_PAIRS,
            "ftol": 0.0,
            # Absolute, too: low priorities would end the search where it starts.
            "gtol": _FLATTEST * min(1.0, float(np.abs(slope).max(initial=0.0))),
        },
    )
    if progress is not None:
        progress("optimise", 1.0)
    return Result(search.weights(found.x), float(found.fun), tuple(history), why or _ENDS[found.status])


def even_scale(
    apply: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    objective: Callable[[Tensor], tuple[float, Tensor]],
    start: Weights,
) -> Weights:
    """Lengths along each weight over which the objective bends about as much, around 1.

    The change of the gradient from no dose to the dose of even weights is, for quadratic terms, the sum of
    each row of their Hessian, which bounds its diagonal: entries of a dose are none negative (the
    separable surrogate of De Pierro, IEEE Trans. Med. Imaging 14, 132 (1995)). Bixels at the target's
    edge bend the objective far less than those in its middle; without a scale the search takes nearly
    twice the iterations.

    Parameters
    ----------
    apply, adjoint, objective, start
        As in :func:`minimise`; the even weights are the mean of ``start``.
    """
    level = float(start.mean()) if len(start) else 0.0
    dose = apply(torch.full_like(start, level if level > 0 else 1.0))
    bend = adjoint(objective(dose)[1] - objective(torch.zeros_like(dose))[1])
    expect_numbers(0.0, bend)
    typical = float(bend.median()) if len(bend) else 0.0
    if typical <= 0:
        return torch.ones_like(start)
    return (typical / bend.clamp(min=_LEAST_BEND * typical)).sqrt()


def optimise_fluence(
    matrix: Influence,
    objectives: Sequence[Objective],
    voxels: Mapping[str, Integer[Tensor, " _"]],
    weights: Float[Tensor, " points"] | None = None,
    *,
    start: Weights | None = None,
    max_iterations: int = 200,
    tolerance: float = 1e-5,
    scaled: bool = False,
    stop: Stop | None = None,
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
    max_iterations, tolerance, stop
        When to end, as in :func:`minimise`.
    scaled
        Search in units of :func:`even_scale`: the least objective in about half the iterations, with more
        modulation, of which segments lose more. For fluence that is the result, not what segments follow.
    progress
        Told the share of the iterations done.

    Raises
    ------
    ValueError
        If a structure that is to get dose has points that no bixel reaches, or a dose is not finite.
    """
    even = torch.ones(matrix.n_bixels, dtype=matrix.values.dtype, device=matrix.values.device)
    dose = apply(matrix, even)
    expect_reach(objectives, voxels, dose)
    if start is None:
        start = even * _level(objectives, voxels, dose)
    parts = partial(apply, matrix), partial(adjoint, matrix), prepare(objectives, voxels, weights, like=start)
    return minimise(
        *parts,
        start,
        max_iterations=max_iterations,
        tolerance=tolerance,
        scale=even_scale(*parts, start) if scaled else None,
        stop=stop,
        progress=progress,
    )


def expect_numbers(value: float, slope: Weights) -> None:
    """Refuse an objective or a gradient that is not a number: no search finds its way from there.

    Raises
    ------
    ValueError
        If the value or a slope is not finite.
    """
    n_bad = int((~torch.isfinite(slope)).sum())
    if n_bad or not np.isfinite(value):
        raise ValueError(
            f"expected a finite objective and gradient, got {value:g} and {n_bad} slopes that are not; "
            "check the dose of the bixels"
        )


def expect_reach(
    objectives: Sequence[Objective], voxels: Mapping[str, Integer[Tensor, " _"]], dose: Float[Tensor, " n"]
) -> None:
    """Refuse terms that want dose where the bixels give none.

    Parameters
    ----------
    objectives
        The terms.
    voxels
        For each structure, its points.
    dose
        Dose of all bixels with weights of 1, or of any weights above 0.

    Raises
    ------
    ValueError
        If too much of a structure gets nothing, or a dose is not a number.
    """
    if not bool(torch.isfinite(dose).all()):
        raise ValueError("expected finite doses of the bixels; check the density and the machine")
    for objective in objectives:
        wanted, share = objective.needs if isinstance(objective, Demand) else (0.0, 0.0)
        inside = voxels.get(objective.structure)
        if wanted <= 0 or inside is None or len(inside) == 0:
            continue
        n_dark = int((dose[inside] <= 0).sum())
        if n_dark == len(inside) or n_dark > (1 - share) * len(inside) + 1e-6:
            much = {1.0: "all", 0.0: "some"}.get(share, f"{100 * share:g} %")
            raise ValueError(
                f"expected bixels that reach {much} of {objective.structure}, got none at {n_dark} points; "
                "cover the target with bixels"
            )


def _level(
    objectives: Sequence[Objective], voxels: Mapping[str, Integer[Tensor, " _"]], dose: Float[Tensor, " n"]
) -> float:
    """Factor that gives the dose that is wanted first, on average."""
    for objective in objectives:
        if isinstance(objective, Demand) and objective.needs[0] > 0:
            return objective.needs[0] / float(dose[voxels[objective.structure]].mean())
    return 1.0
