"""The gamma index between two doses."""

from dataclasses import dataclass

import numpy as np
import pymedphys
import torch

from imaging.grid import Grid
from imaging.resample import resample
from imaging.volume import Quantity, Volume


@dataclass(frozen=True, eq=False)
class GammaResult:
    """How many points of a reference dose find their dose nearby in another one.

    Parameters
    ----------
    pass_percent
        Share of the points with a gamma of at most 1 (%).
    n_points
        Points evaluated.
    dose_percent, distance_mm, cutoff_percent
        The criterion: percent of the global maximum of the reference, distance, and the dose under
        which points are left out (% of that maximum).
    failed
        1 where a point fails, 0 where it passes or was not evaluated, on the reference's grid.
    """

    pass_percent: float
    n_points: int
    dose_percent: float
    distance_mm: float
    cutoff_percent: float
    failed: Volume


def gamma_pass(
    reference: Volume,
    evaluated: Volume,
    dose_percent: float = 2.0,
    distance_mm: float = 2.0,
    cutoff_percent: float = 10.0,
    *,
    n_points: int | None = None,
    seed: int = 0,
    interp_fraction: int = 10,
) -> GammaResult:
    """Share of points that pass the gamma criterion, global normalisation.

    Low et al., Med. Phys. 25, 656 (1998), as computed by pymedphys: around every point of the
    reference the evaluated dose is searched on shells, interpolated at a tenth of the distance.
    The search at a point ends once it has passed.

    Parameters
    ----------
    reference, evaluated
        Doses (Gy). The evaluated one is resampled if its voxel axes are turned against the reference's.
    dose_percent, distance_mm, cutoff_percent
        The criterion, as in :class:`GammaResult`.
    n_points
        Evaluate at most that many points, drawn without replacement; None for all.
    seed
        Seed of the draw.
    interp_fraction
        Steps that the distance is divided into.

    Raises
    ------
    ValueError
        If a volume is not a dose, or no point of the reference is above the cutoff.
    """
    reference.expect(Quantity.DOSE)
    evaluated.expect(Quantity.DOSE)
    turn, other = (v.grid.affine[:3, :3] / v.grid.spacing for v in (reference, evaluated))
    if not np.allclose(turn, other, atol=1e-6):
        evaluated = resample(evaluated, reference.grid)
    truth = reference.data[0].double().numpy()
    greatest = float(truth.max())
    chosen = np.flatnonzero(truth >= cutoff_percent / 100 * greatest) if greatest > 0 else np.empty(0, int)
    if len(chosen) == 0:
        raise ValueError("expected a reference dose with points above the cutoff, got none; check the doses")
    if n_points is not None and n_points < len(chosen):
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, n_points, replace=False))
    # pymedphys draws its own subsets from numpy's global state: it gets only the chosen points instead.
    asked = np.full(truth.shape, -1.0)
    asked.flat[chosen] = truth.flat[chosen]
    gamma = pymedphys.gamma(
        _axes(reference.grid, turn),
        asked,
        _axes(evaluated.grid, turn),
        evaluated.data[0].double().numpy(),
        dose_percent,
        distance_mm,
        lower_percent_dose_cutoff=0,
        interp_fraction=interp_fraction,
        max_gamma=1.0 + 1.0 / interp_fraction,
        global_normalisation=greatest,
        skip_once_passed=True,
        ram_available=2**28,
        interp_algo="scipy",
    )
    # Where no shell came under the limit, pymedphys leaves NaN at an evaluated point: a failure.
    failed = np.zeros(truth.shape, dtype=np.uint8)
    failed.flat[chosen] = ~(gamma.flat[chosen] <= 1.0)
    return GammaResult(
        100.0 * (1 - float(failed.sum()) / len(chosen)),
        len(chosen),
        dose_percent,
        distance_mm,
        cutoff_percent,
        Volume(torch.from_numpy(failed)[None], reference.grid, Quantity.LABEL, reference.frame),
    )


def _axes(grid: Grid, turn: np.ndarray) -> tuple[np.ndarray, ...]:
    """Positions of the voxel planes along each voxel axis (mm)."""
    origin = turn.T @ grid.affine[:3, 3]
    return tuple(
        start + step * np.arange(n) for start, step, n in zip(origin, grid.spacing, grid.shape, strict=True)
    )
