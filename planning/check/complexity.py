"""How modulated a plan is: the more, the less the delivered dose can be trusted to be the computed one."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64

from planning.beams import Beam, ControlPoint
from planning.machine import Machine
from planning.plan import Plan
from planning.rows import left_open, rows_of

# Narrower openings of a leaf pair (mm at the isocentre) count as small.
SMALL = 10.0


@dataclass(frozen=True)
class Complexity:
    """What apertures of a plan are like, each mean weighted by monitor units.

    Parameters
    ----------
    modulation_score
        Modulation complexity score, 1 for an open rectangle, falling to 0.
    area_mm2
        Mean open area (mm² at the isocentre).
    small_share
        Share of the open leaf pairs (with two layers: rows) that are open by less than 10 mm.
    mu_per_gray
        Monitor units for each Gy prescribed.
    """

    modulation_score: float
    area_mm2: float
    small_share: float
    mu_per_gray: float


def complexity(plan: Plan, machine: Machine) -> Complexity:
    """Complexity of a plan.

    The modulation complexity score is that of McNiven, Sharpe, Purdie, Med. Phys. 37, 505 (2010): the
    product of how alike neighbouring leaves stand and how much of the beam's largest opening is open,
    weighted by monitor units; between control points that move, of the means of both ends (Masi et al.,
    Med. Phys. 40, 071718 (2013)). Where there are two layers of leaves, a row's opening is what both leave
    open, and its ends take the place of the leaves.

    Parameters
    ----------
    plan
        Beams with control points and monitor units.
    machine
        Its leaves.

    Raises
    ------
    ValueError
        If no beam has monitor units.
    """
    mu = np.array([beam.mu for beam in plan.beams])
    if mu.sum() <= 0:
        raise ValueError("expected beams with monitor units, got none; sequence the plan first")
    rows = np.array([_of_beam(beam, machine) for beam in plan.beams])
    score, area, small = (mu / mu.sum()) @ rows
    fraction = plan.prescription.dose_gy / plan.prescription.n_fractions
    return Complexity(float(score), float(area), float(small), float(mu.sum() / fraction))


def _of_beam(beam: Beam, machine: Machine) -> tuple[float, float, float]:
    """Score, open area and share of small openings of one beam."""
    points, rows = beam.control_points, rows_of(machine.mlc)
    ends = [left_open(point.leaves, rows) for point in points]
    opened = np.stack([_opened(own, point, machine) for own, point in zip(ends, points, strict=True)])
    heights = np.stack([np.diff(np.clip(rows.edges, *point.jaws_y)) for point in points])
    is_open = (opened > 0) & (heights > 0)
    alike = np.array([_alike(*one) for one in zip(ends, is_open, strict=True)])
    gaps = np.where(is_open, opened, 0.0)
    largest = gaps.max(axis=0).sum()
    filled = gaps.sum(axis=1) / (largest or 1.0)
    area = (gaps * heights).sum(axis=1)
    small = (is_open & (opened < SMALL)).sum(axis=1) / np.maximum(is_open.sum(axis=1), 1)
    shares = np.diff([point.meterset for point in points])
    score = [(alike[a] + alike[b]) / 2 * (filled[a] + filled[b]) / 2 for a, b in pairwise(range(len(points)))]
    return float(shares @ score), _mean(shares, area), _mean(shares, small)


def _mean(shares: Float64[np.ndarray, " spans"], values: Float64[np.ndarray, " points"]) -> float:
    return float(shares @ ((values[:-1] + values[1:]) / 2))


def _opened(
    ends: Float64[np.ndarray, "2 rows"], point: ControlPoint, machine: Machine
) -> Float64[np.ndarray, " rows"]:
    """How wide each row is open between the jaws (mm); those as narrow as the leaf gap are closed."""
    left, right = np.clip(ends, *point.jaws_x)
    wide = right - left
    return np.where(wide > machine.mlc.min_gap + 1e-6, wide, 0.0)


def _alike(ends: Float64[np.ndarray, "2 rows"], is_open: Bool[np.ndarray, " rows"]) -> float:
    """Leaf sequence variability: how little neighbouring open leaves differ, over both banks."""
    found = 1.0
    for bank in ends:
        found *= _bank(bank[is_open])
    return found


def _bank(leaves: Sequence[float] | Float64[np.ndarray, " open"]) -> float:
    if len(leaves) < 2 or np.ptp(leaves) == 0:
        return 1.0
    furthest = float(np.ptp(leaves))
    return float(np.mean((furthest - np.abs(np.diff(leaves))) / furthest))
