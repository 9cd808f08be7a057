"""Depth doses of fields between those measured: kernels that fit both must not swing in between."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from planning.machine import Machine

from .points import BUILD_UP, REFERENCE_DEPTH, Field
from .scans import Kind, Opening, Scan
from .tank import in_water

_STEP = 10.0
# What is assumed counts as half of what is measured on the axis.
_WEIGHT = 1.0


def between(scans: Sequence[Scan], guide: Machine) -> list[Field]:
    """Depth doses of square fields of sizes between those measured, at most twice apart.

    How a linac's depth dose differs from another's of its energy changes slowly with the size of the field:
    measured over guide is interpolated, both as logarithms, for equivalent squares at equal distances.

    Parameters
    ----------
    scans
        What is measured.
    guide
        A machine of the same energy.
    """
    found: list[Field] = []
    lines = [scan for scan in scans if scan.kind is Kind.DEPTH]
    for ssd in sorted({scan.ssd for scan in lines}):
        own = sorted((scan for scan in lines if scan.ssd == ssd), key=_side)
        for first, last in pairwise(own):
            found += _between(first, last, guide)
    return found


def numbered(fields: Sequence[Field], first: int) -> list[Field]:
    """Fields that have one unknown scale each, counted from ``first``."""
    return [replace(field, scale=np.full_like(field.scale, first + n)) for n, field in enumerate(fields)]


def _between(first: Scan, last: Scan, guide: Machine) -> Iterator[Field]:
    n_parts = math.ceil(math.log2(_side(last) / _side(first)) - 1e-9)
    depth = np.arange(BUILD_UP, min(first.at[-1], last.at[-1]), _STEP)
    ratios = [
        np.log(_relative(scan.at, scan.dose, depth) / _guided(_side(scan), depth, scan.ssd, guide))
        for scan in (first, last)
    ]
    for n in range(1, n_parts):
        side = _side(first) * (_side(last) / _side(first)) ** (n / n_parts)
        ratio = ratios[0] + n / n_parts * (ratios[1] - ratios[0])
        dose = _guided(side, depth, first.ssd, guide) * np.exp(ratio)
        nought = np.zeros_like(depth)
        scale = np.zeros(len(depth), dtype=np.int64)
        opening = Opening(side, side)
        yield Field(opening, first.ssd, 0.0, depth, nought, nought, dose, _WEIGHT / dose, scale)


def _side(scan: Scan) -> float:
    """Side of the equivalent square: 2ab / (a + b), Sterling, Perry, Katz, Br. J. Radiol. 37, 544 (1964)."""
    return 2 * scan.opening.x * scan.opening.y / (scan.opening.x + scan.opening.y)


def _guided(
    side: float, depth: Float64[np.ndarray, " n"], ssd: float, guide: Machine
) -> Float64[np.ndarray, " n"]:
    at = np.append(depth, REFERENCE_DEPTH)
    axis = np.stack([np.zeros_like(at), at, np.zeros_like(at)], axis=1)
    dose = in_water([axis], Opening(side, side), ssd, guide)
    return dose[:-1] / dose[-1]


def _relative(
    at: Float64[np.ndarray, " m"], dose: Float64[np.ndarray, " m"], depth: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    found = np.interp(depth, at, dose) / np.interp(REFERENCE_DEPTH, at, dose)
    return np.asarray(found, dtype=np.float64)
