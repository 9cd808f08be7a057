from dataclasses import replace

import numpy as np
import pytest

from planning.beams import Beam
from planning.dose.bixels import Bixels
from planning.machine import Mlc, load_machine
from planning.optimise.engel import engel
from planning.optimise.openings import clash
from planning.optimise.sequence import Segment, quantise, sequence, settle, to_beam
from planning.optimise.xia_verhey import xia_verhey


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


BOTH = pytest.mark.parametrize("decompose", [engel, xia_verhey])


@BOTH
@pytest.mark.parametrize("interdigitation", [True, False])
def test_segments_deliver_the_quantised_fluence(decompose, interdigitation):
    fluence = np.random.default_rng(2).random((4, 6))
    levels, step = quantise(fluence, 12)
    delivered = np.zeros((8, 6))
    leaves = mlc(interdigitation=interdigitation)
    for s in sequence(fluence.ravel(), LATTICE, leaves, 12, decompose=decompose):
        delivered += s.weight * ((s.leaves[0][:, None] < X) & (s.leaves[1][:, None] > X))
        assert interdigitation or not clash(*s.leaves)
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


STIFF = replace(
    load_machine("generic-6mv"), mlc=replace(load_machine("generic-6mv").mlc, interdigitation=False)
)


@BOTH
def test_leaves_that_may_not_interdigitate_do_not_in_any_control_point(decompose):
    # Two islands side by side, a closed pair between them.
    fluence = np.zeros((4, 6))
    fluence[:2, :2], fluence[3, 3:] = [[1.0, 0.5], [0.25, 1.0]], [1.0, 0.5, 0.75]
    segments = sequence(fluence.ravel(), LATTICE, STIFF.mlc, 4, decompose=decompose)
    beam = to_beam(Beam(0.0, 0.0, 0.0, np.zeros(3)), segments, STIFF)
    for point in beam.control_points:
        assert not clash(*point.leaves, slack=1e-9)
        inside = slice(38, 42)
        gaps = point.leaves[1] - point.leaves[0]
        assert (np.delete(gaps, inside) >= STIFF.mlc.min_gap - 1e-9).all()
        assert ((gaps[inside] == 0) | (gaps[inside] >= STIFF.mlc.min_gap)).all()


def test_a_segment_that_a_machine_may_not_take_is_refused():
    leaves = np.zeros((2, 80))
    leaves[:, 40], leaves[:, 41] = (-20.0, -10.0), (10.0, 20.0)
    assert len(settle([Segment(leaves, 1.0)], load_machine("generic-6mv"))[0]) == 1
    with pytest.raises(ValueError, match="sequence the fluence for this machine"):
        settle([Segment(leaves, 1.0)], STIFF)


def test_a_beam_without_an_opening_is_refused():
    machine = load_machine("generic-6mv")
    beam = Beam(0.0, 0.0, 0.0, np.zeros(3))
    for segments in ([], [Segment(np.zeros((2, 80)), 1.0)]):
        with pytest.raises(ValueError, match="open somewhere"):
            to_beam(beam, segments, machine)
