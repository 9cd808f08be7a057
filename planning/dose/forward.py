"""Dose of what the linac delivers: from leaf positions and monitor units, not from a fluence."""

import math
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from imaging.grid import Grid, positions
from imaging.resample import resample
from imaging.volume import Quantity, Volume, expect_finite
from planning.beams import Beam, ControlPoint
from planning.density import covering
from planning.machine import Machine
from planning.plan import Plan

from .bixel_dose import FULL_CUTOFF, Progress, blocks, each_beam
from .bixels import Bixels

_BIXEL = 5.0
# Leaves that move while the beam is on are followed in steps of at most this length (mm).
_LEAF_STEP = 2.5


def calculate(
    plan: Plan,
    density: Volume,
    grid: Grid,
    machine: Machine,
    *,
    cutoff: float = FULL_CUTOFF,
    progress: Progress | None = None,
) -> Volume:
    """Total dose of all fractions of a plan (Gy), from its control points.

    Beam by beam: what the leaves, their transmission and the jaws let through, times monitor units,
    is a fluence on 5 mm bixels; their pencil beams are summed as they are computed, so that memory
    holds one block of bixels and one dose per core.

    Parameters
    ----------
    plan
        Beams with control points and monitor units.
    density
        Relative electron density, zero outside the body.
    grid
        Where to compute dose; voxels without density get none. Depths are traced through the
        density on this grid's spacing.
    machine
        The machine that the plan names.
    cutoff
        Furthest lateral reach of a bixel (mm at the isocentre).
    progress
        Told the share that is done, 0..1.

    Raises
    ------
    ValueError
        If the plan is for another machine, a beam has no or contradictory control points, or for
        what :func:`planning.dose.bixel_dose.blocks` refuses.
    """
    if plan.machine != machine.name:
        raise ValueError(f"expected the machine {plan.machine} of the plan, got {machine.name}")
    expect_finite(density.expect(Quantity.DENSITY))
    coarse = resample(density, covering(grid, density.grid))
    tissue = resample(coarse, grid).data[0] > 0
    points = positions(grid, torch.nonzero(tissue).cpu().numpy().astype(np.float64))
    states = [state for beam in plan.beams for state in _states(beam, machine)]

    def one(n: int) -> Float[Tensor, " n"]:
        beam, bixels, fluence = states[n]
        dose = torch.zeros(len(points), device=density.data.device)
        weights = torch.from_numpy(fluence).float().to(dose.device)
        for block in blocks(beam, bixels, coarse, points, machine, cutoff=cutoff):
            dose[block.voxels] += block.dose @ weights[block.bixels]
        return dose

    total = torch.zeros(len(points), device=density.data.device)
    for dose in each_beam(one, len(states), density.data.device, "dose", progress):
        total += dose
    data = torch.zeros(grid.shape, device=density.data.device)
    data[tissue] = total * plan.prescription.n_fractions
    return Volume(data[None], grid, Quantity.DOSE, density.frame)


def _states(beam: Beam, machine: Machine) -> list[tuple[Beam, Bixels, Float64[np.ndarray, " m"]]]:
    """The beam at each of its gantry angles, with the bixels that get fluence, and how much."""
    points = beam.control_points
    metersets = [point.meterset for point in points]
    if (
        len(points) < 2
        or metersets[0] != 0
        or abs(metersets[-1] - 1) > 1e-4
        or sorted(metersets) != metersets
    ):
        raise ValueError(
            f"expected control points whose meterset rises from 0 to 1 in beam {beam.name}, "
            f"got {len(points)}; sequence the plan first"
        )
    lattice = _lattice(beam, machine)
    fluences: dict[float, Float64[np.ndarray, " m"]] = {}
    for first, last in pairwise(points):
        if last.meterset > first.meterset:
            mu = beam.mu * (last.meterset - first.meterset)
            turn = (last.gantry - first.gantry + 180) % 360 - 180
            angle = (first.gantry + turn / 2) % 360
            part = mu * machine.fluence_per_mu * _moving(first, last, lattice, machine)
            fluences[angle] = fluences.get(angle, 0) + part
    states = []
    for angle, fluence in fluences.items():
        lit = fluence > 0
        turned = Beam(angle, beam.couch, beam.collimator, beam.isocenter, beam.name)
        states.append((turned, Bixels(lattice.positions[lit], lattice.width), fluence[lit]))
    return states


