"""Dose of open fields in water in closed form, for kernels that are sums of Gaussians."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64
from scipy.ndimage import gaussian_filter
from scipy.special import erf

from .scans import Opening

SAD = 1000.0
# Widths of the Gaussians that kernels are made of (mm at the isocentre, for the SSD of reference).
WIDTHS = (1.0, 3.0, 7.0, 15.0, 28.0, 50.0)
# Where scatter is as wide as that. It keeps its width in the water, so from further away it looks smaller.
REFERENCE_SSD, _REFERENCE_DEPTH = 900.0, 100.0
# Horns bend little over the width of a narrow Gaussian; beyond it they are convolved.
_NARROW = 6.0
_STEP = 2.5
_HALF = 330.0


@dataclass(frozen=True, eq=False)
class Beam:
    """What a fit looks for, beside the heights of the Gaussians.

    Parameters
    ----------
    attenuation
        m (1/mm).
    betas
        Build-up coefficients (1/mm).
    source
        Standard deviations of the blur of edges along and across the leaves, at the isocentre (mm).
    radius, horns, softening
        Off-axis distances (mm at the isocentre), open fluence there, and factor on the depth.
    """

    attenuation: float
    betas: Float64[np.ndarray, "3"]
    source: Float64[np.ndarray, "2"]
    radius: Float64[np.ndarray, " k"] = field(default_factory=lambda: np.zeros(1))
    horns: Float64[np.ndarray, " k"] = field(default_factory=lambda: np.ones(1))
    softening: Float64[np.ndarray, " k"] = field(default_factory=lambda: np.ones(1))


def depth_factors(beam: Beam, depth: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "3 n"]:
    """β_i / (β_i − m) · (exp(−m t) − exp(−β_i t)): Bortfeld, Schlegel, Rhein, Med. Phys. 20, 311 (1993)."""
    m, betas = beam.attenuation, beam.betas[:, None]
    return betas / (betas - m) * (np.exp(-m * depth) - np.exp(-betas * depth))


def shrink(ssd: float) -> float:
    """How much narrower than at the reference SSD scatter looks when projected to the isocentre."""
    return (REFERENCE_SSD + _REFERENCE_DEPTH) / (ssd + _REFERENCE_DEPTH)


def parts(
    beam: Beam,
    opening: Opening,
    ssd: float,
    depth: Float64[np.ndarray, " n"],
    across: tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]],
    blur: float = 0.0,
) -> Float64[np.ndarray, "n terms"]:
    """Dose of each term (depth factor i times Gaussian j) for height 1, at points in a water tank.

    Parameters
    ----------
    beam
        Attenuation, source and off-axis factors.
    opening
        The field, centred on the axis.
    ssd
        Distance from the source to the water (mm).
    depth
        Depths of the points (mm).
    across
        Their offsets from the axis, x and y (mm at their depth).
    blur
        Standard deviation of the detector's own blur (mm, in the water).
    """
    away = ssd + depth
    x, y = (offset * SAD / away for offset in across)
    radius = np.hypot(x, y)
    slant = np.hypot(1.0, radius / SAD)
    along = depth * slant * np.interp(radius, beam.radius, beam.softening)
    strength = depth_factors(beam, along) * (SAD / (away * slant)) ** 2
    seen = blur * SAD / away
    lateral = []
    for width in WIDTHS:
        sharp = np.hypot(width * shrink(ssd), beam.source)
        lateral.append(_lateral(beam, opening, (x, y), np.hypot(sharp[:, None], seen)))
    return np.einsum("in,jn->nij", strength, np.stack(lateral)).reshape(len(depth), -1)


def _lateral(
    beam: Beam,
    opening: Opening,
    at: tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]],
    width: Float64[np.ndarray, "2 n"],
) -> Float64[np.ndarray, " n"]:
    """The field through a Gaussian of unit integral, of these standard deviations along x and y."""
    if width.min() <= _NARROW or np.ptp(beam.horns) == 0:
        free = [_edge(p, size, w) for p, size, w in zip(at, (opening.x, opening.y), width, strict=True)]
        return _horns(beam, np.hypot(*at)) * free[0] * free[1]
    grid = np.arange(-_HALF, _HALF + _STEP, _STEP)
    inside = np.outer(_edge(grid, opening.x, _NARROW), _edge(grid, opening.y, _NARROW))
    map_ = inside * _horns(beam, np.hypot(grid[:, None], grid[None]))
    # The detector blurs hardly more or less at other depths, next to so wide a Gaussian.
    rest = np.sqrt(width.mean(axis=1) ** 2 - _NARROW**2) / _STEP
    return _bilinear(gaussian_filter(map_, rest, mode="constant", truncate=3.5), *at)


def _edge(at: np.ndarray, size: float, width: np.ndarray | float) -> np.ndarray:
    root = np.sqrt(2) * width
    return (erf((at + size / 2) / root) - erf((at - size / 2) / root)) / 2


def _horns(beam: Beam, radius: np.ndarray) -> np.ndarray:
    """Horns over cos³ of the angle, as the dose engines weigh fluence."""
    return np.interp(radius, beam.radius, beam.horns) * (1 + (radius / SAD) ** 2) ** 1.5


def _bilinear(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    u, v = ((np.clip(p, -_HALF, _HALF - _STEP) + _HALF) / _STEP for p in (x, y))
    i, j = u.astype(int), v.astype(int)
    a, b = u - i, v - j
    top = values[i, j] * (1 - b) + values[i, j + 1] * b
    return top * (1 - a) + (values[i + 1, j] * (1 - b) + values[i + 1, j + 1] * b) * a
