"""How far a synthetic CT may be off, held against patients that no network learnt from.

Networks say too little or too much of what they do not know. Split conformal prediction (Vovk et al., 2005;
Angelopoulos and Bates, arXiv 2107.07511) puts that right: of voxels that the synthetic CT takes for a tissue,
errors are divided by the standard deviation that was told, and the quantile of these ratios over held-out
patients makes an interval of it that holds its share of voxels. Each tissue has quantiles of its own.

A dose follows from errors that lie together, not from those of single voxels, which a beam averages. So the
same patients tell how much of the squared ratio is one error all over a tissue, how much is common to places
a few centimetres wide, and how much is fine; samples of the CT are drawn accordingly.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import avg_pool3d, interpolate

from imaging.shapes import Mask
from imaging.volume import Quantity, Volume

from .baselines import AIR_BELOW, BONE_ABOVE, FAT_BELOW
from .convert import SyntheticCt

TISSUES = ("air", "fat", "soft tissue", "bone")  # as the synthetic CT has them
PATCH = 20.0  # mm: the width of places that err together
FINE = 3.0  # mm between knots of what is finer
_SHARES = (0.5, 0.68, 0.8, 0.9, 0.95)
_ONE_SIGMA = 0.68
_KEPT = 50_000  # ratios of a tissue of a patient
_FEWEST = 1000  # voxels of a tissue, below which a patient tells nothing of it
_LARGEST_FILE = 2**20  # bytes
_TWELVE_BITS = (-1024.0, 3071.0)  # HU

Values = Float[Tensor, "i j k"]


@dataclass(frozen=True)
class Calibration:
    """What held-out patients tell of the deviations of an ensemble.

    Parameters
    ----------
    factors
        For each tissue and share of voxels (as text), how many deviations either side hold that share.
    parts
        For each tissue, in squares of the deviation that holds 68 %: the error that is one all over it, that
        is common to places of `PATCH`, and that is fine.
    dose_factor
        Makes bands of dose–volume histograms hold their share; 1 where no plans were looked at.
    patients
        How many told it.
    plans
        How many plans told the factor of dose; with none it is a guess.
    """

    factors: Mapping[str, Mapping[str, float]]
    parts: Mapping[str, tuple[float, float, float]]
    dose_factor: float = 1.0
    patients: int = 0
    plans: int = 0

    def __post_init__(self) -> None:
        numbers = [f for one in self.factors.values() for f in one.values()]
        numbers += [p for one in self.parts.values() for p in one] + [self.dose_factor]
        there = all(name in told for name in TISSUES for told in (self.factors, self.parts))
        if not there or not all(math.isfinite(n) and n >= 0 for n in numbers):
            raise ValueError(
                "expected factors and parts of 0 or more for each tissue, got others; calibrate again"
            )


def tissue_of(ct: Volume) -> Int64[Tensor, "i j k"]:
    """Number of the tissue (of `TISSUES`) that each CT number stands for."""
    edges = torch.tensor([AIR_BELOW, FAT_BELOW, BONE_ABOVE])
    return torch.bucketize(ct.expect(Quantity.HU).data[0].float(), edges, right=True)


@dataclass(frozen=True, eq=False)
class Observed:
    """What one patient tells.

    Parameters
    ----------
    ratios
        For each tissue it has, how many of the told deviations some of its voxels are off, shape ``(n,)``.
    squares
        For each tissue, the square of the mean ratio all over it, the mean square of means over places of
        `PATCH`, and of voxels, shape ``(3,)``.
    """

    ratios: Mapping[str, Float[Tensor, " _"]]
    squares: Mapping[str, Float[Tensor, "3"]]


def observed(found: SyntheticCt, truth: Volume, body: Mask) -> Observed:
    """What a patient tells that no network learnt from.

    Parameters
    ----------
    found
        The synthetic CT.
    truth
        The true CT (HU) on its grid.
    body
        Where the body is.

    Raises
    ------
    ValueError
        If the grids differ.
    """
    if found.ct.grid != truth.grid:
        raise ValueError("expected a true CT on the grid of the synthetic one; resample it")
    off = truth.expect(Quantity.HU).data[0] - found.ct.data[0]
    ratio = off / found.uncertainty.data[0].clamp(min=1)
    kind = tissue_of(found.ct)
    ratios, squares = {}, {}
    for n, name in enumerate(TISSUES):
        here = body & (kind == n)
        if int(here.sum()) < _FEWEST:
            continue
        all_of_it = ratio[here].abs()
        ratios[name] = all_of_it[:: max(1, len(all_of_it) // _KEPT)].clone()
        squares[name] = _nested(ratio, here, truth.grid.spacing.tolist())
    return Observed(ratios, squares)


def calibrated(patients: Sequence[Observed]) -> Calibration:
    """What patients tell together.

    Raises
    ------
    ValueError
        If there is none, or a tissue is in none.
    """
    factors, parts = {}, {}
    for name in TISSUES:
        having = [one for one in patients if name in one.ratios]
        if not having:
            raise ValueError(f"expected patients with every tissue, got none with {name}; give more")
        quantiles = _quantiles([one.ratios[name] for one in having])
        factors[name] = {f"{share:g}": q for share, q in zip(_SHARES, quantiles, strict=True)}
        unit = factors[name][f"{_ONE_SIGMA:g}"] ** 2
        whole, patch, voxel = (torch.stack([one.squares[name] for one in having]).mean(dim=0) / unit).tolist()
        parts[name] = (whole, max(patch - whole, 0.0), max(voxel - max(patch, whole), 0.0))
    return Calibration(factors, parts, patients=len(patients))


def deviation(found: SyntheticCt, calibration: Calibration) -> Volume:
    """Standard deviations (HU) that hold 68 % of the voxels of each tissue within one of them."""
    factor = {name: f[f"{_ONE_SIGMA:g}"] for name, f in calibration.factors.items()}
    return _by_tissue(found.ct, found.uncertainty, factor)


def half_width(ct: Volume, sigma: Volume, calibration: Calibration, share: float) -> Volume:
    """Half the width (HU) of the interval about each CT number that holds such a share of voxels.

    Parameters
    ----------
    ct, sigma
        The synthetic CT, and what :func:`deviation` gave of it.
    calibration
        The same.
    share
        One that was calibrated.

    Raises
    ------
    ValueError
        If no such share was calibrated.
    """
    key, told = f"{share:g}", calibration.factors[TISSUES[0]]
    if key not in told:
        raise ValueError(f"expected a share of {', '.join(told)}, got {share:g}")
    one = f"{_ONE_SIGMA:g}"
    times = {name: f[key] / max(f[one], 1e-6) for name, f in calibration.factors.items()}
    return _by_tissue(ct, sigma, times)


def common(ct: Volume, sigma: Volume, calibration: Calibration) -> Volume:
    """Standard deviations (HU) of the errors that whole places share, which no beam averages.

    Parameters
    ----------
    ct, sigma
        The synthetic CT, and what :func:`deviation` gave of it.
    calibration
        Says how errors lie.
    """
    share = {name: math.sqrt(whole + place) for name, (whole, place, _) in calibration.parts.items()}
    return _by_tissue(ct, sigma, share)


def drawn(ct: Volume, sigma: Volume, calibration: Calibration, generator: torch.Generator) -> Volume:
    """A CT (HU) that the patient may have, errors lying together as they do in held-out patients.

    Parameters
    ----------
    ct, sigma
        The synthetic CT, and what :func:`deviation` gave of it.
    calibration
        Says how errors lie.
    generator
        Draws; on the CPU.
    """
    spacing = ct.grid.spacing.tolist()
    patch, fine = (_smooth(ct.grid.shape, spacing, width, generator) for width in (PATCH, FINE))
    whole = torch.randn(len(TISSUES), generator=generator)
    roots = [[math.sqrt(p) for p in calibration.parts[name]] for name in TISSUES]
    kind = tissue_of(ct)
    together, places, voxels = (torch.tensor(one)[kind] for one in zip(*roots, strict=True))
    error = together * whole[kind] + places * patch + voxels * fine
    hu = (ct.data[0] + sigma.expect(Quantity.HU_DEVIATION).data[0] * error).clamp(*_TWELVE_BITS)
    return Volume(hu[None], ct.grid, Quantity.HU, ct.frame)


def write_calibration(calibration: Calibration, path: Path) -> None:
    """As JSON."""
    path.write_text(json.dumps(asdict(calibration), indent=1) + "\n", encoding="utf-8")


def read_calibration(path: Path) -> Calibration:
    """What :func:`write_calibration` wrote.

    Raises
    ------
    ValueError
        If the file is another.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError  # noqa: TRY301
        told = json.loads(path.read_text(encoding="utf-8"))
        factors = {
            str(name): {str(k): float(v) for k, v in one.items()} for name, one in told["factors"].items()
        }
        parts = {}
        for name, (whole, patch, fine) in told["parts"].items():
            parts[str(name)] = (float(whole), float(patch), float(fine))
        return Calibration(
            factors, parts, float(told["dose_factor"]), int(told["patients"]), int(told["plans"])
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(
            "expected a calibration as `spindose train intervals` writes it, got another file"
        ) from None


def _by_tissue(ct: Volume, sigma: Volume, times: Mapping[str, float]) -> Volume:
    """Deviations (HU) so many times as wide, by the tissue that each voxel of a CT stands for."""
    factor = torch.tensor([times[name] for name in TISSUES])[tissue_of(ct)][None]
    wide = sigma.expect(Quantity.HU_DEVIATION).data * factor
    return Volume(wide, ct.grid, Quantity.HU_DEVIATION, ct.frame)


def _quantiles(some: list[Tensor]) -> list[float]:
    """The ratios that `_SHARES` of voxels stay below, every patient counting alike."""
    n = min(len(one) for one in some)
    pooled = torch.cat([one[torch.linspace(0, len(one) - 1, n).long()] for one in some]).sort().values
    at = [min(math.ceil((len(pooled) + 1) * share), len(pooled)) - 1 for share in _SHARES]
    return pooled[at].tolist()


def _nested(ratio: Values, here: Mask, spacing: list[float]) -> Float[Tensor, "3"]:
    """Mean squares: of the mean over a tissue, of means over places, of voxels."""
    sides = [max(round(PATCH / s), 1) for s in spacing]
    some = here.float()
    weight, total = (
        avg_pool3d(v[None, None], sides, ceil_mode=True, divisor_override=1)[0, 0]
        for v in (some, ratio * some)
    )
    there = weight >= 0.05 * math.prod(sides)
    means = total[there] / weight[there]
    inside = ratio[here]
    voxel = inside.square().mean()
    patch = (weight[there] * means.square()).sum() / weight[there].sum() if there.any() else voxel
    return torch.stack([inside.mean().square(), patch, voxel]).double().float()


def _smooth(
    shape: tuple[int, int, int], spacing: list[float], knot: float, generator: torch.Generator
) -> Values:
    """Smooth noise of unit variance with knots so far apart (mm)."""
    knots = [max(math.ceil(n * s / knot) + 1, 2) for n, s in zip(shape, spacing, strict=True)]
    coarse = torch.randn(1, 1, *knots, generator=generator)
    fine = interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0, 0]
    # Between two knots a weighted mean has two thirds of their variance, on average, along each axis.
    return fine * 1.5**1.5