def _lattice(beam: Beam, machine: Machine) -> Bixels:
    """All bixels that the jaws of a beam ever open on."""
    spans = []
    for jaws in ([p.jaws_x for p in beam.control_points], [p.jaws_y for p in beam.control_points]):
        low, high = min(j[0] for j in jaws), max(j[1] for j in jaws)
        if not -machine.max_jaw <= low < high <= machine.max_jaw:
            raise ValueError(
                f"expected jaws that open within {machine.max_jaw:g} mm in beam {beam.name}, "
                f"got {low:g} to {high:g} mm"
            )
        edges = np.arange(math.floor(low / _BIXEL + 1e-6), math.ceil(high / _BIXEL - 1e-6))
        spans.append((edges + 0.5) * _BIXEL)
    x, y = np.meshgrid(*spans, indexing="ij")
    return Bixels(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64), (_BIXEL, _BIXEL))


def _moving(
    first: ControlPoint, last: ControlPoint, bixels: Bixels, machine: Machine
) -> Float64[np.ndarray, " m"]:
    """Mean transmission of bixels while leaves and jaws travel from one control point to the next."""
    ways = [last.leaves - first.leaves]
    ways += [np.subtract(last.jaws_x, first.jaws_x), np.subtract(last.jaws_y, first.jaws_y)]
    n_steps = max(1, math.ceil(max(float(np.abs(way).max()) for way in ways) / _LEAF_STEP))
    total = np.zeros(len(bixels.positions))
    for share in (np.arange(n_steps) + 0.5) / n_steps:
        x0, x1 = (1 - share) * np.array(first.jaws_x) + share * np.array(last.jaws_x)
        y0, y1 = (1 - share) * np.array(first.jaws_y) + share * np.array(last.jaws_y)
        leaves = (1 - share) * first.leaves + share * last.leaves
        total += transmitted(leaves, (float(x0), float(x1)), (float(y0), float(y1)), bixels, machine)
    return total / n_steps


def transmitted(
    leaves: Float64[np.ndarray, "2 n"],
    jaws_x: tuple[float, float],
    jaws_y: tuple[float, float],
    bixels: Bixels,
    machine: Machine,
) -> Float64[np.ndarray, " m"]:
    """Share of the open fluence that each bixel gets through an aperture, 0..1.

    A bixel that an edge cuts gets the share of its area; leaves let ``transmission`` through, jaws
    nothing.

    Raises
    ------
    ValueError
        If there is not one leaf position for each leaf of the machine, or leaves overlap.
    """
    mlc = machine.mlc
    if leaves.shape[1] != len(mlc.boundaries) - 1:
        raise ValueError(f"expected {len(mlc.boundaries) - 1} leaf pairs, got {leaves.shape[1]}")
    if (leaves[1] < leaves[0] - 1e-6).any():
        raise ValueError("expected leaves of bank A left of bank B, got leaves that overlap")
    half = np.array(bixels.width) / 2
    x, y = bixels.positions.T
    in_x = _overlap(x - half[0], x + half[0], *jaws_x) / bixels.width[0]
    in_y = _overlap(y - half[1], y + half[1], *jaws_y) / bixels.width[1]
    # Rows: bixels; columns: leaf pairs.
    low, high = np.clip(mlc.boundaries[:-1], *jaws_y), np.clip(mlc.boundaries[1:], *jaws_y)
    across = _overlap((y - half[1])[:, None], (y + half[1])[:, None], low, high) / bixels.width[1]
    left, right = np.clip(leaves, *jaws_x)
    along = _overlap((x - half[0])[:, None], (x + half[0])[:, None], left, right) / bixels.width[0]
    return mlc.transmission * in_x * in_y + (1 - mlc.transmission) * (across * along).sum(axis=1)


def _overlap(
    low: np.ndarray, high: np.ndarray, start: np.ndarray | float, end: np.ndarray | float
) -> np.ndarray:
    """Length that low..high and start..end have in common."""
    return np.clip(np.minimum(high, end) - np.maximum(low, start), 0, None)
