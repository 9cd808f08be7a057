"""Arcs: from directions all around to control points that a linac turns through."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from imaging.shapes import Point, Points
from imaging.volume import Volume
from planning.beams import Beam, ControlPoint
from planning.dose.bixel_dose import FULL_CUTOFF
from planning.dose.influence import Influence, adjoint, apply, influence
from planning.machine import Machine

from .apertures import UNDER_JAW, Apertures, Window, window_over
from .fluence import minimise
from .sequenced import swept
from .shaping import shape, with_best_weights

Progress = Callable[[str, float], None]

# Directions of a sector (degrees) share one fluence until leaves sweep over it.
_SECTOR = 24.0
# The arc turns at this share of the gantry's full speed, or slower: leaves need the time.
_TURN = 0.5
_FLUENCE_ITERATIONS = 60


@dataclass(frozen=True, eq=False)
class Arc:
    """A turn of the gantry.

    Parameters
    ----------
    start, stop
        Gantry angles at its ends (degrees).
    clockwise
        Which way it turns, seen by who faces the gantry.
    isocenter
        Position (LPS, mm).
    couch, collimator
        Angles that stay (degrees).
    step
        Degrees from one control point to the next, as even as can be.
    name
        What the machine calls it.
    """

    start: float
    stop: float
    clockwise: bool
    isocenter: Point
    couch: float = 0.0
    collimator: float = 10.0
    step: float = 2.0
    name: str = "1"

    @property
    def angles(self) -> Float64[np.ndarray, " points"]:
        """Gantry angle of each control point (degrees, 0..360).

        Raises
        ------
        ValueError
            If it turns by nothing, or its step is not between 1 and 10 degrees.
        """
        turn = (self.stop - self.start) % 360 if self.clockwise else (self.start - self.stop) % 360
        if turn == 0 or not 1 <= self.step <= 10:
            raise ValueError(
                f"expected an arc that turns, in steps of 1-10 degrees, got {self.start:g} to {self.stop:g} "
                f"in steps of {self.step:g}; start at 181 and stop at 179 for a full one"
            )
        n_spans = max(1, round(turn / self.step))
        way = np.linspace(0, turn, n_spans + 1) * (1 if self.clockwise else -1)
        return (self.start + way) % 360

    def spans(self) -> list[Beam]:
        """Where the gantry stands on average between each control point and the next."""
        angles = self.angles
        turn = (np.diff(angles) + 180) % 360 - 180
        return [
            Beam(float(angle % 360), self.couch, self.collimator, self.isocenter, self.name)
            for angle in angles[:-1] + turn / 2
        ]


@dataclass(frozen=True, eq=False)
class Made:
    """Arcs that can be delivered, and how they were found.

    Parameters
    ----------
    beams
        One for each arc, with control points and monitor units.
    fluence_objective
        The least objective of sectors of free fluence: what leaves could at best come to.
    history
        The objective of what is delivered, while leaves were shaped.
    """

    beams: tuple[Beam, ...]
    fluence_objective: float
    history: tuple[float, ...]


def modulated(
    arcs: Sequence[Arc],
    target: Float64[np.ndarray, "_ 3"],
    points: Points,
    density: Volume,
    objective: Callable[[Tensor], tuple[float, Tensor]],
    machine: Machine,
    *,
    max_iterations: int = 150,
    progress: Progress | None = None,
) -> Made:
    """Arcs whose leaves, monitor units and gantry speed give a dose of least objective.

    The fluence of sectors, leaves that sweep over them, weights of the spans, then leaves and weights
    together by gradient (:func:`planning.optimise.shaping.shape`). The gantry turns as slowly as leaves
    and dose rate need (:func:`planning.motion.schedule`), so that every limit of the machine is kept.

    Parameters
    ----------
    arcs
        Where the gantry turns.
    target
        Voxel centres of the target (LPS, mm), shape ``(n, 3)``.
    points
        Where the objective looks at the dose (LPS, mm), shape ``(n, 3)``.
    density
        Relative electron density, zero outside the body. The computation runs where it lies.
    objective
        Value and gradient of a dose of one fraction at the points.
    machine
        The linac.
    max_iterations
        Iterations of the leaves' search at most.
    progress
        Told the step and the share of it that is done.

    Raises
    ------
    ValueError
        If there is no arc, an arc does not turn, leaves may not interdigitate, the target lies beyond the
        leaves, or for what :func:`planning.dose.influence.influence` refuses.
    MemoryError
        If the influence would not fit, before any of it is computed.
    """
    if not arcs:
        raise ValueError("expected at least one arc, got none; give its gantry angles")
    if not machine.mlc.interdigitation:
        raise ValueError(
            f"expected leaves that may pass the opposite leaves of their neighbours, got {machine.name} that "
            "forbids it; choose another machine"
        )
    spans = [arc.spans() for arc in arcs]
    beams = [beam for own in spans for beam in own]
    window = window_over(target, beams, machine)
    matrix = influence(
        beams, [window.bixels] * len(beams), density, points, machine, cutoff=FULL_CUTOFF, progress=progress
    )
    furthest = _furthest(arcs, machine)
    sectors = _sectors(arcs, [len(own) for own in spans])
    fluence, wished = _sector_fluence(sectors, matrix, objective, progress)
    start = _joined(
        [
            swept(
                np.stack([fluence[n] for n, _ in own]),
                [local for _, local in own],
                window,
                furthest,
                machine.mlc.min_gap,
            )
            for own in _by_arc(sectors, [len(own) for own in spans])
        ]
    )
    start = with_best_weights(start, window, matrix, objective, machine)
    found = shape(
        start,
        window,
        matrix,
        objective,
        machine,
        furthest=furthest,
        max_iterations=max_iterations,
        progress=progress,
    )
    final = with_best_weights(found.apertures, window, matrix, objective, machine)
    return Made(_delivered(arcs, final, window, machine), wished, found.history)


def _furthest(arcs: Sequence[Arc], machine: Machine) -> float:
    """How far leaves may travel in a span (mm), so that the gantry turns at half its speed."""
    step = min(abs((arc.angles[1] - arc.angles[0] + 180) % 360 - 180) for arc in arcs)
    return machine.limits.max_leaf_speed * float(step) / (_TURN * machine.limits.max_gantry_speed)


def _sectors(arcs: Sequence[Arc], counts: Sequence[int]) -> list[Int64[np.ndarray, " _"]]:
    """Spans of each sector, counted through all arcs."""
    found: list[Int64[np.ndarray, " _"]] = []
    first = 0
    for arc, n_spans in zip(arcs, counts, strict=True):
        step = abs((arc.angles[1] - arc.angles[0] + 180) % 360 - 180)
        n_sectors = max(1, round(n_spans * step / _SECTOR))
        found += [first + part for part in np.array_split(np.arange(n_spans), n_sectors)]
        first += n_spans
    return found


def _by_arc(
    sectors: Sequence[Int64[np.ndarray, " _"]], counts: Sequence[int]
) -> list[list[tuple[int, Int64[np.ndarray, " _"]]]]:
    """For each arc its sectors: their number, and their spans counted within the arc."""
    ends = np.cumsum([0, *counts])
    found: list[list[tuple[int, Int64[np.ndarray, " _"]]]] = [[] for _ in counts]
    for n, own in enumerate(sectors):
        arc = int(np.searchsorted(ends, own[0], side="right")) - 1
        found[arc].append((n, own - ends[arc]))
    return found


def _sector_fluence(
    sectors: Sequence[Int64[np.ndarray, " _"]],
    matrix: Influence,
    objective: Callable[[Tensor], tuple[float, Tensor]],
    progress: Progress | None,
) -> tuple[Float64[np.ndarray, "sectors bixels"], float]:
    """The best fluence that all directions of a sector share, and its objective."""
    n_spans = len(matrix.beam_starts) - 1
    device = matrix.values.device
    of_span = torch.from_numpy(np.repeat(np.arange(len(sectors)), [len(own) for own in sectors])).to(device)
    n_bixels = matrix.n_bixels // n_spans

    def dose_of(weights: Tensor) -> Tensor:
        return apply(matrix, weights.view(len(sectors), n_bixels)[of_span].flatten())

    def back(slope: Tensor) -> Tensor:
        own = adjoint(matrix, slope).view(n_spans, n_bixels)
        return torch.zeros(len(sectors), n_bixels, device=device).index_add_(0, of_span, own).flatten()

    even = torch.ones(len(sectors) * n_bixels, device=device)
    level = _least_level(dose_of(even), objective)
    found = minimise(
        dose_of, back, objective, level * even, max_iterations=_FLUENCE_ITERATIONS, progress=progress
    )
    return found.weights.view(len(sectors), n_bixels).cpu().numpy().astype(np.float64), found.value


def _least_level(dose: Tensor, objective: Callable[[Tensor], tuple[float, Tensor]]) -> float:
    """The factor on an even dose with the least objective, within a tenth: where a search begins."""
    levels = torch.logspace(-2, 2, 97, dtype=dose.dtype) / float(dose.max())
    return min(levels.tolist(), key=lambda level: objective(level * dose)[0])


def _joined(parts: Sequence[Apertures]) -> Apertures:
    """The apertures of all arcs, counted through."""
    n_points = np.cumsum([0, *(len(part.leaves) for part in parts)])
    n_spans = np.cumsum([0, *(len(part.weights) for part in parts)])
    return Apertures(
        np.concatenate([part.leaves for part in parts]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.first + n for part, n in zip(parts, n_points, strict=False)]),
        np.concatenate([part.last + n for part, n in zip(parts, n_points, strict=False)]),
        np.concatenate([part.beam + n for part, n in zip(parts, n_spans, strict=False)]),
        parts[0].n_steps,
    )


def _delivered(
    arcs: Sequence[Arc], apertures: Apertures, window: Window, machine: Machine
) -> tuple[Beam, ...]:
    beams, point, span = [], 0, 0
    for arc in arcs:
        angles = arc.angles
        own = apertures.weights[span : span + len(angles) - 1]
        reached = np.concatenate([[0.0], np.cumsum(own)])
        points = tuple(
            ControlPoint(float(share), float(angle), window.jaws_x, window.jaws_y, leaves)
            for share, angle, leaves in zip(
                reached / reached[-1],
                angles,
                _all_pairs(apertures.leaves[point : point + len(angles)], window, machine),
                strict=True,
            )
        )
        mu = float(reached[-1]) / machine.fluence_per_mu
        beams.append(Beam(float(angles[0]), arc.couch, arc.collimator, arc.isocenter, arc.name, mu, points))
        point, span = point + len(angles), span + len(own)
    return tuple(beams)


def _all_pairs(
    leaves: Float64[np.ndarray, "points 2 rows"], window: Window, machine: Machine
) -> Float64[np.ndarray, "points 2 pairs"]:
    """Positions of every pair of the machine; those behind the jaws wait closed under one of them."""
    mlc = machine.mlc
    rest = max(window.jaws_x[0] - UNDER_JAW, mlc.min_gap - mlc.max_position)
    out = np.empty((len(leaves), 2, len(mlc.boundaries) - 1))
    out[:, 0], out[:, 1] = rest - mlc.min_gap, rest
    out[:, :, window.pairs] = leaves
    return out
