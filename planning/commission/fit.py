"""A beam model from measured depth doses, profiles and output factors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.optimize import least_squares
from scipy.special import erf

from planning.machine import Machine, PencilBeam

from .between import between, numbered
from .points import REFERENCE_DEPTH, REFERENCE_SIDE, REFERENCE_SSD, Field, fields, outputs
from .scans import Kind, Opening, Scan
from .tank import output_factor
from .water import WIDTHS, Beam, parts

Progress = Callable[[str, float], None]

# Radii at which horns and softening are free (mm at the isocentre); beyond the last they stay.
_RADII = np.array([0.0, 30.0, 60.0, 90.0, 120.0, 150.0, 200.0])
_REFERENCE = Opening(REFERENCE_SIDE, REFERENCE_SIDE)
# How much a guess counts beside the scans: heights like the guide's, horns and softening of 1, and
# build-up coefficients (as logarithms) like the guide's. Found on the depth doses of the fitted fields.
_RIDGE, _SMOOTH, _ALIKE = 0.03, 0.3, 0.01
_STARTING_WIDTH = 2.0
_MOST_EVALUATIONS = 15
_GUIDED_SIDES = (50.0, 300.0)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was found.

    Parameters
    ----------
    beam
        Attenuation, build-up, source, horns and softening.
    heights
        Of each depth factor's Gaussians, so that the reference field has dose 1 at 100 mm.
    residual
        Root mean square of what is left at the fitted points, as a share of the dose on the axis.
    """

    beam: Beam
    heights: Float64[np.ndarray, "3 j"]
    residual: float


@dataclass(frozen=True, eq=False)
class _Wanted:
    """What heights are solved for: points, output factors, and the heights that a guide has."""

    fields: Sequence[Field]
    outputs: Sequence[tuple[float, float, float]]
    guide: Float64[np.ndarray, " terms"]


def fit(
    scans: Sequence[Scan],
    output: Mapping[float, float],
    guide: Machine,
    progress: Progress | None = None,
) -> Fitted:
    """The beam that explains scans best.

    The dose of a field in water is linear in the heights of the kernels' Gaussians and in one unknown
    scale for each field; for given attenuation, build-up, source, horns and softening these are found
    at once, and those by least squares around it (variable projection: Golub, Pereyra, SIAM J. Numer. Anal.
    10, 413 (1973)).

    Parameters
    ----------
    scans
        Depth doses and profiles to fit.
    output
        Output factors by side (mm) at the reference depth; those of the guide where they are not measured.
    guide
        A machine whose kernels hold where the scans say little.
    progress
        Told the share of the search that is done.

    Raises
    ------
    ValueError
        If there is no depth dose.
    """
    if not any(scan.kind is Kind.DEPTH for scan in scans):
        raise ValueError("expected the depth dose of at least one field to fit, got none; measure it")
    measured = fields(scans)
    n_scales = 1 + max(int(field.scale.max()) for field in measured)
    wanted = _Wanted(
        [*measured, *numbered(between(scans, guide), n_scales)],
        outputs(output, {side: output_factor(side, guide) for side in _GUIDED_SIDES}),
        _guided_heights(guide.beam),
    )
    n_off = len(_RADII) - 1
    start = np.zeros(6 + 2 * n_off)
    start[:4] = np.log([guide.beam.attenuation, guide.beam.betas[0], _STARTING_WIDTH, _STARTING_WIDTH])
    steps = np.r_[np.full(4, 0.1), np.full(2, 0.3), np.full(2 * n_off, 0.02)]
    n_seen = 0

    def left(theta: np.ndarray) -> np.ndarray:
        nonlocal n_seen
        n_seen += 1
        if progress is not None:
            progress("beam", min(n_seen / (_MOST_EVALUATIONS * len(theta)), 1.0))
        rest = _solve(_beam(theta, guide.beam), wanted)[1]
        return np.concatenate([rest, _ALIKE * theta[4:6], _SMOOTH * theta[6:]])

    found = least_squares(left, start, x_scale=steps, max_nfev=_MOST_EVALUATIONS)
    beam = _beam(found.x, guide.beam)
    heights, rest = _solve(beam, wanted)
    n_points = sum(len(field.dose) for field in measured)
    return Fitted(beam, heights, float(np.sqrt(np.mean(rest[:n_points] ** 2))))


