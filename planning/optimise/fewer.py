"""Fewer segments than fluence asks for exactly: which go, what is left refitted, and what is lost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64
from scipy.optimize import nnls

from planning.dose.bixels import Bixels
from planning.machine import Mlc
from planning.rows import left_open, rows_of

from .engel import engel
from .openings import Decompose
from .segments import Field
from .sequence import Segment, sequence

# Levels that fluence is rounded to, each in turn: few levels need few segments.
_LEVELS = (3, 4, 6, 8, 12, 16, 24)


@dataclass(frozen=True)
class Bound:
    """How far a sequence may be reduced, and what it may not hold.

    Parameters
    ----------
    max_loss
        The greatest difference from the wished fluence, as in :class:`Reduced`.
    n_segments
        Segments of all beams at most, whatever is lost by it; None for as many as it takes.
    min_area
        No segment is smaller (mm² at the isocentre), except in a beam all of whose openings are.
    min_weight
        No segment weighs less (pencil-beam weight in one fraction): fewest monitor units times
        ``fluence_per_mu``.
    """

    max_loss: float = 0.0
    n_segments: int | None = None
    min_area: float = 0.0
    min_weight: float = 0.0


@dataclass(frozen=True, eq=False)
class Reduced:
    """Segments of all beams, and what they do not deliver.

    Parameters
    ----------
    fields
        The segments of each beam, best weights given.
    loss
        Root mean square of the difference between delivered and wished fluence over all bixels of all
        beams, as a share of the root mean square of the wished one.
    """

    fields: tuple[Field, ...]
    loss: float

    @property
    def n_segments(self) -> int:
        """Segments of all beams."""
        return sum(len(field.segments) for field in self.fields)


def fewest(
    weights: Sequence[Float64[np.ndarray, " _"]],
    bixels: Sequence[Bixels],
    mlc: Mlc,
    bound: Bound,
    *,
    decompose: Decompose = engel,
    n_levels: Sequence[int] = _LEVELS,
) -> Reduced:
    """The fewest segments of all beams together whose loss stays within a bound, by backward elimination.

    Fluence is rounded to a few levels and cut exactly; then segments go one by one, each time the one whose
    absence costs least once the others of its beam are refitted to the wished fluence (not the rounded
    one) by non-negative least squares (Lawson, Hanson, Solving Least Squares Problems, 1974). The best of
    several numbers of levels is taken. Each beam with fluence keeps a segment.

    Parameters
    ----------
    weights
        Pencil-beam weight of each bixel of each beam in one fraction.
    bixels
        The bixels of each beam.
    mlc
        The leaves.
    bound
        Where to stop. If no number of levels stays within its loss, the least loss is returned.
    decompose
        Cuts the levels.
    n_levels
        Numbers of levels to try.

    Raises
    ------
    ValueError
        If fewer segments than beams with fluence are asked for, or for what
        :func:`planning.optimise.sequence.sequence` refuses.
    """
    n_lit = sum(bool(own.max(initial=0.0) > 0) for own in weights)
    if bound.n_segments is not None and bound.n_segments < n_lit:
        raise ValueError(
            f"expected at least one segment for each of {n_lit} beams with fluence, got {bound.n_segments}"
        )
    found = []
    for n in n_levels:
        cut = tuple(
            Field(place, tuple(sequence(own, place, mlc, n, bound.min_area, decompose)))
            for own, place in zip(weights, bixels, strict=True)
        )
        found.append(reduced(cut, weights, mlc, bound))
    within = [one for one in found if one.loss <= bound.max_loss]
    if within:
        return min(within, key=lambda one: (one.n_segments, one.loss))
    return min(found, key=lambda one: one.loss)


def reduced(
    fields: Sequence[Field], weights: Sequence[Float64[np.ndarray, " _"]], mlc: Mlc, bound: Bound
) -> Reduced:
    """Those of given segments that a bound asks for, with their best weights.

    Parameters
    ----------
    fields
        Segments of each beam.
    weights
        What they shall deliver: the wished weight of each bixel of each beam in one fraction.
    mlc
        The leaves.
    bound
        Where to stop.
    """
    beams = [
        _Beam.of(field, wished, mlc, bound.min_weight) for field, wished in zip(fields, weights, strict=True)
    ]
    total = sum(float(wished @ wished) for wished in weights)
    missed = sum(beam.missed for beam in beams)
    while True:
        n, dearer = min(enumerate(beam.cost for beam in beams), key=lambda one: one[1], default=(0, np.inf))
        over = bound.n_segments is not None and sum(len(beam.kept) for beam in beams) > bound.n_segments
        allowed = max(bound.max_loss**2 * total, missed)
        if not np.isfinite(dearer) or (not over and missed + dearer > allowed):
            break
        beams[n] = beams[n].without_least()
        missed = sum(beam.missed for beam in beams)
    made = tuple(replace(f, segments=b.segments(f.segments)) for f, b in zip(fields, beams, strict=True))
    return Reduced(made, float(np.sqrt(missed / total)) if total > 0 else 0.0)


@dataclass(frozen=True, eq=False)
class _Beam:
    """The segments of a beam that are kept, and what they miss.

    Parameters
    ----------
    shapes, wished
        Which bixels each segment opens, and the wished fluence, both turned into the span of the shapes;
        what lies outside it no weights reach.
    kept, weights
        The segments that are kept, and their best weights.
    missed
        Sum of squares of what they do not deliver.
    least
        No segment weighs less.
    cost, cheapest
        By how much ``missed`` grows without the segment that counts least, and which of the kept that is;
        infinite for the last one.
    """

    shapes: Float64[np.ndarray, "span segments"]
    wished: Float64[np.ndarray, " span"]
    kept: tuple[int, ...]
    weights: Float64[np.ndarray, " kept"]
    missed: float
    least: float
    cost: float
    cheapest: int

    @classmethod
    def of(cls, field: Field, wished: Float64[np.ndarray, " n"], mlc: Mlc, least: float) -> "_Beam":
        turn, shapes = np.linalg.qr(_opens(field, mlc))
        seen = turn.T @ wished
        outside = float(wished @ wished - seen @ seen)
        every = tuple(range(len(field.segments)))
        # What no weights reach stands as one more component, so that it is counted with the rest.
        return cls._with(
            np.vstack([shapes, np.zeros((1, shapes.shape[1]))]),
            np.append(seen, np.sqrt(max(outside, 0.0))),
            every,
            least,
        )

    @classmethod
    def _with(
        cls,
        shapes: Float64[np.ndarray, "span segments"],
        wished: Float64[np.ndarray, " span"],
        kept: tuple[int, ...],
        least: float,
    ) -> "_Beam":
        weights, missed = _fit(shapes[:, kept], wished, least)
        fewer = [_fit(shapes[:, kept[:k] + kept[k + 1 :]], wished, least)[1] for k in range(len(kept))]
        cheapest = int(np.argmin(fewer)) if len(kept) > 1 else 0
        cost = fewer[cheapest] - missed if len(kept) > 1 else np.inf
        return cls(shapes, wished, kept, weights, missed, least, cost, cheapest)

    def without_least(self) -> "_Beam":
        kept = self.kept[: self.cheapest] + self.kept[self.cheapest + 1 :]
        return _Beam._with(self.shapes, self.wished, kept, self.least)

    def segments(self, given: Sequence[Segment]) -> tuple[Segment, ...]:
        return tuple(replace(given[k], weight=float(w)) for k, w in zip(self.kept, self.weights, strict=True))


def _opens(field: Field, mlc: Mlc) -> Float64[np.ndarray, "bixels segments"]:
    """1 where a segment opens a bixel."""
    x, y = field.bixels.positions.T
    rows = rows_of(mlc)
    row = np.searchsorted(rows.edges, y) - 1
    opens = np.zeros((len(x), len(field.segments)))
    for k, segment in enumerate(field.segments):
        left, right = left_open(segment.leaves, rows)
        opens[:, k] = (left[row] < x) & (x < right[row])
    return opens


def _fit(
    shapes: Float64[np.ndarray, "span kept"], wished: Float64[np.ndarray, " span"], least: float
) -> tuple[Float64[np.ndarray, " kept"], float]:
    """The best weights of at least ``least``, and the sum of squares of what they do not deliver."""
    if shapes.shape[1] == 0:
        return np.zeros(0), float(wished @ wished)
    more, missed = nnls(shapes, wished - least * shapes.sum(axis=1))
    return least + more, float(missed) ** 2
