"""``spindose evaluate dose``: two doses beside each other, point by point and structure by structure."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from imaging.resample import resample
from imaging.volume import Quantity, Volume
from planning.check.dvh import Dvh, dose_at_cc, dose_at_share, maximum, mean
from planning.check.gamma import Criterion, gamma_pass

from .console import Progress
from .evaluate_files import expect_together, read_dose, read_regions
from .steps import file_hash

_CRITERION = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)", re.ASCII)
_METRICS: Mapping[str, Callable[[Dvh], float]] = {
    "d98_gy": lambda dvh: dose_at_share(dvh, 98.0),
    "d95_gy": lambda dvh: dose_at_share(dvh, 95.0),
    "d50_gy": lambda dvh: dose_at_share(dvh, 50.0),
    "d2_gy": lambda dvh: dose_at_share(dvh, 2.0),
    "d0.03cc_gy": lambda dvh: dose_at_cc(dvh, 0.03),
    "mean_gy": mean,
    "max_gy": maximum,
}


def parse_criterion(text: str, cutoff: float, *, local: bool) -> Criterion:
    """The gamma criterion written as ``3/3`` (percent / mm).

    Raises
    ------
    ValueError
        If the text is anything else, or a number cannot be.
    """
    found = _CRITERION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"expected a gamma criterion in percent / mm such as 3/3 or 2/1.5, got {text!r}")
    return Criterion(float(found[1]), float(found[2]), cutoff, local)


def evaluate_dose(
    dose: Path, reference: Path, structures: Path | None, criterion: Criterion, progress: Progress
) -> dict[str, object]:
    """Gamma, differences and histogram metrics of a dose against a reference, as plain values.

    Parameters
    ----------
    dose, reference
        RTDOSE or NIfTI files (Gy).
    structures
        RTSTRUCT or masks, where there are any.
    criterion
        What counts as the same dose.
    progress
        Told the share of the gamma search that is done.

    Raises
    ------
    ValueError
        If a file cannot be read, or files do not belong together.
    """
    evaluated, source = read_dose(dose)
    truth, owner = read_dose(reference)
    expect_together(evaluated, source, truth, owner)
    gamma = gamma_pass(
        truth,
        evaluated,
        criterion.dose_percent,
        criterion.distance_mm,
        criterion.cutoff_percent,
        local=criterion.local,
        progress=progress,
    )
    found: dict[str, object] = {
        "gamma": {
            "criterion": f"{criterion.dose_percent:g} %/{criterion.distance_mm:g} mm",
            "local": criterion.local,
            "cutoff_percent": criterion.cutoff_percent,
            "pass_percent": round(gamma.pass_percent, 4),
            "points": gamma.n_points,
        },
        "difference": difference(evaluated, truth, criterion.cutoff_percent),
        "inputs": {"dose": file_hash(dose), "reference": file_hash(reference)},
    }
    if structures is not None:
        regions = read_regions(structures, truth, owner)
        found["structures"] = metric_differences(regions.histograms(evaluated), regions.histograms(truth))
        found["inputs"] = {**_mapping(found["inputs"]), "structures": file_hash(structures)}
    return found


def difference(evaluated: Volume, reference: Volume, cutoff_percent: float) -> dict[str, object]:
    """The dose less its reference, over the reference's voxels above the cutoff that the dose covers.

    Parameters
    ----------
    evaluated, reference
        Doses (Gy); the first is read, trilinear, on the second's grid.
    cutoff_percent
        Voxels under this share of the reference's maximum are left out.

    Raises
    ------
    ValueError
        If no voxel is left.
    """
    highest = float(reference.data.max())
    everywhere = Volume(torch.ones_like(evaluated.data[:1]), evaluated.grid, Quantity.PROBABILITY)
    covered = resample(everywhere, reference.grid).data[0] > 0.5
    inside = covered & (reference.data[0] >= cutoff_percent / 100 * highest) & (reference.data[0] > 0)
    if not bool(inside.any()):
        raise ValueError(
            "expected doses that overlap above the cutoff, got none; check their grids and frames"
        )
    less = (resample(evaluated, reference.grid).data[0] - reference.data[0])[inside].double().numpy()
    gy = {
        "mean_gy": less.mean(),
        "sd_gy": less.std(),
        "mean_absolute_gy": np.abs(less).mean(),
        "p1_gy": np.percentile(less, 1),
        "p99_gy": np.percentile(less, 99),
        "min_gy": less.min(),
        "max_gy": less.max(),
    }
    return {
        **{name: round(float(value), 5) for name, value in gy.items()},
        "mean_percent_of_maximum": round(100 * float(less.mean()) / highest, 4),
        "mean_absolute_percent_of_maximum": round(100 * float(np.abs(less).mean()) / highest, 4),
        "reference_maximum_gy": round(highest, 5),
        "voxels": int(inside.sum()),
    }


def metric_differences(ours: Mapping[str, Dvh], truth: Mapping[str, Dvh]) -> dict[str, dict[str, float]]:
    """For each structure the metrics of the reference, and how much more the evaluated dose gives (Gy)."""
    return {
        name: {
            "volume_cc": round(truth[name].volume_cc, 4),
            "share_inside": round(min(ours[name].share_inside, truth[name].share_inside), 4),
            **{key: round(metric(truth[name]), 4) for key, metric in _METRICS.items()},
            **{
                key.replace("_gy", "_difference_gy"): round(metric(ours[name]) - metric(truth[name]), 4)
                for key, metric in _METRICS.items()
            },
        }
        for name in truth
        if name in ours
    }


def lines(found: Mapping[str, object]) -> list[str]:
    """The same for a person."""
    gamma, less = _mapping(found["gamma"]), _mapping(found["difference"])
    how = f"{gamma['criterion']}{' local' if gamma['local'] else ''} above {gamma['cutoff_percent']:g} %"
    spread = (
        f"standard deviation {less['sd_gy']:.3f} Gy, from {less['min_gy']:+.2f} to {less['max_gy']:+.2f} Gy"
    )
    return [
        f"Gamma {how}: {gamma['pass_percent']:.2f} % of {gamma['points']} points",
        f"Difference: mean {less['mean_gy']:+.3f} Gy, {spread}",
        *(
            f"  {name}: mean {one['mean_difference_gy']:+.2f} Gy, D95% {one['d95_difference_gy']:+.2f} Gy, "
            f"D2% {one['d2_difference_gy']:+.2f} Gy"
            for name, one in _mapping(found.get("structures", {})).items()
        ),
    ]


def _mapping(value: object) -> dict:  # type: ignore[type-arg] # as JSON gives it
    return dict(value)  # type: ignore[call-overload]
