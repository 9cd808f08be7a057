"""Leaf positions and monitor units by gradient: direct aperture optimisation, step and shoot or in an arc.

The dose of apertures is that of the bixels that they open, each by the share of its area, so that it
changes with every leaf at the rate of the bixels that the leaf is passing: Hårdemark, Liander, Rehbinder,
Löf, RaySearch White Paper (2003); for arcs that move between their control points, Christiansen, Heath,
Xu, Phys. Med. Biol. 63, 21NT01 (2018).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.optimize import minimize as scipy_minimize
from torch import Tensor

from imaging.shapes import Points
from planning.beams import Beam, project
from planning.dose.aperture import covered, widened
from planning.dose.bixels import Bixels
from planning.dose.influence import Influence, adjoint, apply
from planning.machine import Machine

from .fluence import expect_numbers

Progress = Callable[[str, float], None]

# Leaves go from one control point to the next in steps of no more than this many bixels, and so many steps.
_BIXELS_A_STEP, _MOST_STEPS = 2.0, 16
# Leaves may wait so far under a jaw (mm at the isocentre).
_UNDER_JAW = 6.0
# One unit of the search: so many mm of a leaf, and this share of the mean weight.
_LEAF_UNIT = 5.0
_N_PAIRS = 20


@dataclass(frozen=True, eq=False)
class Window:
    """The rectangle that the jaws leave open, as bixels: rows are leaf pairs.

    Parameters
    ----------
    pairs
        Leaf pairs of the rows, one after another.
    rows
        Middles of the rows along y (mm at the isocentre).
    columns
        Middles of the bixels along x, evenly spaced (mm at the isocentre).
    size
        Of a bixel along x and y (mm at the isocentre).
    """

    pairs: Int64[np.ndarray, " rows"]
    rows: Float64[np.ndarray, " rows"]
    columns: Float64[np.ndarray, " columns"]
    size: tuple[float, float]

    @property
    def bixels(self) -> Bixels:
        """All of them, row after row."""
        y, x = np.meshgrid(self.rows, self.columns, indexing="ij")
        return Bixels(np.stack([x.ravel(), y.ravel()], axis=1), self.size)

    @property
    def jaws_x(self) -> tuple[float, float]:
        """Where the jaws along x stand (mm at the isocentre)."""
        half = self.size[0] / 2
        return float(self.columns[0] - half), float(self.columns[-1] + half)

    @property
    def jaws_y(self) -> tuple[float, float]:
        """Where the jaws along y stand (mm at the isocentre)."""
        half = self.size[1] / 2
        return float(self.rows[0] - half), float(self.rows[-1] + half)


@dataclass(frozen=True, eq=False)
class Apertures:
    """Shapes of the leaves, and what is delivered between them.

    Parameters
    ----------
    leaves
        Positions of bank A and bank B in each row of a window (mm at the isocentre), shape
        ``(control points, 2, rows)``.
    weights
        Fluence delivered in each span (pencil-beam weight in one fraction), shape ``(spans,)``.
    first, last
        Control points at the beginning and at the end of each span; the same where leaves stand.
    beam
        Which beam of the influence matrix each span is.
    n_steps
        In how many steps leaves move through a span.
    """

    leaves: Float64[np.ndarray, "points 2 rows"]
    weights: Float64[np.ndarray, " spans"]
    first: Int64[np.ndarray, " spans"]
    last: Int64[np.ndarray, " spans"]
    beam: Int64[np.ndarray, " spans"]
    n_steps: int = 1


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


def window_over(
    target: Points, beams: Sequence[Beam], machine: Machine, margin: float = 5.0, column: float = 2.5
) -> Window:
    """The rectangle around all that any of the beams sees of a target.

    Parameters
    ----------
    target
        Voxel centres of the target (LPS, mm), shape ``(n, 3)``.
    beams
        Directions and isocentre.
    machine
        Its leaves; those that are needed must all be as wide.
    margin
        Beyond the target (mm at the isocentre).
    column
        Size of a bixel along the leaves (mm).

    Raises
    ------
    ValueError
        If the target is empty, reaches beyond leaves or jaws, or lies behind leaves of several widths.
    """
    if len(target) == 0 or not beams:
        raise ValueError("expected a target with voxels and at least one beam, got none; contour the target")
    seen = np.concatenate([project(beam, target, machine.sad) for beam in beams])
    low, high = seen.min(axis=0) - margin, seen.max(axis=0) + margin
    edges, reach = machine.mlc.boundaries, min(machine.mlc.max_position - _UNDER_JAW, machine.max_jaw)
    if max(-low[0], high[0]) > reach or low[1] < edges[0] or high[1] > edges[-1]:
        raise ValueError(
            f"expected a target within {reach:g} mm of the isocentre, got one that reaches from "
            f"{np.round(low)} to {np.round(high)} mm; move the isocentre to the target's middle"
        )
    pairs = np.arange(np.searchsorted(edges, low[1], "right") - 1, np.searchsorted(edges, high[1], "left"))
    heights = np.diff(edges)[pairs]
    if np.ptp(heights) > 1e-6:
        raise ValueError("expected leaves of one width over the target; choose another machine or isocentre")
    start, stop = np.floor(low[0] / column), np.ceil(high[0] / column)
    columns = (np.arange(start, stop) + 0.5) * column
    middles = (edges[pairs] + edges[pairs + 1]) / 2
    return Window(pairs, middles, columns, (column, float(heights[0])))


def fluence_of(
    leaves: Tensor, weights: Tensor, apertures: Apertures, window: Window, machine: Machine, n_beams: int
) -> Tensor:
    """Weight of every bixel of every beam, differentiable in leaves and weights; shape ``(m,)``.

    Parameters
    ----------
    leaves, weights
        In the shapes of ``apertures``, whose own are not looked at.
    apertures
        What belongs to what.
    window
        The bixels, the same for each beam.
    machine
        Its leaves.
    n_beams
        Beams of the influence matrix.
    """
    centers = torch.from_numpy(window.columns).to(leaves)
    first, last = leaves[apertures.first], leaves[apertures.last]
    opened = leaves.new_zeros(())
    for n in range(apertures.n_steps):
        ends = widened(torch.lerp(first, last, (n + 0.5) / apertures.n_steps), machine.mlc)
        opened = opened + covered(centers, window.size[0], *ends) / apertures.n_steps
    through = machine.mlc.transmission + (1 - machine.mlc.transmission) * opened
    spans = (weights[:, None, None] * through).flatten(1)
    whole = leaves.new_zeros((n_beams, spans.shape[1]))
    return whole.index_add(0, torch.from_numpy(apertures.beam).to(leaves.device), spans).flatten()


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
        # What a leaf that travels one mm too far costs, as a share of the objective at the start.
        self._price = 0.0
        self._price = 0.01 * self(self.packed(start))[0]

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
        return low - _UNDER_JAW, high + _UNDER_JAW

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


def steps_for(furthest: float, window: Window) -> int:
    """In how many steps leaves that travel so far (mm) move, so that each is about a bixel."""
    return int(np.clip(np.ceil(furthest / (_BIXELS_A_STEP * window.size[0])), 1, _MOST_STEPS))


def within_reach(apertures: Apertures, machine: Machine, furthest: float) -> Apertures:
    """Apertures whose leaves travel no further than allowed in any span, and keep their gap.

    Each control point follows the one before it; a leaf that would have to go further stays behind.
    """
    leaves = apertures.leaves.copy()
    leaves[:, 1] = np.maximum(leaves[:, 1], leaves[:, 0] + machine.mlc.min_gap)
    for first, last in zip(apertures.first, apertures.last, strict=True):
        leaves[last] = np.clip(leaves[last], leaves[first] - furthest, leaves[first] + furthest)
    return replace(apertures, leaves=leaves)
