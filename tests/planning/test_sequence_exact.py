"""Both sequencers against what is known of every sequence: its sum, and the least time it can take."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog

from planning.optimise.engel import beam_on_time, engel
from planning.optimise.openings import best_side_by_side, clash, opened, together
from planning.optimise.xia_verhey import xia_verhey

MAPS = arrays(
    np.int64,
    st.tuples(st.integers(1, 6), st.integers(1, 9)),
    elements=st.integers(0, 9),
)
BOTH = pytest.mark.parametrize("decompose", [engel, xia_verhey])
LEAVES = pytest.mark.parametrize("interdigitation", [True, False])


@BOTH
@LEAVES
@settings(max_examples=60, deadline=None)
@given(levels=MAPS)
def test_openings_add_up_to_the_map(decompose, interdigitation, levels):
    openings = decompose(levels, interdigitation)
    assert (together(openings, *levels.shape) == levels).all()
    assert all(o.weight > 0 and (o.right >= o.left).all() for o in openings)
    assert all((o.left >= 0).all() and (o.right <= levels.shape[1]).all() for o in openings)
    assert interdigitation or not any(clash(o.left, o.right) for o in openings)


@settings(max_examples=100, deadline=None)
@given(levels=MAPS)
def test_beam_on_time_is_the_greatest_sum_of_rises_of_a_row(levels):
    rises = np.maximum(np.diff(levels, axis=1, prepend=0), 0).sum(axis=1).max()
    assert sum(o.weight for o in engel(levels)) == rises == beam_on_time(levels)


@settings(max_examples=60, deadline=None)
@given(levels=MAPS)
def test_beam_on_time_without_interdigitation_is_the_least_there_is(levels):
    least = beam_on_time(levels, interdigitation=False)
    assert sum(o.weight for o in engel(levels, interdigitation=False)) == least
    assert least >= beam_on_time(levels)


def least_by_linear_programming(levels, interdigitation):
    """The least time over all shapes of the leaves, each held as long as one likes."""
    n_rows, n = levels.shape
    intervals = [(left, right) for left in range(n + 1) for right in range(left, n + 1)]
    shapes = set()
    for rows in product(intervals, repeat=n_rows):
        left, right = np.array(rows).T
        if interdigitation or not clash(left, right):
            shapes.add(tuple(((np.arange(n) >= left[:, None]) & (np.arange(n) < right[:, None])).ravel()))
    held = np.array(sorted(shapes), dtype=float).T
    return linprog(np.ones(held.shape[1]), A_eq=held, b_eq=levels.ravel()).fun


@LEAVES
def test_the_least_time_equals_that_of_a_linear_programme_over_all_shapes(interdigitation):
    rng = np.random.default_rng(4)
    maps = [rng.integers(0, 6, (3, 3)) for _ in range(8)]
    maps += [9 * np.array([[1, 0, 0], [0, 0, 1], [1, 0, 0]]), np.array([[3, 0, 1], [0, 0, 4], [2, 1, 0]])]
    for levels in maps:
        bound = beam_on_time(levels, interdigitation)
        assert bound == pytest.approx(least_by_linear_programming(levels, interdigitation), abs=1e-6)


def test_bixels_that_clash_are_delivered_one_after_another():
    levels = np.array([[7, 0, 0], [0, 0, 4]])
    assert beam_on_time(levels) == 7
    assert beam_on_time(levels, interdigitation=False) == 11
    # Side by side the leaves may just meet.
    assert beam_on_time(levels[:, [0, 2]], interdigitation=False) == 7


@BOTH
@LEAVES
def test_a_flat_field_takes_its_time_and_all_bixels_at_once(decompose, interdigitation):
    openings = decompose(np.full((4, 6), 8), interdigitation)
    assert all(opened(o, 6).all() for o in openings)
    assert sum(o.weight for o in openings) == 8


def test_a_flat_field_is_one_opening():
    assert len(engel(np.full((4, 6), 7))) == len(engel(np.full((4, 6), 7), False)) == 1


@BOTH
@LEAVES
def test_a_map_of_zero_needs_no_opening(decompose, interdigitation):
    assert decompose(np.zeros((3, 3), dtype=np.int64), interdigitation) == []


@BOTH
def test_negative_levels_are_refused(decompose):
    with pytest.raises(ValueError, match="without negative levels"):
        decompose(np.array([[1, -1]]), True)


@LEAVES
def test_weights_of_xia_and_verhey_are_powers_of_two_that_halve(interdigitation):
    levels = np.random.default_rng(0).integers(0, 17, (10, 10))
    weights = [o.weight for o in xia_verhey(levels, interdigitation)]
    assert set(weights) == {1, 2, 4, 8}
    assert weights == sorted(weights, reverse=True)


def test_a_row_opens_on_the_run_with_its_greatest_level():
    # Greatest 6: weight 4, and of the runs of at least 4 the one with the 6.
    first = xia_verhey(np.array([[4, 5, 0, 6, 4, 1, 0]]))[0]
    assert (first.weight, first.left[0], first.right[0]) == (4, 3, 5)


def sweep(levels):
    """Number of shapes of the unidirectional sweep (Bortfeld et al. 1994): one for every unit of time."""
    jumps = np.diff(np.pad(levels, ((0, 0), (1, 1))), axis=1)
    rows = [
        (np.repeat(np.arange(len(j)), np.maximum(j, 0)), np.repeat(np.arange(len(j)), np.maximum(-j, 0)))
        for j in jumps
    ]
    time = max(len(start) for start, _ in rows)
    shapes = [tuple((int(a[t]), int(b[t])) if t < len(a) else (0, 0) for a, b in rows) for t in range(time)]
    return len(set(shapes))


def test_engel_needs_fewest_openings_and_a_sweep_most():
    rng = np.random.default_rng(1)
    maps = [rng.integers(0, 11, (15, 15)) for _ in range(5)]
    ours, powers, swept = (np.array([f(m) for m in maps]) for f in (_count(engel), _count(xia_verhey), sweep))
    assert (ours < powers).all()
    assert (ours < 0.5 * swept).all()
    assert (powers < 0.7 * swept).all()


def _count(decompose):
    return lambda levels: len(decompose(levels, True))


def test_rows_side_by_side_are_the_best_of_all_that_do_not_clash():
    rng = np.random.default_rng(3)
    intervals = [(left, right) for left in range(4) for right in range(left, 4)]
    for _ in range(5):
        scores = np.where(np.triu(np.ones((4, 4))) > 0, rng.normal(size=(3, 4, 4)), -np.inf)
        best = max(
            sum(scores[i][row] for i, row in enumerate(rows))
            for rows in product(intervals, repeat=3)
            if not clash(*np.array(rows).T)
        )
        left, right = best_side_by_side(scores)
        assert not clash(left, right)
        assert scores[np.arange(3), left, right].sum() == pytest.approx(best)


def test_rows_that_cannot_stand_side_by_side_are_told():
    scores = np.full((2, 4, 4), -np.inf)
    scores[0, 0, 1] = scores[1, 2, 3] = 1.0
    assert best_side_by_side(scores) is None
