"""Bixel weights from linear programs that mimic a predicted dose, as a comparator.

Babier et al., "OpenKBP-Opt: an international and reproducible evaluation of 76 knowledge-based planning
pipelines", Phys. Med. Biol. 67, 185012 (2022): planning objectives of a plan are compared with those of the
predicted dose, not voxels with voxels. Only what exceeds the prediction costs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import numpy as np
from jaxtyping import Float, Integer
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from .linear_matrix import Split
from .linear_objectives import Asked, Doses, Kind, objectives_of
from .linear_rows import Columns, Rows

MOST_POINTS, MOST_BIXELS = 4000, 3000
# No point gets more than the paper's 82 Gy where 70 Gy are prescribed.
_HIGHEST = 82.0 / 70.0
# Being better than predicted earns so little that it hardly ever pays for being worse elsewhere. Published
# code has 1e-5, of which a point's share is less than HiGHS tells from nothing.
_REWARD = 1e-3
# An objective that is predicted to be less than this (Gy) is no measure to divide by: it is kept instead.
_NOTHING = 1e-5
# Tolerances are absolute. With its own, and with costs of 1, HiGHS does not trust what its inner points end
# with, and begins anew with the simplex, which takes many times as long.
_COST, _TOLERANCE = 0.1, 1e-6
_INFEASIBLE, _OUT_OF_TIME = 2, 1


class Gap(StrEnum):
    """How objectives are compared with the predicted ones, by the paper's names of its four models."""

    MEAN_ABSOLUTE = "MeanAbs"
    MEAN_RELATIVE = "MeanRel"
    MAX_ABSOLUTE = "MaxAbs"
    MAX_RELATIVE = "MaxRel"

    @property
    def relative(self) -> bool:
        """Whether differences are shares of what is predicted."""
        return self in {Gap.MEAN_RELATIVE, Gap.MAX_RELATIVE}

    @property
    def of_the_worst(self) -> bool:
        """Whether the worst objective counts alone, instead of the sum of all."""
        return self in {Gap.MAX_ABSOLUTE, Gap.MAX_RELATIVE}


@dataclass(frozen=True, eq=False)
class Mimicked:
    """What a linear model ended with.

    Parameters
    ----------
    weights
        Of the bixels, shape ``(m,)``, none negative.
    dose
        At the points (Gy), shape ``(n,)``.
    asked
        The objectives.
    predicted, achieved
        Their values (Gy) for the predicted dose and for that of the weights.
    """

    weights: Float[np.ndarray, " m"]
    dose: Float[np.ndarray, " n"]
    asked: tuple[Asked, ...]
    predicted: Float[np.ndarray, " k"]
    achieved: Float[np.ndarray, " k"]


def mimic_linearly(
    matrix: csr_array,
    regions: Mapping[str, Integer[Tensor, " _"]],
    reference: Doses,
    prescriptions: Mapping[str, float],
    gap: Gap = Gap.MEAN_ABSOLUTE,
    rough: Split | None = None,
    seconds: float = 300.0,
) -> Mimicked:
    """Bixel weights whose planning objectives come nearest to those of a predicted dose.

    The four models of the paper, with HiGHS. Its limit on the fluence's sum of positive gradients is left
    out: it is a number in units of its own bixels.

    Parameters
    ----------
    matrix
        Dose (Gy) of each bixel, shape ``(n, m)``; :func:`planning.optimise.linear_matrix.sparse`
        makes one of an influence.
    regions
        For each target, organ or ring, its points.
    reference
        Predicted dose (Gy) at the points, shape ``(n,)``, of as many fractions as the matrix.
    prescriptions
        Dose (Gy) of each target.
    gap
        Which model.
    rough
        What the search takes for the matrix, from :func:`planning.optimise.linear_matrix.split`: the time
        goes with entries. The result is of the matrix itself.
    seconds
        How long to search at most.

    Raises
    ------
    ValueError
        If sizes do not fit, the problem is larger than 4000 points or 3000 bixels, a target has no point, no
        weights can do what is predicted to be nearly zero, or the search does not end in time.
    """
    _expect_problem(matrix, regions, reference, prescriptions)
    if rough is not None and rough.near.shape != matrix.shape:
        raise ValueError("expected a rough matrix of the same points and bixels, got another; split it anew")
    asked = objectives_of(regions, reference, prescriptions)
    values = [one.value(reference[regions[one.structure].numpy()]) for one in asked]
    n, m = matrix.shape
    columns = Columns()
    weights = columns.add(m)
    dose = columns.add(n, upper=_HIGHEST * max(prescriptions.values()))
    rows = Rows()
    reached = _reached(asked, regions, dose, columns, rows)
    _compare(np.array(values), reached, gap, columns, rows)
    best = _solved(columns, rows, _giving(rough or matrix, weights, dose, columns), seconds)[weights]
    given = np.asarray(matrix @ best)
    achieved = [one.value(given[regions[one.structure].numpy()]) for one in asked]
    return Mimicked(best, given, asked, np.array(values), np.array(achieved))


def gap_of(result: Mimicked, gap: Gap) -> float:
    """How far objectives are from the predicted ones (Gy, or a share), as a model counts it.

    Of the mean models the mean of what exceeds, of the others the greatest difference, negative if all are
    better than predicted; objectives that are predicted to be nothing are left out of the relative ones.
    """
    counted = result.predicted > _NOTHING if gap.relative else np.ones(len(result.predicted), dtype=bool)
    off = (result.achieved - result.predicted)[counted]
    if gap.relative:
        off = off / result.predicted[counted]
    return float(off.max() if gap.of_the_worst else np.maximum(off, 0).mean())


