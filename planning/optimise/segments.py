"""The weights of given segments, optimised again: what is delivered, not what was wished."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from planning.dose.aperture import transmitted
from planning.dose.bixels import Bixels
from planning.dose.influence import Influence, apply, of_beam
from planning.machine import Machine

from .fluence import Progress, Result, minimise
from .sequence import Segment, settle


@dataclass(frozen=True, eq=False)
class Field:
    """The segments of one beam.

    Parameters
    ----------
    bixels
        The lattice that they were made on.
    segments
        In the order of delivery.
    """

    bixels: Bixels
    segments: tuple[Segment, ...]


def openness(
    segments: Sequence[Segment], bixels: Bixels, machine: Machine
) -> Float32[np.ndarray, "bixels segments"]:
    """Share of the open fluence that each bixel gets from each segment, as the dose of a plan has it."""
    shapes, jaws_x, jaws_y = settle(segments, machine)
    shares = [transmitted(leaves, jaws_x, jaws_y, bixels, machine) for leaves in shapes]
    return np.stack(shares, axis=1).astype(np.float32)


def doses(matrix: Influence, fields: Sequence[Field], machine: Machine) -> Float32[Tensor, "points segments"]:
    """Dose of every segment of every field, held for a weight of 1, at the influence's points (Gy)."""
    device = matrix.values.device
    parts = [torch.empty((matrix.n_voxels, 0), device=device)]
    for n, field in enumerate(fields):
        if field.segments:
            shares = torch.from_numpy(openness(field.segments, field.bixels, machine)).to(device)
            parts.append(apply(of_beam(matrix, n), shares))
    return torch.cat(parts, dim=1)


def reweight(
    fields: Sequence[Field],
    dose: Float32[Tensor, "points segments"],
    objective: Callable[[Tensor], tuple[float, Tensor]],
    *,
    min_weight: float = 0.0,
    max_iterations: int = 200,
    progress: Progress | None = None,
) -> tuple[tuple[Field, ...], Result]:
    """The same fields with the weights that minimise an objective of their dose.

    Parameters
    ----------
    fields
        Segments of every beam; their weights are where the search begins.
    dose
        Dose of each segment for a weight of 1, as :func:`doses` gives it.
    objective
        Value and gradient of a dose.
    min_weight
        No segment gets less: fewest monitor units times ``fluence_per_mu``.
    max_iterations
        Iterations at most.
    progress
        Told the share of the iterations done.
    """
    start = torch.tensor([s.weight for field in fields for s in field.segments]).to(dose)
    least = torch.full_like(start, min_weight)
    base = dose @ least
    # The search is for what each segment gets beyond the least.
    result = minimise(
        lambda w: dose @ w,
        lambda g: dose.T @ g,
        lambda given: objective(base + given),
        (start - least).clamp(min=0),
        max_iterations=max_iterations,
        progress=progress,
    )
    result = replace(result, weights=least + result.weights)
    # In double precision: rounding shall not make a weight less than the least.
    return weighted(fields, result.weights.double().clamp(min=min_weight)), result


def reweight_without_short(
    fields: Sequence[Field],
    dose: Float32[Tensor, "points segments"],
    objective: Callable[[Tensor], tuple[float, Tensor]],
    min_weight: float,
    *,
    max_iterations: int = 200,
    progress: Progress | None = None,
) -> tuple[tuple[Field, ...], Bool[Tensor, " segments"], Result]:
    """The fields with their best weights, none of them shorter than may be.

    Weights are found freely; segments of less than ``min_weight`` go, and the others make up for them,
    none getting less than it.

    Parameters
    ----------
    fields, dose, objective, max_iterations, progress
        As for :func:`reweight`.
    min_weight
        The least weight that a machine holds: fewest monitor units times ``fluence_per_mu``.

    Returns
    -------
        The fields, which of all segments stay, and where the second search ended.
    """
    free, _ = reweight(fields, dose, objective, max_iterations=max_iterations, progress=progress)
    kept, stays = without_short(free, min_weight)
    found, result = reweight(
        kept,
        dose[:, stays.to(dose.device)],
        objective,
        min_weight=min_weight,
        max_iterations=max_iterations,
        progress=progress,
    )
    return found, stays, result


def weighted(fields: Sequence[Field], weights: Float[Tensor, " segments"]) -> tuple[Field, ...]:
    """The same fields with other weights, counted through all of them."""
    values = iter(weights.tolist())
    return tuple(
        replace(field, segments=tuple(replace(s, weight=float(next(values))) for s in field.segments))
        for field in fields
    )


def without_short(
    fields: Sequence[Field], min_weight: float
) -> tuple[tuple[Field, ...], Bool[Tensor, " segments"]]:
    """The fields without the segments of less than a weight, and which of all segments stay."""
    kept = tuple(
        replace(field, segments=tuple(s for s in field.segments if s.weight >= min_weight))
        for field in fields
    )
    return kept, torch.tensor([s.weight >= min_weight for field in fields for s in field.segments])
