"""Leaf positions and weights of least objective, by gradient."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64
from scipy.optimize import minimize as scipy_minimize
from torch import Tensor

from planning.dose.influence import Influence, adjoint, apply
from planning.machine import Machine

from .apertures import UNDER_JAW, Apertures, Window, fluence_of, within_reach
from .fluence import expect_numbers, minimise

Progress = Callable[[str, float], None]

# One unit of the search: so many mm of a leaf, and this share of the mean weight.
_LEAF_UNIT = 5.0
_N_PAIRS = 20
_WEIGHT_ITERATIONS = 40
# What a leaf that travels one mm too far costs, as a share of the objective at the start.
_PRICE = 0.01


@dataclass(frozen=True, eq=False)
class Shaped:
    """What a search found.

    Parameters
    ----------
    apertures
        The best ones.
    history
        The objective at the start and after each iteration.
    """

    apertures: Apertures
    history: tuple[float, ...]


def shape(
    start: Apertures,
    window: Window,
    matrix: Influence,
    objective: Callable[[Tensor], tuple[float, Tensor]],
    machine: Machine,
    *,
    furthest: float = np.inf,
    max_iterations: int = 100,
    progress: Progress | None = None,
) -> Shaped:
    """Leaves and weights of least objective, from a start.

    L-BFGS-B on the left leaves, the openings (at least the leaf gap) and the weights (none negative).
    Where leaves move, travelling further than ``furthest`` costs its square, and is cut at the end.

    Parameters
    ----------
    start
        Where to begin.
    window
        Its bixels.
    matrix
        Their influence, beam after beam.
    objective
        Value and gradient of a dose, as :func:`planning.optimise.objectives.prepare` gives it.
    machine
        Its leaves.
    furthest
        How far a leaf may travel in one span (mm).
    max_iterations
        Iterations at most.
    progress
        Told the share of the iterations done.

    Raises
    ------
    ValueError
        If the objective or its gradient is not finite.
    """
    search = _Search(start, window, matrix, objective, machine, furthest)
    begin = search.packed(start)
    history = [search(begin)[0]]

    def note(intermediate_result: object) -> None:
        history.append(float(intermediate_result.fun))  # type: ignore[attr-defined] # SciPy's own type
        if progress is not None:
            progress("leaves", min(len(history) / max_iterations, 1.0))

    found = scipy_minimize(
        search,
        begin,
        jac=True,
        method="L-BFGS-B",
        bounds=search.bounds(),
        callback=note,
        options={"maxiter": max_iterations, "maxcor": _N_PAIRS, "maxfun": 2 * max_iterations, "ftol": 1e-7},
    )
    if progress is not None:
        progress("leaves", 1.0)
    return Shaped(within_reach(search.unpacked(found.x), machine, furthest), tuple(history))


def with_best_weights(
    apertures: Apertures,
    window: Window,
    matrix: Influence,
    objective: Callable[[Tensor], tuple[float, Tensor]],
    machine: Machine,
) -> Apertures:
    """The same shapes with the weights of least objective; parameters as in :func:`shape`."""
    n_spans, n_beams = len(apertures.weights), len(matrix.beam_starts) - 1
    like = matrix.values
    leaves = torch.from_numpy(apertures.leaves).to(like)
    ones = torch.ones(n_spans, dtype=like.dtype, device=like.device)
    # What each span lets through for a weight of 1, as if it were a beam of its own.
    own = replace(apertures, beam=np.arange(n_spans))
    through = fluence_of(leaves, ones, own, window, machine, n_spans).view(n_spans, -1)
    beam = torch.from_numpy(apertures.beam).to(like.device)

    def dose_of(weights: Tensor) -> Tensor:
        whole = through.new_zeros(n_beams, through.shape[1])
        return apply(matrix, whole.index_add(0, beam, through * weights[:, None]).flatten())

    found = minimise(
        dose_of,
        lambda slope: (through * adjoint(matrix, slope).view(n_beams, -1)[beam]).sum(dim=1),
        objective,
        torch.from_numpy(apertures.weights).to(like),
        max_iterations=_WEIGHT_ITERATIONS,
    )
    return replace(apertures, weights=found.weights.cpu().numpy().astype(np.float64))


class _Search:
    """Value and slope of everything that is free, as one vector."""

    def __init__(
        self,
        start: Apertures,
        window: Window,
        matrix: Influence,
        objective: Callable[[Tensor], tuple[float, Tensor]],
        machine: Machine,
        furthest: float,
    ) -> None:
        self._like, self._window, self._matrix = start, window, matrix
        self._objective, self._machine, self._furthest = objective, machine, furthest
        self._unit = float(start.weights.mean()) or 1.0
        self._n_leaves = start.leaves[:, 0].size
        self._price = 0.0
        self._price = _PRICE * self(self.packed(start))[0]

    def packed(self, apertures: Apertures) -> Float64[np.ndarray, " free"]:
        """Left leaves and openings in leaf units, then weights in units of their first mean."""
        left, right = apertures.leaves[:, 0], apertures.leaves[:, 1]
        leaves = np.stack([left, right - left]).reshape(2, -1) / _LEAF_UNIT
        return np.concatenate([*leaves, apertures.weights / self._unit])

    def unpacked(self, x: Float64[np.ndarray, " free"]) -> Apertures:
        """The apertures that a vector stands for."""
        left, opening = x[: 2 * self._n_leaves].reshape(2, -1, len(self._window.rows)) * _LEAF_UNIT
        leaves = np.stack([left, left + opening], axis=1)
        low, high = self._span()
        return replace(
            self._like, leaves=np.clip(leaves, low, high), weights=x[2 * self._n_leaves :] * self._unit
        )

    def bounds(self) -> list[tuple[float, float | None]]:
        """Left leaves from under one jaw to under the other, openings from the leaf gap on."""
        low, high = (end / _LEAF_UNIT for end in self._span())
        gap, n = self._machine.mlc.min_gap / _LEAF_UNIT, self._n_leaves
        return [(low, high - gap)] * n + [(gap, high - low)] * n + [(0.0, None)] * len(self._like.weights)

    def _span(self) -> tuple[float, float]:
        low, high = self._window.jaws_x
        return low - UNDER_JAW, high + UNDER_JAW

    def __call__(self, x: Float64[np.ndarray, " free"]) -> tuple[float, Float64[np.ndarray, " free"]]:
        free = torch.from_numpy(x.copy()).to(self._matrix.values.device).requires_grad_()
        left, opening = (
            part.reshape(-1, len(self._window.rows)) * _LEAF_UNIT
            for part in free[: 2 * self._n_leaves].chunk(2)
        )
        leaves = torch.stack([left, left + opening], dim=1).clamp(*self._span())
        weights = free[2 * self._n_leaves :] * self._unit
        n_beams = len(self._matrix.beam_starts) - 1
        fluence = fluence_of(leaves, weights, self._like, self._window, self._machine, n_beams)
        value, slope = self._objective(apply(self._matrix, fluence.detach().float()))
        back = adjoint(self._matrix, slope)
        expect_numbers(value, back)
        travel = self._price * self._too_far(leaves)
        gradient = torch.autograd.grad((fluence * back.to(fluence)).sum() + travel, free)[0]
        return value + float(travel.detach()), gradient.cpu().numpy()

    def _too_far(self, leaves: Tensor) -> Tensor:
        if not np.isfinite(self._furthest):
            return leaves.new_zeros(())
        way = leaves[self._like.last] - leaves[self._like.first]
        return (way.abs() - self._furthest).clamp(min=0).square().sum()
