"""Standing fields whose leaves and monitor units are found together: direct aperture optimisation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from imaging.volume import Volume
from planning.beams import Beam
from planning.dose.bixel_dose import FULL_CUTOFF
from planning.dose.influence import Influence, adjoint, apply, influence
from planning.machine import Machine

from .apertures import UNDER_JAW, Apertures, Window, window_over
from .fluence import minimise
from .sequence import Opening, Segment, decompose, quantise, to_beam
from .shaping import shape, with_best_weights

Progress = Callable[[str, float], None]

# Fluence is searched on bixels of this width along the leaves (mm) and for few iterations: the smoother it
# is, the less its segments lose of it.
_COLUMN, _FLUENCE_ITERATIONS = 5.0, 40
_MOST_LEVELS = 12
# Segments of less than this share of their mean weight go before leaves are shaped once more.
_LEAST_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Fields:
    """Fields that can be delivered, and how they were found.

    Parameters
    ----------
    beams
        Those with segments, with control points and monitor units.
    n_segments
        Segments of all of them.
    history
        The objective of what is delivered, while leaves were shaped.
    """

    beams: tuple[Beam, ...]
    n_segments: int
    history: tuple[float, ...]


def shaped_fields(
    beams: Sequence[Beam],
    target: Float64[np.ndarray, "_ 3"],
    points: Float64[np.ndarray, "n 3"],
    density: Volume,
    objective: Callable[[Tensor], tuple[float, Tensor]],
    machine: Machine,
    *,
    n_segments: int = 60,
    max_iterations: int = 150,
    progress: Progress | None = None,
) -> Fields:
    """Step-and-shoot fields of least objective with so many segments at most.

    A smooth fluence is cut into segments (:func:`planning.optimise.sequence.decompose`), the greatest
    are kept, and leaves and weights are shaped together by gradient; segments that hardly count go.

    Parameters
    ----------
    beams
        Directions and isocentre.
    target
        Voxel centres of the target (LPS, mm), shape ``(n, 3)``.
    points
        Where the objective looks at the dose (LPS, mm), shape ``(n, 3)``.
    density
        Relative electron density, zero outside the body. The computation runs where it lies.
    objective
        Value and gradient of a dose of one fraction at the points.
    machine
        The linac; its leaves may interdigitate.
    n_segments
        Segments of all beams at most.
    max_iterations
        Iterations of the leaves' search at most.
    progress
        Told the step and the share of it that is done.

    Raises
    ------
    ValueError
        If there is no beam, leaves may not interdigitate, fewer segments than beams are asked for, or for
        what :func:`planning.optimise.apertures.window_over` and
        :func:`planning.dose.influence.influence` refuse.
    MemoryError
        If the influence would not fit, before any of it is computed.
    """
    if not machine.mlc.interdigitation:
        raise ValueError(
            f"expected leaves that may pass the opposite leaves of their neighbours, got {machine.name} that "
            "forbids it; choose another machine"
        )
    if n_segments < len(beams):
        raise ValueError(f"expected at least one segment for each of {len(beams)} beams, got {n_segments}")
    coarse = window_over(target, beams, machine, column=_COLUMN)
    start = _cut(
        _smooth_fluence(beams, coarse, points, density, objective, machine), coarse, n_segments, machine
    )
    window = window_over(target, beams, machine)
    matrix = influence(
        beams, [window.bixels] * len(beams), density, points, machine, cutoff=FULL_CUTOFF, progress=progress
    )
    start = with_best_weights(start, window, matrix, objective, machine)
    first = shape(start, window, matrix, objective, machine, max_iterations=max_iterations // 2)
    kept = _without_small(first.apertures)
    found = shape(
        kept,
        window,
        matrix,
        objective,
        machine,
        max_iterations=max_iterations - max_iterations // 2,
        progress=progress,
    )
    final = found.apertures
    return Fields(
        _delivered(beams, final, window, machine), len(final.weights), first.history + found.history
    )


def _smooth_fluence(
    beams: Sequence[Beam],
    window: Window,
    points: Float64[np.ndarray, "n 3"],
    density: Volume,
    objective: Callable[[Tensor], tuple[float, Tensor]],
    machine: Machine,
) -> Float64[np.ndarray, "beams rows columns"]:
    """A fluence near the best, as modulated as few iterations make it."""
    matrix: Influence = influence(beams, [window.bixels] * len(beams), density, points, machine)
    even = torch.ones(matrix.n_bixels, device=matrix.values.device)
    dose = apply(matrix, even)
    levels = (torch.logspace(-2, 2, 97) / float(dose.max())).tolist()
    level = min(levels, key=lambda one: objective(one * dose)[0])
    found = minimise(
        lambda weights: apply(matrix, weights),
        lambda slope: adjoint(matrix, slope),
        objective,
        level * even,
        max_iterations=_FLUENCE_ITERATIONS,
    )
    shape_ = (len(beams), len(window.rows), len(window.columns))
    return found.weights.view(shape_).cpu().numpy().astype(np.float64)


def _cut(
    fluence: Float64[np.ndarray, "beams rows columns"], window: Window, n_segments: int, machine: Machine
) -> Apertures:
    """Segments of all beams: as many levels as keep to the number, else the greatest of the fewest levels."""
    found: list[tuple[int, Opening, float]] = []
    for n_levels in range(2, _MOST_LEVELS + 1):
        more = []
        for n, map_ in enumerate(fluence):
            levels, step = quantise(map_, n_levels)
            more += [(n, opening, step * opening.weight) for opening in decompose(levels)]
        if found and len(more) > n_segments:
            break
        found = more
    greatest = sorted(found, key=lambda one: one[2] * float((one[1].right - one[1].left).sum()), reverse=True)
    kept = sorted(greatest[:n_segments], key=lambda one: one[0])
    still = np.arange(len(kept))
    leaves = np.stack([_leaves(opening, window, machine.mlc.min_gap) for _, opening, _ in kept])
    weights = np.array([weight for _, _, weight in kept])
    return Apertures(leaves, weights, still, still, np.array([n for n, _, _ in kept]))


def _leaves(opening: Opening, window: Window, min_gap: float) -> Float64[np.ndarray, "2 rows"]:
    """Positions of an opening's leaves; closed pairs wait under the jaw."""
    low, width = window.jaws_x[0], window.size[0]
    left, right = low + width * opening.left, low + width * opening.right
    closed = opening.left == opening.right
    left[closed], right[closed] = low - UNDER_JAW, low - UNDER_JAW + min_gap
    return np.stack([left, right])


