"""Rows see one leaf pair of every layer."""

import numpy as np
import pytest

from planning.beams import Beam
from planning.dose.bixels import covering
from planning.machine import Mlc, load_machine
from planning.parking import closed, jaws_around
from planning.rows import left_open, rows_of


def _mlc(upper, lower=()):
    return Mlc(np.array(upper), 0.0, 0.0, 100.0, True, lower=np.array(lower, dtype=np.float64))


def test_rows_of_one_layer_are_its_leaf_pairs():
    mlc = load_machine("millennium-6mv").mlc
    rows = rows_of(mlc)
    np.testing.assert_array_equal(rows.edges, mlc.boundaries)
    np.testing.assert_array_equal(rows.pairs, np.arange(60)[None])


def test_layers_shifted_by_half_a_leaf_give_rows_of_half_a_leaf():
    rows = rows_of(load_machine("stacked-6mv").mlc)
    np.testing.assert_array_equal(rows.edges, np.arange(-140.0, 141.0, 5.0))
    np.testing.assert_array_equal(rows.pairs[:, :4], [[0, 1, 1, 2], [29, 29, 30, 30]])
    assert (rows.pairs[0].max(), rows.pairs[1].max()) == (28, 56)


def test_rows_keep_to_where_both_layers_have_leaves():
    rows = rows_of(_mlc([-10.0, 0.0, 10.0], [-6.0, 1.0, 4.0]))
    np.testing.assert_array_equal(rows.edges, [-6.0, 0.0, 1.0, 4.0])
    np.testing.assert_array_equal(rows.pairs, [[0, 1, 1], [2, 2, 3]])


def test_a_row_is_open_where_both_its_pairs_are():
    rows = rows_of(_mlc([0.0, 10.0], [0.0, 5.0, 10.0]))
    leaves = np.array([[-20.0, -5.0, 12.0], [10.0, 30.0, 40.0]])
    # The second pair of the lower layer is open beyond the end of the upper one: closed together.
    np.testing.assert_array_equal(left_open(leaves, rows), [[-5.0, 12.0], [10.0, 12.0]])


def test_jaws_stand_around_the_field_where_there_are_any():
    spans = ((-30.0, 20.0), (-15.0, 10.0))
    for name, x, y in (
        ("generic-6mv", *spans),
        ("agility-6mv", (-200.0, 200.0), spans[1]),
        ("stacked-6mv", (-140.0, 140.0), (-140.0, 140.0)),
    ):
        assert jaws_around(load_machine(name), *spans) == (x, y)


def test_closed_pairs_wait_under_the_jaw_or_cover_the_ends_of_the_other_layer():
    hidden = load_machine("millennium-6mv")
    leaves = closed(hidden, (-30.0, 20.0), 6.0)
    assert leaves.max() < -30
    np.testing.assert_allclose(leaves[1] - leaves[0], hidden.mlc.min_gap)
    stacked = closed(load_machine("stacked-6mv"), (-30.0, 20.0), 6.0)
    np.testing.assert_array_equal(stacked[0], stacked[1])
    np.testing.assert_array_equal(stacked[0], np.r_[np.full(29, -30.0), np.full(28, 20.0)])


def test_bixels_keep_to_the_window_of_a_collimator_that_its_leaves_outreach():
    machine, beam = load_machine("stacked-6mv"), Beam(0.0, 0.0, 0.0, np.zeros(3))
    z = np.arange(0.0, 139.0, 5.0)
    inside = np.stack([0 * z, 0 * z, z], axis=1)
    assert covering(inside, beam, machine).positions[:, 1].max() <= 140.0
    with pytest.raises(ValueError, match="expected a target within 140 mm of the isocentre"):
        covering(inside + np.array([0.0, 0.0, 7.0]), beam, machine)
