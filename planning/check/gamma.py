"""The gamma index between two doses."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from imaging.grid import Grid, indices, positions
from imaging.shapes import Points
from imaging.volume import Quantity, Volume, expect_finite
from planning.dose.bixel_dose import Progress

from .gamma_search import Directions, place, search, shells

# What headers round positions by (mm): a centre this near to the outermost one is on it.
_ON_GRID = 1e-3


@dataclass(frozen=True)
class Criterion:
    """What counts as the same dose.

    Parameters
    ----------
    dose_percent
        Dose difference (% of the normalisation dose, or of each point's own dose if ``local``).
    distance_mm
        Distance to agreement (mm).
    cutoff_percent
        Points of the reference under this dose are left out (% of the normalisation dose).
    local
        Whether the dose difference is a percentage of each point's own dose. Points without dose have
        no such criterion and are left out.
    normalisation
        The dose that percentages are of (Gy); None for the greatest of the reference.
    interp_fraction
        Steps that the distance is divided into.

    Raises
    ------
    ValueError
        If a number is not finite, or is not positive; the cutoff may be 0.
    """

    dose_percent: float = 2.0
    distance_mm: float = 2.0
    cutoff_percent: float = 10.0
    local: bool = False
    normalisation: float | None = None
    interp_fraction: int = 10

    def __post_init__(self) -> None:
        expect_positive("a dose criterion in percent", self.dose_percent)
        expect_positive("a distance criterion in mm", self.distance_mm)
        expect_positive(
            "a normalisation dose in Gy", 1.0 if self.normalisation is None else self.normalisation
        )
        expect_positive("steps that divide the distance", float(self.interp_fraction))
        if not (math.isfinite(self.cutoff_percent) and self.cutoff_percent >= 0):
            raise ValueError(f"expected a cutoff of 0 % or more, got {self.cutoff_percent}")


def expect_positive(what: str, value: float) -> None:
    """Nothing, if a number is positive and finite; otherwise a ValueError that says what was expected."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"expected {what} above 0, got {value}")


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
        The criterion: percent of the normalisation dose, or of each point's own dose if ``local``;
        distance; and the dose under which points are left out (% of the normalisation dose).
    failed
        1 where a point fails, 0 where it passes or was not evaluated, on the reference's grid.
    local
        Whether each point's dose criterion is a percentage of its own dose.
    """

    pass_percent: float
    n_points: int
    dose_percent: float
    distance_mm: float
    cutoff_percent: float
    failed: Volume
    local: bool = False


def gamma_pass(
    reference: Volume,
    evaluated: Volume,
    dose_percent: float = 2.0,
    distance_mm: float = 2.0,
    cutoff_percent: float = 10.0,
    *,
    local: bool = False,
    normalisation: float | None = None,
    n_points: int | None = None,
    seed: int = 0,
    interp_fraction: int = 10,
    progress: Progress | None = None,
) -> GammaResult:
    """Share of points that pass the gamma criterion.

    The search is that of :func:`gamma_map`, but ends at a point once it has passed. A point without
    evaluated dose within reach fails.

    Parameters
    ----------
    reference, evaluated
        Doses (Gy).
    dose_percent, distance_mm, cutoff_percent, local, normalisation, interp_fraction
        As in :class:`Criterion`.
    n_points, seed, progress
        As in :func:`gamma_map`.

    Raises
    ------
    ValueError
        As :func:`gamma_map`.
    """
    criterion = Criterion(dose_percent, distance_mm, cutoff_percent, local, normalisation, interp_fraction)
    chosen, gamma = _search(reference, evaluated, criterion, 1.0, 1.0, n_points, seed, progress)
    failed = torch.zeros(reference.data[0].numel(), dtype=torch.uint8, device=gamma.device)
    failed[chosen] = (gamma > 1).to(torch.uint8)
    label = Volume(failed.reshape(1, *reference.grid.shape), reference.grid, Quantity.LABEL, reference.frame)
    passed = 100.0 * (1 - int(failed.sum()) / len(chosen))
    return GammaResult(passed, len(chosen), dose_percent, distance_mm, cutoff_percent, label, local)


def gamma_map(
    reference: Volume,
    evaluated: Volume,
    criterion: Criterion,
    *,
    max_gamma: float = 2.0,
    n_points: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Float64[Tensor, "i j k"]:
    """Gamma at every voxel of the reference, NaN where it was not evaluated.

    Low et al., Med. Phys. 25, 656 (1998), with the evaluated dose interpolated at a fraction of the
    distance as in pymedphys. Around every point the evaluated dose, trilinear between its voxel centres
    and unknown beyond them, is searched on spheres; on circles if it is one plane, and to both sides if
    it is one row. The two grids may differ in spacing, place and orientation.

    Parameters
    ----------
    reference, evaluated
        Doses (Gy). The work is done on the device that holds the reference.
    criterion
        What counts as the same dose.
    max_gamma
        The search ends at this multiple of the distance, and what is above is given as this value.
    n_points
        Evaluate at most that many points, drawn without replacement; None for all.
    seed
        Seed of the draw.
    progress
        Told the share that is done, 0..1. What it raises ends the search.

    Raises
    ------
    ValueError
        If a volume is not a finite dose, the two have different frames of reference, a number is not
        positive, no point of the reference is above the cutoff, none of those is where the evaluated dose
        is, or one is off the plane of an evaluated dose that is one plane.
    """
    expect_positive("a greatest gamma", max_gamma)
    chosen, found = _search(reference, evaluated, criterion, max_gamma, 0.0, n_points, seed, progress)
    gamma = torch.full((reference.data[0].numel(),), torch.nan, dtype=found.dtype, device=found.device)
    gamma[chosen] = found.clamp(max=max_gamma)
    return gamma.reshape(reference.grid.shape)


def _search(
    reference: Volume,
    evaluated: Volume,
    criterion: Criterion,
    reach: float,
    stop_at: float,
    n_points: int | None,
    seed: int,
    progress: Progress | None,
) -> tuple[Int64[Tensor, " n"], Float64[Tensor, " n"]]:
    """The voxels evaluated (as flat indices of the reference) and their gamma, which may exceed the reach."""
    for volume in (reference, evaluated):
        expect_finite(volume.expect(Quantity.DOSE))
    if reference.frame and evaluated.frame and reference.frame != evaluated.frame:
        raise ValueError(
            "expected doses in one frame of reference, got two; register them, or compute both on one scan"
        )
    truth = reference.data[0].double()
    unit = float(truth.max()) if criterion.normalisation is None else criterion.normalisation
    chosen = _chosen(truth, unit, criterion, n_points, seed)
    index = _index(reference, evaluated, chosen.cpu().numpy())
    dose = truth.flatten()[chosen]
    allowed = criterion.dose_percent / 100 * (dose if criterion.local else torch.full_like(dose, unit))
    per_mm = _per_mm(reference.grid, evaluated.grid)
    return chosen, search(
        place(torch.from_numpy(index).to(dose.device), dose, allowed),
        evaluated.data[0].to(dose.device).double(),
        shells(per_mm, criterion.distance_mm, criterion.interp_fraction, reach),
        stop_at=stop_at,
        tell=None if progress is None else lambda share: progress("gamma", share),
    )


def _per_mm(reference: Grid, evaluated: Grid) -> Directions:
    """Voxels of the evaluated grid per mm along each axis of the search.

    These are the reference's own axes, so that gamma does not depend on how the other grid is turned; where
    the evaluated dose is a plane or a row, they are that one's, so that no sample leaves it.
    """
    if min(evaluated.shape) == 1:
        return np.diag(1 / evaluated.spacing)[:, np.array(evaluated.shape) > 1]
    return np.linalg.inv(evaluated.affine[:3, :3]) @ (reference.affine[:3, :3] / reference.spacing)


def _chosen(
    truth: Float64[Tensor, "i j k"], unit: float, criterion: Criterion, n_points: int | None, seed: int
) -> Int64[Tensor, " n"]:
    """Voxels above the cutoff, or some of them."""
    expect_positive("points to evaluate", 1.0 if n_points is None else float(n_points))
    above = (truth >= criterion.cutoff_percent / 100 * unit) & (truth > 0 if criterion.local else unit > 0)
    chosen = torch.nonzero(above.flatten())[:, 0]
    if len(chosen) == 0:
        raise ValueError("expected a reference dose with points above the cutoff, got none; check the doses")
    if n_points is not None and n_points < len(chosen):
        drawn = np.sort(np.random.default_rng(seed).choice(len(chosen), n_points, replace=False))
        chosen = chosen[torch.from_numpy(drawn).to(chosen.device)]
    return chosen


def _index(reference: Volume, evaluated: Volume, chosen: np.ndarray) -> Points:
    """Where the chosen voxels lie in the evaluated grid, if they do."""
    voxels = np.stack(np.unravel_index(chosen, reference.grid.shape), axis=1).astype(np.float64)
    index = indices(evaluated.grid, positions(reference.grid, voxels))
    last = np.array(evaluated.grid.shape) - 1
    within = _ON_GRID / evaluated.grid.spacing
    inside = (index >= -within) & (index <= last + within)
    if not inside.all(axis=1).any():
        raise ValueError(
            "expected doses that overlap, got no point above the cutoff where the evaluated dose is; "
            "check the position and frame of the grids"
        )
    if not inside[:, last == 0].all():
        raise ValueError(
            "expected every point above the cutoff in the plane of the evaluated dose, got points off it; "
            "give the evaluated dose as a volume, or swap the doses"
        )
    # A header's rounding must not put the outermost centres outside.
    return np.where(inside, index.clip(0, last), index)
