"""Monitor units refitted on the dose as it is calculated, shape by shape."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from imaging.shapes import Points
from imaging.volume import Volume
from planning.beams import Beam
from planning.dose.aperture import Lattice, delivered
from planning.dose.field import dose, views
from planning.machine import Machine

from .fluence import minimise


def refitted(
    beams: Sequence[Beam],
    density: Volume,
    points: Points,
    objective: Callable[[Tensor], tuple[float, Tensor]],
    machine: Machine,
    *,
    least: float = 0.0,
    max_iterations: int = 60,
) -> tuple[tuple[Beam, ...], float]:
    """The same beams with the monitor units between control points that minimise an objective.

    Leaves were shaped over bixels, which stand for what leaves cut of them; here every span between control
    points has its dose as the plan's dose has it: pixels of 1 mm, jaws, closed pairs where they wait.

    Parameters
    ----------
    beams
        With control points and monitor units.
    density
        Relative electron density, as the plan's dose traces it.
    points
        Where the objective looks at the dose (LPS, mm), shape ``(n, 3)``.
    objective
        Value and gradient of a dose of one fraction there.
    machine
        What delivers them.
    least
        No span that delivers gets fewer monitor units.
    max_iterations
        Iterations at most.

    Returns
    -------
        The beams, and the objective of their dose.
    """
    columns = span_doses(beams, density, points, machine)
    mu, value = fitted(span_units(beams), columns, objective, least=least, max_iterations=max_iterations)
    return with_units(beams, mu), value


def fitted(
    mu: Float32[Tensor, " spans"],
    columns: Float32[Tensor, "points spans"],
    objective: Callable[[Tensor], tuple[float, Tensor]],
    *,
    least: float = 0.0,
    max_iterations: int = 60,
) -> tuple[Float32[Tensor, " spans"], float]:
    """Monitor units of spans with the least objective, and the objective.

    Parameters
    ----------
    mu
        Where to begin.
    columns
        Dose of each span for one monitor unit (Gy).
    objective, least, max_iterations
        As in :func:`refitted`.
    """
    # The search is for what each span gets beyond the least.
    base = least * columns.sum(dim=1)
    found = minimise(
        lambda more: columns @ more,
        lambda slope: columns.T @ slope,
        lambda given: objective(base + given),
        (mu - least).clamp(min=0).to(columns),
        max_iterations=max_iterations,
    )
    return least + found.weights.clamp(min=0), found.value


def span_units(beams: Sequence[Beam]) -> Float32[Tensor, " spans"]:
    """Monitor units of every span that delivers, beam after beam."""
    return torch.tensor([span.mu for beam in beams for span in _spans(beam)])


def with_units(beams: Sequence[Beam], mu: Float32[Tensor, " spans"]) -> tuple[Beam, ...]:
    """The same beams with other monitor units of their spans; those that get none are left out."""
    given = mu.double().cpu().numpy()
    counts = np.cumsum([0, *(len(_spans(beam)) for beam in beams)])
    made = [_with(beam, given[a:b]) for beam, (a, b) in zip(beams, pairwise(counts), strict=True)]
    return tuple(beam for beam in made if beam.mu > 0)


def _spans(beam: Beam) -> list[Beam]:
    """What is delivered between each control point and the next, as a beam of its own."""
    return [
        replace(
            beam,
            mu=beam.mu * (last.meterset - first.meterset),
            control_points=(replace(first, meterset=0.0), replace(last, meterset=1.0)),
        )
        for first, last in pairwise(beam.control_points)
        if last.meterset > first.meterset
    ]


def span_doses(
    beams: Sequence[Beam], density: Volume, points: Points, machine: Machine
) -> Float32[Tensor, "points spans"]:
    """Dose of each span of beams for one monitor unit (Gy), as the plan's dose is calculated.

    Parameters
    ----------
    beams, density, points, machine
        As in :func:`refitted`.
    """
    spans = [span for beam in beams for span in _spans(beam)]
    states = [delivered(replace(span, mu=1.0), machine)[0] for span in spans]
    columns = []
    # Segments of a standing field share its rays.
    for _, own in groupby(states, key=lambda state: (state[0].name, state[0].gantry)):
        together = list(own)
        seen = views([together[0][0]], density, points, machine)
        for _, fluence in together:
            nx, ny = fluence.values.shape
            values = fluence.values[None].to(density.data.device)
            columns.append(dose(seen, values, Lattice(fluence.origin, (nx, ny), fluence.pixel)))
    return torch.stack(columns, dim=1)


def _with(beam: Beam, mu: np.ndarray) -> Beam:
    """A beam whose spans that deliver get these monitor units."""
    total, given = float(mu.sum()), iter(mu.tolist())
    reached = [0.0]
    for first, last in pairwise(beam.control_points):
        reached.append(reached[-1] + (next(given) if last.meterset > first.meterset else 0.0))
    if total <= 0:
        return replace(beam, mu=0.0)
    points = (
        replace(point, meterset=min(done / total, 1.0))
        for point, done in zip(beam.control_points, reached, strict=True)
    )
    return replace(beam, mu=total, control_points=tuple(points))