def _beam(theta: Float64[np.ndarray, " n"], guide: PencilBeam) -> Beam:
    m, first, *source = np.exp(theta[:4])
    horns, softening = (1 + np.concatenate([[0.0], part]) for part in np.split(theta[6:], 2))
    betas = np.r_[first, guide.betas[1:] * np.exp(theta[4:6])]
    return Beam(float(m), betas, np.array(source), _RADII, horns, softening)


def _solve(beam: Beam, wanted: _Wanted) -> tuple[Float64[np.ndarray, "3 j"], Float64[np.ndarray, " rows"]]:
    """The heights that fit best for a beam, and all weighted residuals."""
    n_terms = 3 * len(WIDTHS)
    n_scales = 1 + max(int(field.scale.max()) for field in wanted.fields)
    rows = [_rows_of(beam, field, n_scales) for field in wanted.fields]
    n_points = sum(len(part) for part in rows)
    for side, _, weight in wanted.outputs:
        rows.append(weight * np.r_[_on_axis(beam, Opening(side, side)), np.zeros(n_scales)][None])
    # Where the scans say little the kernels stay like those of the guide.
    size = _RIDGE * np.abs(_on_axis(beam, _REFERENCE)) * np.sqrt(n_points)
    rows.append(np.hstack([np.diag(size), np.zeros((n_terms, n_scales))]))
    factors = [weight * factor for _, factor, weight in wanted.outputs]
    matrix, right = np.vstack(rows), np.concatenate([np.zeros(n_points), factors, size * wanted.guide])
    found = np.linalg.lstsq(matrix, right, rcond=None)[0]
    rest = matrix @ found - right
    # Each unknown scale divides its field's residuals: as a share of the dose, whatever the output.
    rest[:n_points] /= found[n_terms:][np.concatenate([field.scale for field in wanted.fields])]
    return found[:n_terms].reshape(3, -1), rest


def _rows_of(beam: Beam, field: Field, n_scales: int) -> Float64[np.ndarray, "n _"]:
    """Weighted equations: the model less each point's dose times its unknown scale is 0."""
    terms = parts(beam, field.opening, field.ssd, field.depth, (field.x, field.y), field.blur)
    scales = np.zeros((len(terms), n_scales))
    scales[np.arange(len(terms)), field.scale] = -field.dose
    return np.hstack([terms, scales]) * field.weight[:, None]


def _on_axis(beam: Beam, opening: Opening) -> Float64[np.ndarray, " terms"]:
    nought = np.zeros(1)
    return parts(beam, opening, REFERENCE_SSD, np.array([REFERENCE_DEPTH]), (nought, nought))[0]


def _guided_heights(guide: PencilBeam) -> Float64[np.ndarray, " terms"]:
    """Heights of the Gaussians that spread as the kernels of a machine do, in square fields."""
    kernels = guide.kernels[int(np.abs(guide.ssd - REFERENCE_SSD).argmin())]
    sides = np.array([4.0, 6, 10, 15, 20, 30, 40, 60, 80, 100, 140, 200, 300])
    step = float(guide.radius[1])
    at = np.arange(-300, 301) * step
    radius = np.hypot(at[:, None], at[None])
    inside = np.maximum(np.abs(at[:, None]), np.abs(at[None]))
    terms = np.stack([erf((sides + step) / 2 / (np.sqrt(2) * width)) ** 2 for width in WIDTHS], axis=1)
    # Narrow and wide Gaussians of opposite signs must not fight over what the sides cannot tell.
    matrix, nought = np.vstack([terms, 0.01 * np.eye(len(WIDTHS))]), np.zeros(len(WIDTHS))
    found = []
    for kernel in kernels:
        spread = np.interp(radius, guide.radius, kernel, right=0.0) * step**2
        whole = np.array([spread[inside <= side / 2].sum() for side in sides])
        found.append(np.linalg.lstsq(matrix, np.r_[whole, nought], rcond=None)[0])
    source = guide.penumbra_fwhm / np.sqrt(8 * np.log(2))
    heights = np.concatenate(found)
    return heights / (heights @ _on_axis(Beam(guide.attenuation, guide.betas, source), _REFERENCE))
