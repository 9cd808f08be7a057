"""Monitor units from the dose of the segments: the prescription in the target, and its coverage."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from imaging.boxes import part_of
from imaging.grid import Grid, indices, positions
from imaging.shapes import Mask
from imaging.structures import StructureSet
from imaging.volume import Volume
from planning.arrange import target_of
from planning.check.dvh import Dvh, dose_at_share, histogram
from planning.check.robust import doses
from planning.machine import Machine
from planning.plan import Plan, Prescription
from planning.scenarios import Scenario

Progress = Callable[[str, float], None]

# The plan is scaled to a median target dose of the prescription (ICRU 83), then raised while these allow.
# A thousandth inside each limit, so that rounding does not decide whether it is met.
_COVERAGE = 0.95 * 1.001
_HOTTEST = 1.07 / 1.001


def scaled(
    plan: Plan,
    scenarios: Sequence[Scenario],
    density: Volume,
    structures: StructureSet,
    machine: Machine,
    dose_grid: Grid,
    *,
    deviation: Volume | None = None,
    progress: Progress | None = None,
) -> tuple[Plan, float]:
    """A plan with monitor units scaled on the dose of its segments, and the factor.

    Parameters
    ----------
    plan
        Beams with control points and monitor units.
    scenarios
        What it shall hold in, the plan as it is first: the target is covered in the worst of them as far
        as its hottest part allows.
    density
        Relative electron density, zero outside the body.
    structures
        One planning target (kind PTV).
    machine
        The machine that the plan names.
    dose_grid
        Where dose is computed.
    deviation
        One standard deviation of the density; needed where a scenario has an error of it.
    progress
        Told the scenarios done.

    Raises
    ------
    ValueError
        If a twentieth of the target gets no dose, or for what the dose refuses.
    """
    target = structures.mask(target_of(structures))
    # Only the target's part of the dose grid is needed, voxel for voxel the same.
    near = _around(target, structures.grid, dose_grid)
    seen = [
        histogram(dose, target, structures.grid)
        for dose in doses(plan, scenarios, density, near, machine, deviation=deviation, progress=progress)
    ]
    covered = [dose_at_share(dvh, 98.0) for dvh in seen]
    loss = min(covered) / covered[0] if covered[0] > 0 else 1.0
    scale = scale_for(seen[0], plan.prescription, loss)
    return replace(plan, beams=tuple(replace(beam, mu=beam.mu * scale) for beam in plan.beams)), scale


def scale_for(target: Dvh, prescription: Prescription, loss: float = 1.0) -> float:
    """Factor on a dose that sets its median in the target to the prescription, or covers the target.

    Where D98% would stay under 95 % of the prescription it is raised as far as D2% of 107 % allows;
    D95% of 95 % comes before that.

    Parameters
    ----------
    target
        Histogram of the target as planned.
    prescription
        Dose and fractions.
    loss
        What the worst scenario leaves of D98%; coverage is asked for there.
    """
    prescribed = prescription.dose_gy
    median, d98, d95, d2 = (dose_at_share(target, x) for x in (50.0, 98.0, 95.0, 2.0))
    if d95 <= 0:
        raise ValueError(
            "expected dose in the target, got none in 5 % of it; check the isocentre and the body"
        )
    covered = min(_COVERAGE * prescribed / max(loss * d98, 1e-6), _HOTTEST * prescribed / d2)
    return max(prescribed / median, covered, _COVERAGE * prescribed / d95)


def _around(target: Mask, grid: Grid, dose_grid: Grid) -> Grid:
    """The part of the dose grid that reaches one voxel beyond a target that is drawn on ``grid``."""
    seen = indices(dose_grid, positions(grid, torch.nonzero(target).numpy().astype(np.float64)))
    low = np.clip(np.floor(seen.min(axis=0)).astype(int) - 1, 0, None)
    high = np.minimum(np.ceil(seen.max(axis=0)).astype(int) + 2, dose_grid.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return part_of(dose_grid, (i, j, k))
