"""Segments swapped for better ones: out of the nearest minimum that shaping by gradient ends in."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64
from torch import Tensor

from planning.machine import Machine

from .apertures import Apertures, Window
from .placing import aside
from .shaping import dose_of, shape, with_best_weights
from .steepest import steepest
from .uncertain import Uncertain, adjoint_all

# A round's iterations before the least segments go, as a share of all of them.
_BEFORE = 1 / 3
# Weight of a new segment where its search begins, as a share of the mean.
_NEW = 0.05


def swapped(
    apertures: Apertures,
    window: Window,
    uncertain: Uncertain,
    objective: Callable[[Tensor], tuple[float, Tensor]],
    machine: Machine,
    *,
    max_iterations: int = 75,
) -> tuple[Apertures, tuple[float, ...]]:
    """As many segments, of which some are new, if they are better; else the same; and how the objective fell.

    One of each beam joins, where the objective falls fastest (:func:`planning.optimise.steepest.steepest`);
    all are shaped; those that are missed least go; and the rest is shaped on. Columns that join and shapes
    refined by gradient, in turn: Cassioli, Unkelbach, Phys. Med. Biol. 58, 301 (2013).

    Parameters
    ----------
    apertures
        Standing segments.
    window, uncertain, objective, machine
        As in :func:`planning.optimise.shaping.shape`.
    max_iterations
        Iterations of both searches together at most.
    """
    given = (window, uncertain, objective, machine)
    before = objective(dose_of(apertures, window, uncertain, machine))[0]
    first = round(_BEFORE * max_iterations)
    more = with_best_weights(_joined(apertures, *given), *given)
    found = shape(more, *given, max_iterations=first).apertures
    found = with_best_weights(_most_missed(found, *given, len(apertures.weights)), *given)
    last = shape(found, *given, max_iterations=max_iterations - first)
    after = objective(dose_of(last.apertures, window, uncertain, machine))[0]
    return (last.apertures, last.history) if after < before else (apertures, (before,))


def of_segments(apertures: Apertures, kept: Bool[np.ndarray, " spans"]) -> Apertures:
    """Some of standing segments."""
    still = np.arange(int(kept.sum()))
    return replace(
        apertures,
        leaves=apertures.leaves[kept],
        weights=apertures.weights[kept],
        first=still,
        last=still,
        beam=apertures.beam[kept],
    )


def _joined(
    apertures: Apertures,
    window: Window,
    uncertain: Uncertain,
    objective: Callable[[Tensor], tuple[float, Tensor]],
    machine: Machine,
) -> Apertures:
    """Those segments, and of each beam the one of steepest descent."""
    slope = adjoint_all(uncertain, objective(dose_of(apertures, window, uncertain, machine))[1])
    shape_ = (uncertain.n_beams, len(window.rows), len(window.columns))
    leaves, worth = steepest(slope.cpu().numpy().astype(np.float64).reshape(shape_), window)
    beams = np.flatnonzero(worth < 0)
    shut = leaves[beams, 1] <= leaves[beams, 0]
    new = np.where(shut[:, None], aside(window, machine), leaves[beams])
    still = np.arange(len(apertures.weights) + len(beams))
    return Apertures(
        np.concatenate([apertures.leaves, new]),
        np.concatenate([apertures.weights, np.full(len(beams), _NEW * apertures.weights.mean())]),
        still,
        still,
        np.concatenate([apertures.beam, beams]),
    )


def _most_missed(
    apertures: Apertures,
    window: Window,
    uncertain: Uncertain,
    objective: Callable[[Tensor], tuple[float, Tensor]],
    machine: Machine,
    n: int,
) -> Apertures:
    """The n segments without which the objective would rise most."""
    whole = dose_of(apertures, window, uncertain, machine)
    kept = np.zeros(len(apertures.weights), dtype=bool)
    costs: Float64[np.ndarray, " spans"] = np.empty(len(kept))
    for k in range(len(kept)):
        alone = replace(apertures, weights=np.where(np.arange(len(kept)) == k, apertures.weights, 0.0))
        costs[k] = objective(whole - dose_of(alone, window, uncertain, machine))[0]
    kept[np.argsort(-costs, kind="stable")[:n]] = True
    return of_segments(apertures, kept)