def _giving(
    given: csr_array | Split,
    weights: Integer[np.ndarray, " m"],
    dose: Integer[np.ndarray, " n"],
    columns: Columns,
) -> csr_array:
    """What is 0 where doses are those of weights; variables of lumped bixels are added for it."""
    near = (given.near if isinstance(given, Split) else given).tocoo()
    n = len(dose)
    parts = [(near.data, near.coords[0], weights[near.coords[1]]), (-np.ones(n), np.arange(n), dose)]
    if isinstance(given, Split):
        far, (_, g) = given.far.tocoo(), given.far.shape
        sums = columns.add(g)
        parts.append((far.data, far.coords[0], sums[far.coords[1]]))
        parts += [(np.ones(len(weights)), n + given.groups, weights), (-np.ones(g), n + np.arange(g), sums)]
        n += g
    values, rows, places = (np.concatenate(part) for part in zip(*parts, strict=True))
    return coo_array((values, (rows, places)), shape=(n, columns.n)).tocsr()


def _solved(columns: Columns, rows: Rows, same: csr_array, seconds: float) -> Doses:
    """The variables with the least cost."""
    cost, bounds = columns.finished()
    upper, limits = rows.finished(columns.n)
    # SciPy takes sparse tables, of which its types do not tell.
    found = linprog(
        _COST * cost,
        A_ub=cast("Any", upper),
        b_ub=limits,
        A_eq=cast("Any", same),
        b_eq=np.zeros(same.shape[0]),
        bounds=[(low, high) for low, high in bounds.tolist()],
        method="highs-ipm",
        options={
            "time_limit": seconds,
            "primal_feasibility_tolerance": _TOLERANCE,
            "dual_feasibility_tolerance": _TOLERANCE,
            "ipm_optimality_tolerance": _TOLERANCE,
        },
    )
    if found.x is None or found.status != 0:
        raise ValueError(_why_not(found.status, seconds))
    return np.asarray(np.maximum(found.x, 0.0))


def _reached(
    asked: Sequence[Asked],
    regions: Mapping[str, Integer[Tensor, " _"]],
    dose: Integer[np.ndarray, " n"],
    columns: Columns,
    rows: Rows,
) -> Integer[np.ndarray, " objectives"]:
    """A variable for each objective, that is no less than what the dose makes of it."""
    reached = columns.add(len(asked))
    for one, variable in zip(asked, reached.tolist(), strict=True):
        own = dose[regions[one.structure].numpy()]
        if one.kind is Kind.MAXIMUM:
            rows.add([(own, 1.0), (np.full(len(own), variable), -1.0)], np.zeros(len(own)))
            continue
        if one.kind is not Kind.MEAN:
            sign = -1.0 if one.kind is Kind.LACK else 1.0
            parts = columns.add(len(own))
            rows.add([(own, sign), (parts, -1.0)], np.full(len(own), sign * one.level))
            own = parts
        rows.add_sum(own, 1.0 / len(own), variable)
    return reached


def _compare(
    predicted: Doses,
    reached: Integer[np.ndarray, " objectives"],
    gap: Gap,
    columns: Columns,
    rows: Rows,
) -> None:
    """What the differences of objectives from the predicted ones cost."""
    kept = predicted <= _NOTHING if gap.relative else np.zeros(len(predicted), dtype=bool)
    columns.limit(reached[kept], predicted[kept])
    variables, values = reached[~kept], predicted[~kept]
    # Each row is divided by its measure, the prediction or 1 Gy, so that differences enter alike.
    measure = values if gap.relative else np.ones(len(values))
    if gap.of_the_worst:
        worst = columns.add(1, lower=-np.inf, cost=1.0)
        rows.add([(variables, 1.0 / measure), (np.repeat(worst, len(values)), -1.0)], values / measure)
        return
    # With lack and gain of each, cost = gain - reward * lack, and lack = gain - (reached - predicted).
    gain = columns.add(len(values), cost=1.0 - _REWARD)
    rows.add([(variables, 1.0 / measure), (gain, -1.0)], values / measure)
    columns.charge(variables, _REWARD / measure)


def _expect_problem(
    matrix: csr_array,
    regions: Mapping[str, Integer[Tensor, " _"]],
    reference: Doses,
    prescriptions: Mapping[str, float],
) -> None:
    n, m = matrix.shape
    if n > MOST_POINTS or m > MOST_BIXELS:
        raise ValueError(
            f"expected at most {MOST_POINTS} points and {MOST_BIXELS} bixels in a linear model, got {n} and "
            f"{m}; draw fewer points or take wider bixels"
        )
    if len(reference) != n or not np.isfinite(reference).all() or (n and reference.min() < 0):
        raise ValueError(
            f"expected a predicted dose of 0 Gy or more at each of {n} points, got {len(reference)} values "
            "or others; sample the prediction at the matrix's points"
        )
    if not np.isfinite(matrix.data).all():
        raise ValueError("expected finite doses of the bixels; check the density and the machine")
    missing = [name for name in prescriptions if len(regions.get(name, ())) == 0]
    if missing or not prescriptions or min(prescriptions.values()) <= 0:
        raise ValueError(
            "expected targets with points and a dose above 0 Gy to mimic, got "
            f"{', '.join(missing) or 'none'} without; sample the targets"
        )
    if any(len(own) and not 0 <= int(own.min()) <= int(own.max()) < n for own in regions.values()):
        raise ValueError(f"expected regions of points 0 to {n - 1}, got others; take those of the matrix")


def _why_not(status: int, seconds: float) -> str:
    if status == _OUT_OF_TIME:
        return f"expected a linear model that ends in {seconds:g} s, got none; draw fewer points"
    if status == _INFEASIBLE:
        return (
            "expected bixels that can keep what is predicted to be nearly zero, got none that do; "
            "compare absolute differences"
        )
    return "expected a linear model with an end, got one without; check the doses of the bixels"
