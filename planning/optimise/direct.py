"""Standing fields whose leaves and monitor units are found together: direct aperture optimisation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from torch import Tensor

from planning.beams import Beam
from planning.machine import Machine
from planning.rows import left_open, rows_of

from .apertures import Apertures, Window, of_pairs
from .engel import engel
from .openings import Opening
from .placing import as_segment, aside, open_area
from .sequence import Segment, quantise, to_beam
from .shaping import shape, with_best_weights
from .swapping import of_segments, swapped
from .uncertain import Uncertain

Progress = Callable[[str, float], None]

_MOST_LEVELS = 24
# So many times the segments that may stay are begun with.
_MORE = 4 / 3
# Shares of the iterations after which the least segments go.
_STAGES = (0.25, 0.5, 0.25)


@dataclass(frozen=True)
class Smallest:
    """What is not worth a segment, or cannot be delivered well.

    Parameters
    ----------
    weight
        Least fluence of a segment (pencil-beam weight in one fraction).
    area
        Least opening of a segment (mm² at the isocentre).
    """

    weight: float = 0.0
    area: float = 0.0


def shaped_fields(
    fluence: Float64[np.ndarray, " bixels"],
    coarse: Window,
    window: Window,
    uncertain: Uncertain,
    objective: Callable[[Tensor], tuple[float, Tensor]],
    machine: Machine,
    *,
    n_segments: int = 60,
    smallest: Smallest = Smallest(),
    max_iterations: int = 150,
    n_swaps: int = 0,
    progress: Progress | None = None,
) -> tuple[Apertures, tuple[float, ...]]:
    """Step-and-shoot segments of least objective, at most so many of all beams; and how it fell.

    Fluence is cut into some more segments than there may be, of the fewest levels that give as many; their
    leaves and weights are shaped together by gradient, the least go, and the rest is shaped on. The method is
    that of Shepard, Earl, Li, Naqvi, Yu, Med. Phys. 29, 1007 (2002); by gradient it is in Hårdemark,
    Liander, Rehbinder, Löf, RaySearch White Paper (2003). Starts from a sliding window's moments, or from
    nothing with segments that join one by one, ended worse on TG119.

    Parameters
    ----------
    fluence
        Weight of the bixels of each beam on the coarse window, beam after beam.
    coarse, window
        The bixels that the fluence is on, and those that leaves are shaped over.
    uncertain
        Influence of the window's bixels, beam after beam.
    objective
        Value and gradient of the doses of all scenarios in one fraction.
    machine
        The linac; its leaves may interdigitate.
    n_segments
        Segments of all beams at most.
    smallest
        Segments below it are left out, as long as any are above.
    max_iterations
        Iterations of the leaves' search at most.
    n_swaps
        Rounds after it in which some segments are swapped for better ones
        (:func:`planning.optimise.swapping.swapped`), of half as many iterations each. On TG119 six of them
        take off 2 %.
    progress
        Told the share of it that is done.

    Raises
    ------
    ValueError
        If leaves may not interdigitate, or fewer segments than beams are asked for.
    """
    expect_free_leaves(machine)
    n_beams = uncertain.n_beams
    if n_segments < n_beams:
        raise ValueError(f"expected at least one segment for each of {n_beams} beams, got {n_segments}")
    maps = fluence.reshape(n_beams, len(coarse.rows), len(coarse.columns))
    found = _cut(maps, coarse, window, round(_MORE * n_segments), machine)
    history: tuple[float, ...] = ()
    for share in _STAGES:
        found = with_best_weights(found, window, uncertain, objective, machine)
        n = round(share * max_iterations)
        shaped = shape(found, window, uncertain, objective, machine, max_iterations=n, progress=progress)
        greatest = of_segments(shaped.apertures, _greatest(shaped.apertures, window, n_segments))
        found = only_large(greatest, window, smallest, uncertain, objective, machine)
        history += shaped.history
    for n in range(n_swaps):
        found, more = swapped(
            found, window, uncertain, objective, machine, max_iterations=max_iterations // 2
        )
        history += more
        if progress is not None:
            progress("swaps", (n + 1) / n_swaps)
    return only_large(found, window, smallest, uncertain, objective, machine), history


def only_large(
    apertures: Apertures,
    window: Window,
    smallest: Smallest,
    uncertain: Uncertain,
    objective: Callable[[Tensor], tuple[float, Tensor]],
    machine: Machine,
) -> Apertures:
    """The segments that stay large enough when their weights make up for those that were not.

    All stay where none is large enough; parameters as in :func:`shaped_fields`.
    """
    while (small := ~_large(apertures, window, smallest)).any() and not small.all():
        apertures = with_best_weights(of_segments(apertures, ~small), window, uncertain, objective, machine)
    return apertures


def expect_free_leaves(machine: Machine) -> None:
    """Refuses a machine whose leaves may not pass the opposite ones of their neighbours.

    Raises
    ------
    ValueError
        If they may not.
    """
    if not machine.mlc.interdigitation:
        raise ValueError(
            f"expected leaves that may pass the opposite leaves of their neighbours, got {machine.name} that "
            "forbids it; choose another machine"
        )


def delivered_fields(
    beams: Sequence[Beam], apertures: Apertures, window: Window, machine: Machine
) -> tuple[Beam, ...]:
    """Beams that deliver their segments one after another, from left to right; empty ones are left out."""
    found = []
    for n, beam in enumerate(beams):
        own = np.flatnonzero((apertures.beam == n) & (apertures.weights > 0))
        segments = []
        for k in own[np.argsort(apertures.leaves[own].mean(axis=(1, 2)))]:
            leaves = as_segment(apertures.leaves[k], window, machine)
            if not np.allclose(*left_open(leaves, rows_of(machine.mlc))):
                segments.append(Segment(leaves, float(apertures.weights[k])))
        if segments:
            found.append(to_beam(beam, segments, machine))
    return tuple(found)


def _cut(
    maps: Float64[np.ndarray, "beams rows columns"],
    coarse: Window,
    window: Window,
    n_segments: int,
    machine: Machine,
) -> Apertures:
    """The greatest segments of all beams, of the fewest levels that give as many as there may be."""
    for n_levels in range(2, _MOST_LEVELS + 1):
        found = []
        for n, map_ in enumerate(maps):
            levels, step = quantise(map_, n_levels)
            found += [(n, opening, step * opening.weight) for opening in engel(levels, interdigitation=True)]
        if len(found) >= n_segments:
            break
    greatest = sorted(found, key=lambda one: one[2] * float((one[1].right - one[1].left).sum()), reverse=True)
    kept = sorted(greatest[:n_segments], key=lambda one: one[0])
    leaves = of_pairs(np.stack([_ends(opening, coarse, window) for _, opening, _ in kept]), window)
    shut = leaves[:, 1] <= leaves[:, 0]
    leaves = np.where(shut[:, None], aside(window, machine), leaves)
    still = np.arange(len(kept))
    weights = np.array([weight for _, _, weight in kept])
    return Apertures(leaves, weights, still, still, np.array([n for n, _, _ in kept]))


def _ends(opening: Opening, coarse: Window, window: Window) -> Float64[np.ndarray, "2 rows"]:
    """Where each row of a window begins and ends in an opening of another (mm at the isocentre)."""
    low, width = coarse.jaws_x[0], coarse.size[0]
    row = np.abs(window.rows[:, None] - coarse.rows).argmin(axis=1)
    return np.clip(low + width * np.stack([opening.left, opening.right])[:, row], *window.jaws_x)


def _greatest(apertures: Apertures, window: Window, n: int) -> Bool[np.ndarray, " spans"]:
    """The n segments of greatest weight times area."""
    size = apertures.weights * open_area(apertures.leaves[apertures.first], window)
    kept = np.zeros(len(size), dtype=bool)
    kept[np.argsort(-size, kind="stable")[:n]] = True
    return kept


def _large(apertures: Apertures, window: Window, smallest: Smallest) -> Bool[np.ndarray, " spans"]:
    large = open_area(apertures.leaves[apertures.first], window) >= smallest.area
    return large & (apertures.weights >= smallest.weight) & (apertures.weights > 0)
