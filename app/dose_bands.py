"""What a plan's dose may be when its synthetic CT may be otherwise: CTs drawn, doses computed, bands told."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from imaging.grid import Grid
from imaging.structures import StructureSet
from imaging.volume import Volume
from mr2ct.calibration import Calibration, drawn
from planning.check.dose_bands import DoseBands, dose_bands
from planning.contour.body import body_of
from planning.density import relative_electron_density
from planning.machine import load_machine
from planning.plan import Plan

from .console import Progress

N_DRAWS = 10
SHARE = 0.9


def bands_of(
    ct: Volume,
    sigma: Volume,
    calibration: Calibration,
    plan: Plan,
    structures: StructureSet,
    grid: Grid,
    progress: Progress,
    *,
    seed: int = 0,
    n_draws: int = N_DRAWS,
) -> DoseBands:
    """Bands of a plan's histograms over CTs that the patient may have.

    Parameters
    ----------
    ct, sigma
        Synthetic CT (HU), and the deviations that :func:`mr2ct.calibration.deviation` tells of it.
    calibration
        How errors lie, and how wide bands must be.
    plan
        Beams with monitor units.
    structures
        Whose histograms.
    grid
        Where to compute dose.
    progress
        Told what happens and the share of it that is done.
    seed
        Of the draws.
    n_draws
        How many.
    """
    body = body_of(ct)
    generator = torch.Generator().manual_seed(seed)

    def densities() -> Iterator[Volume]:
        for _ in range(n_draws):
            yield relative_electron_density(drawn(ct, sigma, calibration, generator), body)

    return dose_bands(
        plan,
        densities(),
        structures,
        grid,
        load_machine(plan.machine),
        n_draws=n_draws,
        share=SHARE,
        factor=calibration.dose_factor,
        progress=progress,
    )


def as_json(found: DoseBands) -> dict[str, Any]:
    """Bands as plain values (Gy)."""
    bands: Mapping[str, Any] = {
        name: {
            "volume_percent": band.shares.tolist(),
            "mean_gy": [round(v, 3) for v in band.mean.tolist()],
            "low_gy": [round(v, 3) for v in band.low.tolist()],
            "high_gy": [round(v, 3) for v in band.high.tolist()],
        }
        for name, band in found.bands.items()
    }
    return {"share": found.share, "draws": found.n_draws, "structures": bands}
