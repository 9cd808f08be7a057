"""Between what a plan's dose lies when its CT is not known exactly: histogram bands and a map.

The doses on CTs that the patient may have are draws from one distribution, and the patient's is another: a
point of a histogram lies within the prediction interval of a normal distribution of which so many draws are
known (Hahn and Meeker, Statistical Intervals, 2nd ed. (2017), section 4.7).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from scipy import stats

from imaging.grid import Grid
from imaging.structures import StructureSet
from imaging.volume import Quantity, Volume
from planning.dose.forward import calculate
from planning.machine import Machine
from planning.plan import Plan

from .dvh import Dvh, dose_at_share, histograms_at, parts_of

Progress = Callable[[str, float], None]

POINTS = (2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 98.0)  # % of the volume
_FEWEST = 3  # draws that tell a spread


@dataclass(frozen=True, eq=False)
class Band:
    """Between what the dose (Gy) to the hottest shares of a structure lies.

    Parameters
    ----------
    shares
        Of the volume (%), ascending.
    mean, low, high
        Dose that each share receives at least: over the draws, and where the interval ends.
    """

    shares: Float64[np.ndarray, " m"]
    mean: Float64[np.ndarray, " m"]
    low: Float64[np.ndarray, " m"]
    high: Float64[np.ndarray, " m"]


@dataclass(frozen=True, eq=False)
class DoseBands:
    """What is known of a plan's dose.

    Parameters
    ----------
    mean, deviation
        Mean and standard deviation of the total dose (Gy) over the draws.
    bands
        For each structure.
    share
        Of histogram points that bands are to hold.
    n_draws
        How many doses they follow from.
    """

    mean: Volume
    deviation: Volume
    bands: Mapping[str, Band]
    share: float
    n_draws: int


def dose_bands(
    plan: Plan,
    densities: Iterable[Volume],
    structures: StructureSet,
    grid: Grid,
    machine: Machine,
    *,
    n_draws: int,
    share: float = 0.9,
    factor: float = 1.0,
    progress: Progress | None = None,
) -> DoseBands:
    """Histogram bands of a plan over densities that the patient may have; memory holds one dose.

    Parameters
    ----------
    plan
        Beams with control points and monitor units.
    densities
        Relative electron densities, each drawn from what is known of the patient, zero outside the body.
    structures
        Whose histograms.
    grid
        Where to compute dose.
    machine
        The machine that the plan names.
    n_draws
        How many densities come, for the progress.
    share
        Of histogram points that bands are to hold, 0 to 1.
    factor
        On their width, as held-out patients tell it.
    progress
        Told the draws done.

    Raises
    ------
    ValueError
        If fewer than three densities come or the share makes no sense, or for what
        :func:`planning.dose.forward.calculate` refuses.
    """
    if not 0 < share < 1 or not 0 <= factor < math.inf:
        raise ValueError(f"expected a share between 0 and 1 and a factor of 0 or more, got {share}, {factor}")
    parts = parts_of(structures)
    n, total, square = 0, torch.zeros(grid.shape), torch.zeros(grid.shape, dtype=torch.float64)
    frame = structures.frame
    told: dict[str, list[list[float]]] = {}
    for density in densities:
        dose = calculate(plan, density, grid, machine)
        n += 1
        # Welford, Technometrics 4, 419 (1962)
        off = dose.data[0] - total
        total = total + off / n
        square += (off * (dose.data[0] - total)).double()
        for name, points in read_points(histograms_at(dose, parts)).items():
            told.setdefault(name, []).append(points)
        if progress is not None:
            progress("dose on CTs that may be", n / max(n_draws, n))
    if n < _FEWEST:
        raise ValueError(f"expected {_FEWEST} densities or more for a band, got {n}")
    width = factor * prediction(share, n)
    spread = (square / (n - 1)).clamp(min=0).sqrt().float()
    return DoseBands(
        Volume(total[None], grid, Quantity.DOSE, frame),
        Volume(spread[None], grid, Quantity.DOSE, frame),
        {name: _band(np.array(draws), width) for name, draws in told.items()},
        share,
        n,
    )


def prediction(share: float, n: int) -> float:
    """Standard deviations of ``n`` draws either side of their mean that hold another draw so often."""
    return float(stats.t.ppf((1 + share) / 2, n - 1)) * math.sqrt(1 + 1 / n)


def read_points(dvhs: Mapping[str, Dvh], shares: Sequence[float] = POINTS) -> dict[str, list[float]]:
    """Dose (Gy) that each share (%) of a structure receives at least; structures off the grid left out."""
    return {
        name: [dose_at_share(dvh, share) for share in shares] for name, dvh in dvhs.items() if len(dvh.doses)
    }


def inside(bands: Mapping[str, Band], dvhs: Mapping[str, Dvh]) -> dict[str, list[bool]]:
    """Whether each histogram point lies in its band, by structure."""
    truth = read_points(dvhs)
    return {
        name: [
            bool(low <= dose <= high)
            for low, dose, high in zip(band.low, truth[name], band.high, strict=True)
        ]
        for name, band in bands.items()
        if name in truth
    }


def widths_off(bands: Mapping[str, Band], dvhs: Mapping[str, Dvh]) -> list[float]:
    """How many half widths of its band each histogram point lies from the middle of it."""
    truth = read_points(dvhs)
    found = []
    for name, band in bands.items():
        for mean, high, dose in zip(band.mean, band.high, truth.get(name, ()), strict=False):
            found.append(abs(dose - mean) / max(high - mean, 1e-9))
    return found


def _band(draws: Float64[np.ndarray, "n m"], width: float) -> Band:
    mean = draws.mean(axis=0)
    half = width * draws.std(axis=0, ddof=1)
    return Band(np.array(POINTS), mean, np.maximum(mean - half, 0.0), mean + half)