def _without_small(apertures: Apertures) -> Apertures:
    kept = apertures.weights >= _LEAST_SHARE * apertures.weights.mean()
    still = np.arange(int(kept.sum()))
    return replace(
        apertures,
        leaves=apertures.leaves[kept],
        weights=apertures.weights[kept],
        first=still,
        last=still,
        beam=apertures.beam[kept],
    )


def _delivered(
    beams: Sequence[Beam], apertures: Apertures, window: Window, machine: Machine
) -> tuple[Beam, ...]:
    """Beams that deliver their segments one after another, from left to right."""
    found = []
    for n, beam in enumerate(beams):
        own = np.flatnonzero((apertures.beam == n) & (apertures.weights > 0))
        segments = []
        for k in own[np.argsort(apertures.leaves[own].mean(axis=(1, 2)))]:
            leaves = np.zeros((2, len(machine.mlc.boundaries) - 1))
            left, right = np.clip(apertures.leaves[k], *window.jaws_x)
            leaves[:, window.pairs] = np.where(right - left > machine.mlc.min_gap + 1e-6, [left, right], 0.0)
            if (leaves[1] > leaves[0]).any():
                segments.append(Segment(leaves, float(apertures.weights[k])))
        if segments:
            found.append(to_beam(beam, segments, machine))
    return tuple(found)
