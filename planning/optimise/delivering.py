"""From fluence to what a linac delivers, in three ways: segments cut from it, shaped segments, and arcs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from planning.arcs import Arc
from planning.beams import Beam
from planning.dose.bixels import Bixels
from planning.goals import Goal
from planning.machine import Machine
from planning.plan import Prescription

from .apertures import Apertures, Window
from .arc import delivered_arcs, furthest, modulated
from .direct import Smallest, delivered_fields, only_large, shaped_fields
from .from_goals import Sample, strengthened
from .objectives import Objective
from .outlook import bands_of, rank, unmet
from .robust import Aggregate, robust_objective
from .segments import Field, doses, reweight_without_short
from .sequence import sequence, to_beam
from .settings import Settings
from .shaping import dose_of, shape
from .uncertain import Uncertain

Progress = Callable[[str, float], None]

# Temperature of the smooth worst case of what is delivered, as a share of the fluence's worst value.
_TEMPERATURE = 0.02
# Iterations of leaves that go on with raised priorities, as a share of those before.
_AGAIN = 0.4


@dataclass(frozen=True, eq=False)
class Delivered:
    """Beams or arcs that can be delivered, as the optimiser's points see them.

    Parameters
    ----------
    beams
        With control points and monitor units.
    dose
        In all scenarios, one after another (Gy in one fraction).
    objective
        By the terms of the search, at its worst or on average.
    terms
        What was minimised last, with the priorities that goals missed on the way were given.
    """

    beams: tuple[Beam, ...]
    dose: Tensor
    objective: float
    terms: tuple[Objective, ...]


@dataclass(frozen=True, eq=False)
class Wish:
    """A fluence, and what it was made for.

    Parameters
    ----------
    weights
        Of every bixel in one fraction.
    value
        Its objective.
    terms
        What was minimised, with raised priorities (Gy in one fraction).
    goals, prescription
        What they follow from.
    drawn
        The points that the dose is at.
    target
        Name of the planning target.
    """

    weights: Tensor
    value: float
    terms: tuple[Objective, ...]
    goals: Sequence[Goal]
    prescription: Prescription
    drawn: Sample
    target: str


def cut_fields(
    beams: Sequence[Beam],
    bixels: Sequence[Bixels],
    wish: Wish,
    uncertain: Uncertain,
    machine: Machine,
    settings: Settings,
    progress: Progress | None = None,
) -> Delivered:
    """Segments that fluence is cut into, with their best weights: for leaves that may not pass each other.

    Parameters
    ----------
    beams, bixels
        What the fluence is of.
    wish
        The fluence.
    uncertain
        The influence of the bixels.
    machine
        What delivers it.
    settings
        How the plan is made.
    progress
        Told the share of the iterations done.
    """
    starts = uncertain.matrices[0].beam_starts
    parts = np.split(wish.weights.cpu().numpy().astype(np.float64), starts[1:-1])
    fields: tuple[Field, ...] = tuple(
        Field(own, tuple(sequence(part, own, machine.mlc, settings.n_levels, settings.min_area)))
        for part, own in zip(parts, bixels, strict=True)
    )
    dose = _doses(uncertain, fields, machine)
    objective = _objective(wish.terms, wish, uncertain, settings.aggregate)
    fields, kept, result = reweight_without_short(
        fields,
        dose,
        objective,
        settings.min_mu * machine.fluence_per_mu,
        max_iterations=settings.max_iterations,
        progress=progress,
    )
    found = dose[:, kept] @ result.weights
    reached = _objective(wish.terms, wish, uncertain, settings.aggregate, 0.0)(found)[0]
    made = tuple(
        to_beam(beam, field.segments, machine)
        for beam, field in zip(beams, fields, strict=True)
        if field.segments
    )
    return Delivered(made, found, reached, wish.terms)


def shaped(
    beams: Sequence[Beam] | Sequence[Arc],
    coarse: Window,
    window: Window,
    wish: Wish,
    uncertain: Uncertain,
    machine: Machine,
    settings: Settings,
    progress: Progress | None = None,
) -> Delivered:
    """Segments or arcs whose leaves are shaped by gradient, raising the priorities of what they miss.

    Parameters
    ----------
    beams
        Standing fields, or arcs.
    coarse, window
        The bixels of the fluence, and those that leaves are shaped over.
    wish
        The fluence.
    uncertain
        The influence of the window's bixels, for each beam or each span of the arcs.
    machine, settings, progress
        As in :func:`cut_fields`.
    """
    fluence = wish.weights.cpu().numpy().astype(np.float64)
    arcs = [one for one in beams if isinstance(one, Arc)]
    fields = [one for one in beams if isinstance(one, Beam)]
    smallest = Smallest(settings.min_mu * machine.fluence_per_mu, settings.min_area)
    objective = _objective(wish.terms, wish, uncertain, settings.aggregate)
    given = (fluence, coarse, window, uncertain, objective, machine)
    n = settings.leaf_iterations
    if arcs:
        found = modulated(arcs, *given, max_iterations=n, progress=progress)[0]
    else:
        found = shaped_fields(
            *given,
            n_segments=max(settings.n_segments, len(fields)),
            smallest=smallest,
            max_iterations=n,
            progress=progress,
        )[0]
    reach = furthest(arcs, machine) if arcs else np.inf
    found, terms = _raised(found, window, wish, uncertain, machine, settings, reach, progress)
    objective = _objective(terms, wish, uncertain, settings.aggregate)
    if not arcs:
        found = only_large(found, window, smallest, uncertain, objective, machine)
    made = _made(arcs, fields, found, window, machine)
    dose = dose_of(found, window, uncertain, machine)
    # By the terms that the fluence was found with, so that the two can be compared.
    reached = _objective(wish.terms, wish, uncertain, settings.aggregate, 0.0)(dose)[0]
    return Delivered(made, dose, reached, terms)


def _raised(
    found: Apertures,
    window: Window,
    wish: Wish,
    uncertain: Uncertain,
    machine: Machine,
    settings: Settings,
    reach: float,
    progress: Progress | None,
) -> tuple[Apertures, tuple[Objective, ...]]:
    """Apertures shaped on with raised priorities of what they miss: the round that misses fewest goals."""
    terms, tried = wish.terms, []
    for n in range(settings.n_rounds + 1):
        dose = dose_of(found, window, uncertain, machine) * wish.prescription.n_fractions
        missed = unmet(bands_of(uncertain, wish.drawn, dose, wish.goals, wish.prescription))
        tried.append((rank(missed), found, terms))
        if n == settings.n_rounds or not missed:
            break
        terms = strengthened(terms, missed)
        found = shape(
            found,
            window,
            uncertain,
            _objective(terms, wish, uncertain, settings.aggregate),
            machine,
            furthest=reach,
            max_iterations=round(_AGAIN * settings.leaf_iterations),
            progress=progress,
        ).apertures
    _, best, terms = min(tried, key=lambda one: one[0])
    return best, terms


def _made(
    arcs: Sequence[Arc], fields: Sequence[Beam], found: Apertures, window: Window, machine: Machine
) -> tuple[Beam, ...]:
    if arcs:
        return delivered_arcs(arcs, found, window, machine)
    return delivered_fields(fields, found, window, machine)


def _objective(
    terms: tuple[Objective, ...],
    wish: Wish,
    uncertain: Uncertain,
    aggregate: Aggregate,
    temperature: float = _TEMPERATURE,
) -> Callable[[Tensor], tuple[float, Tensor]]:
    like = uncertain.matrices[0].values
    return robust_objective(
        uncertain, terms, wish.drawn.regions, aggregate, temperature * wish.value, like=like
    )


def _doses(uncertain: Uncertain, fields: Sequence[Field], machine: Machine) -> Tensor:
    """Dose of every segment in all scenarios, one after another (Gy)."""
    return torch.cat([doses(matrix, fields, machine) for matrix in uncertain.matrices])
