import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from planning.beams import Beam
from planning.dose.bixels import Bixels
from planning.machine import Mlc, load_machine
from planning.optimise.sequence import Segment, beam_on_time, decompose, quantise, sequence, to_beam

maps = arrays(
    np.int64,
    st.tuples(st.integers(1, 6), st.integers(1, 9)),
    elements=st.integers(0, 9),
)


def total(openings, shape):
    columns = np.arange(shape[1])
    out = np.zeros(shape, dtype=np.int64)
    for o in openings:
        out += o.weight * ((columns >= o.left[:, None]) & (columns < o.right[:, None]))
    return out


@settings(max_examples=150, deadline=None)
@given(maps)
def test_openings_add_up_to_the_map(levels):
    assert (total(decompose(levels), levels.shape) == levels).all()


@settings(max_examples=150, deadline=None)
@given(maps)
def test_beam_on_time_is_the_least_possible(levels):
    # The greatest row sum of upward steps bounds every unconstrained decomposition from below.
    upward = np.maximum(np.diff(np.pad(levels, ((0, 0), (1, 1))), axis=1), 0).sum(axis=1).max()
    openings = decompose(levels)
    assert sum(o.weight for o in openings) == upward == beam_on_time(levels)
    assert all(o.weight > 0 and (o.right >= o.left).all() for o in openings)


def test_a_flat_field_is_one_opening():
    (opening,) = decompose(np.full((4, 6), 7))
    assert opening.weight == 7
    assert (opening.right - opening.left == 6).all()


def test_a_map_of_zero_needs_no_opening():
    assert decompose(np.zeros((3, 3), dtype=np.int64)) == []


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


def test_fewer_openings_than_a_sweep_of_the_leaves():
    rng = np.random.default_rng(1)
    fields = [rng.integers(0, 11, (15, 15)) for _ in range(5)]
    ours, theirs = [len(decompose(f)) for f in fields], [sweep(f) for f in fields]
    assert all(our < 0.5 * their for our, their in zip(ours, theirs, strict=True))


def test_rounding_errs_by_half_a_level_at_most():
    fluence = np.random.default_rng(0).random(64) * 3
    levels, step = quantise(fluence, 10)
    assert levels.max() == 10
    assert np.abs(levels * step - fluence).max() <= step / 2 + 1e-12


def mlc(**changes):
    fields = {
        "boundaries": np.arange(-20.0, 21.0, 5.0),
        "transmission": 0.01,
        "min_gap": 1.0,
        "max_position": 60.0,
        "interdigitation": True,
    }
    return Mlc(**(fields | changes))


X = np.arange(-12.5, 13.0, 5.0)
Y = np.arange(-7.5, 8.0, 5.0)


LATTICE = Bixels(np.array([(x, y) for y in Y for x in X]))


def test_segments_deliver_the_quantised_fluence():
    fluence = np.random.default_rng(2).random((4, 6))
    levels, step = quantise(fluence, 12)
    delivered = np.zeros((8, 6))
    for s in sequence(fluence.ravel(), LATTICE, mlc(), 12):
        delivered += s.weight * ((s.leaves[0][:, None] < X) & (s.leaves[1][:, None] > X))
    assert np.allclose(delivered[2:6], levels * step)
    assert (delivered[:2] == 0).all()
    assert (delivered[6:] == 0).all()


def test_small_openings_are_left_out():
    fluence = np.zeros((4, 6))
    fluence[:, :3] = 1.0
    fluence[0, 5] = 0.5
    assert min(_area(s) for s in sequence(fluence.ravel(), LATTICE, mlc(), 8)) == 25
    assert all(_area(s) >= 50 for s in sequence(fluence.ravel(), LATTICE, mlc(), 8, min_area=50.0))


def test_a_target_of_small_openings_only_keeps_them():
    fluence = np.zeros((4, 6))
    fluence[1, 2:4] = 1.0
    assert [_area(s) for s in sequence(fluence.ravel(), LATTICE, mlc(), 8, min_area=500.0)] == [50.0]


def _area(segment):
    return float((segment.leaves[1] - segment.leaves[0]).sum()) * 5


def test_bixels_outside_the_target_stay_closed():
    ragged = Bixels(LATTICE.positions[np.abs(LATTICE.positions).sum(axis=1) < 16])
    opened = sequence(np.ones(len(ragged.positions)), ragged, mlc())
    assert sum(_area(s) for s in opened) == 25.0 * len(ragged.positions)


def test_impossible_leaves_are_refused():
    weights = np.ones(24)
    with pytest.raises(ValueError, match="may pass the opposite"):
        sequence(weights, LATTICE, mlc(interdigitation=False))
    with pytest.raises(ValueError, match="leaf gap"):
        sequence(weights, LATTICE, mlc(min_gap=6.0))
    with pytest.raises(ValueError, match="of the axis"):
        sequence(weights, LATTICE, mlc(max_position=10.0))
    with pytest.raises(ValueError, match="behind a leaf pair"):
        sequence(weights, Bixels(LATTICE.positions + np.array([0.0, 30.0])), mlc())


def test_a_beam_delivers_its_segments_step_and_shoot():
    machine = load_machine("generic-6mv")
    fluence = np.random.default_rng(3).random((4, 6))
    segments = sequence(fluence.ravel(), LATTICE, machine.mlc)
    beam = to_beam(Beam(40.0, 0.0, 0.0, np.zeros(3), "1"), segments, machine)
    points = beam.control_points
    assert beam.gantry == 40.0
    assert beam.mu == pytest.approx(sum(s.weight for s in segments) / machine.fluence_per_mu)
    assert points[0].meterset == 0
    assert points[-1].meterset == 1
    assert len(points) == 2 * len(segments)
    for i, segment in enumerate(segments):
        first, last = points[2 * i], points[2 * i + 1]
        assert (first.leaves == last.leaves).all()
        share = (last.meterset - first.meterset) * beam.mu * machine.fluence_per_mu
        assert share == pytest.approx(segment.weight)
        if i:
            assert first.meterset == points[2 * i - 1].meterset


def test_closed_pairs_wait_under_the_jaw_with_the_smallest_gap():
    machine = load_machine("generic-6mv")
    leaves = np.zeros((2, 80))
    leaves[:, 40] = -10.0, 20.0
    leaves[:, 41] = 5.0, 15.0
    beam = to_beam(Beam(0.0, 0.0, 0.0, np.zeros(3)), [Segment(leaves, 1.0)], machine)
    point = beam.control_points[0]
    assert point.jaws_x == (-10.0, 20.0)
    assert point.jaws_y == (0.0, 10.0)
    closed = np.delete(np.arange(80), [40, 41])
    assert (point.leaves[1, closed] < point.jaws_x[0]).all()
    assert np.allclose(point.leaves[1, closed] - point.leaves[0, closed], machine.mlc.min_gap)
    assert np.abs(point.leaves).max() <= machine.mlc.max_position


def test_a_beam_without_an_opening_is_refused():
    machine = load_machine("generic-6mv")
    beam = Beam(0.0, 0.0, 0.0, np.zeros(3))
    for segments in ([], [Segment(np.zeros((2, 80)), 1.0)]):
        with pytest.raises(ValueError, match="open somewhere"):
            to_beam(beam, segments, machine)
