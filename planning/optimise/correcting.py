"""Monitor units corrected on the dose as it is calculated, until it meets the goals or rounds run out."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from imaging.grid import Grid, indices, positions
from imaging.resample import resample
from imaging.shapes import Points
from imaging.volume import Volume
from planning.beams import Beam
from planning.check.judge import GoalResult, judge
from planning.goals import about
from planning.machine import Machine

from .delivering import Delivered, Wish
from .from_goals import Sample, strengthened
from .monitor_units import scale_for
from .objectives import prepare
from .outlook import rank, sampled
from .refit import fitted, span_doses, span_units, with_units


def corrected(
    made: Delivered,
    wish: Wish,
    density: Volume,
    grid: Grid,
    machine: Machine,
    *,
    least: float = 0.0,
    n_rounds: int = 0,
    max_iterations: int = 60,
) -> Delivered:
    """The same shapes with monitor units that minimise the terms on the calculated dose.

    Each span's dose is calculated once, as the plan's dose has it: in structures with goals between the
    voxels of the dose grid, which blur the target's edge and are what goals are judged by. Where that dose,
    scaled as the plan will be, misses goals, their terms get greater priorities and monitor units are fitted
    again; the round that missed fewest goals stays, the first of equal ones.

    Parameters
    ----------
    made
        Beams with control points and monitor units, and the terms that they were shaped for.
    wish
        The goals, and the points that the dose is at.
    density
        Relative electron density, as the plan's dose traces it.
    grid
        That of the plan's dose.
    machine
        What delivers them.
    least
        No span that delivers gets fewer monitor units.
    n_rounds
        How often priorities are raised.
    max_iterations
        Iterations of each round at most.
    """
    asked = [name for name in wish.drawn.regions if about(wish.goals, name)]
    columns = doses_as_judged(made.beams, density, wish.drawn, asked, grid, machine)
    terms, mu = made.terms, span_units(made.beams)
    tried: list[tuple[tuple[int, ...], Tensor]] = []
    for n in range(n_rounds + 1):
        objective = prepare(terms, wish.drawn.regions, like=columns)
        mu = fitted(mu, columns, objective, least=least, max_iterations=max_iterations)[0]
        missed = _missed(columns @ mu, wish) if n_rounds else []
        tried.append((rank(missed), mu))
        if not missed or n == n_rounds:
            break
        terms = strengthened(terms, missed)
    best = min(tried, key=lambda one: one[0])[1]
    return replace(made, beams=with_units(made.beams, best))


def _missed(dose: Tensor, wish: Wish) -> list[GoalResult]:
    """The goals that a dose of one fraction misses once its monitor units are scaled for the target."""
    seen = sampled(dose * wish.prescription.n_fractions, wish.drawn)
    scale = scale_for(seen[wish.target], wish.prescription)
    whole = sampled(scale * dose * wish.prescription.n_fractions, wish.drawn)
    return [one for one in judge(wish.goals, whole, wish.prescription) if one.met is False]


def doses_as_judged(
    beams: Sequence[Beam],
    density: Volume,
    drawn: Sample,
    names: Collection[str],
    grid: Grid,
    machine: Machine,
) -> Float32[Tensor, "points spans"]:
    """Dose of each span for one monitor unit (Gy), in some structures as the voxels of a dose grid have it.

    Parameters
    ----------
    beams
        With control points.
    density
        Relative electron density, as the plan's dose traces it.
    drawn
        The points.
    names
        Structures whose points have the dose between voxels, which have none where there is no tissue; others
        have that of their own place.
    grid
        That of the plan's dose.
    machine
        What delivers it.
    """
    judged = [drawn.regions[name].long() for name in names]
    at = torch.cat([torch.empty(0, dtype=torch.int64), *judged]).unique().numpy()
    apart = np.setdiff1d(np.arange(len(drawn.points)), at)
    corners, shares = _between(grid, drawn.points[at])
    voxels, place = np.unique(corners, return_inverse=True)
    index = np.unravel_index(voxels, grid.shape)
    there = positions(grid, np.stack(index, axis=1).astype(np.float64))
    columns = span_doses(beams, density, np.concatenate([drawn.points[apart], there]), machine)
    direct, on_grid = columns.split([len(apart), len(there)])
    on_grid = on_grid * (resample(density, grid).data[0][index] > 0)[:, None].to(columns)
    found = columns.new_zeros(len(drawn.points), columns.shape[1])
    found[apart] = direct
    for corner, share in zip(place.reshape(corners.shape).T, shares.T, strict=True):
        found[at] += torch.from_numpy(share).to(columns)[:, None] * on_grid[corner]
    return found


def _between(grid: Grid, points: Points) -> tuple[Int64[np.ndarray, "n 8"], Float64[np.ndarray, "n 8"]]:
    """The eight voxels around each point, as flat indices, and what each counts in a trilinear dose."""
    last = np.array(grid.shape) - 1
    index = np.clip(indices(grid, points), 0, last)
    low = np.minimum(np.floor(index).astype(np.int64), np.maximum(last - 1, 0))
    above = index - low
    corners, shares = [], []
    for step in np.ndindex(2, 2, 2):
        corners.append(np.ravel_multi_index(tuple(np.minimum(low + step, last).T), grid.shape))
        shares.append(np.where(np.array(step) == 1, above, 1 - above).prod(axis=1))
    return np.stack(corners, axis=1), np.stack(shares, axis=1)
