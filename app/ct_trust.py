"""Where the CT of a plan is not to be trusted, and what that does to its dose: a step of the walk."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imaging.grid import Grid
from imaging.nifti import read_nifti, write_nifti
from imaging.structures import RoiType, StructureSet
from imaging.volume import Quantity, Volume
from planning.plan import Plan

from .ct_nets import calibration_of
from .dose_bands import N_DRAWS, SHARE, as_json, bands_of
from .review.facts import CheckRow
from .steps import Walk

STEP = "dose_bands"
_BANDS, _DEVIATION = "dose_bands.json", "dose_deviation.nii.gz"
_TARGETS = (RoiType.GTV, RoiType.CTV, RoiType.PTV)
_TOLD = (98.0, 50.0, 2.0)  # % of the volume


@dataclass(frozen=True, eq=False)
class Trust:
    """What is known of a synthetic CT that networks made.

    Parameters
    ----------
    sigma
        Standard deviation of the CT (HU).
    dose_deviation
        Of the dose (Gy) on CTs that may be; None where nothing was calibrated.
    bands
        Of the histograms, as plain values; empty as well.
    """

    sigma: Volume
    dose_deviation: Volume | None
    bands: Mapping[str, Any]


def told(
    walk: Walk,
    ct: Volume,
    sigma: Volume | None,
    plan: Plan,
    structures: StructureSet,
    grid: Grid,
    n_draws: int = N_DRAWS,
) -> Trust | None:
    """Deviation of a CT and of the dose on it; nothing of a CT that no network made.

    Parameters
    ----------
    walk
        Has walked the steps ``synthetic_ct`` and ``delivery``.
    ct, sigma
        HU, and what they may be off by, where that is known.
    plan
        The plan.
    structures
        Whose histograms.
    grid
        Of the dose.
    n_draws
        How many CTs are drawn; of few, bands are wider.
    """
    if sigma is None:
        return None
    calibration = calibration_of(())
    if calibration is None:
        return Trust(sigma, None, {})

    def made() -> tuple[Volume, dict[str, Any]]:
        found = bands_of(ct, sigma, calibration, plan, structures, grid, walk.inside, n_draws=n_draws)
        return found.deviation, {**as_json(found), "calibrated_on_plans": calibration.plans}

    deviation, bands = walk.step(
        STEP,
        "Dose on CTs that may be",
        {"draws": n_draws, "share": SHARE, "factor": calibration.dose_factor},
        made,
        _write,
        _read,
        after=("synthetic_ct", "delivery"),
    )
    return Trust(sigma, deviation, bands)


def rows(trust: Trust | None, structures: StructureSet) -> tuple[CheckRow, ...]:
    """Between what the targets' doses lie, for a page."""
    if trust is None or not trust.bands:
        return ()
    share = f"{100 * trust.bands['share']:g} %"
    guess = "" if trust.bands["calibrated_on_plans"] else " (a guess: not calibrated on plans)"
    found = []
    for name, band in trust.bands["structures"].items():
        if structures.structures[name].kind not in _TARGETS:
            continue
        at = [band["volume_percent"].index(percent) for percent in _TOLD]
        said = [
            f"D{_TOLD[n]:g}% {band['low_gy'][k]:.1f} to {band['high_gy'][k]:.1f} Gy" for n, k in enumerate(at)
        ]
        found.append(
            CheckRow(f"{name}, {share} band of what the synthetic CT leaves open{guess}", ", ".join(said))
        )
    return tuple(found)


def _write(found: tuple[Volume, dict[str, Any]], here: Path) -> None:
    write_nifti(found[0], here / _DEVIATION)
    (here / _BANDS).write_text(json.dumps(found[1], indent=1))


def _read(here: Path) -> tuple[Volume, dict[str, Any]]:
    return read_nifti(here / _DEVIATION, Quantity.DOSE), json.loads((here / _BANDS).read_text())
