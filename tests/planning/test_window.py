"""What optimised leaves let through is what the delivered control points do, on every kind of collimator."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from planning.beams import Beam
from planning.dose.aperture import transmitted
from planning.machine import load_machine
from planning.optimise.apertures import Apertures, fluence_of, of_pairs, room_beside, window_over
from planning.optimise.placing import all_pairs, as_segment, aside, open_area
from planning.parking import jaws_around
from planning.rows import left_open, rows_of

NAMES = ("generic-6mv", "millennium-6mv", "agility-6mv", "stacked-6mv")
BEAM = Beam(0.0, 0.0, 0.0, np.zeros(3))


def _box(x, z):
    """Corners of a flat box around the isocentre, seen from gantry 0 as it is."""
    return np.array([[a, 0.0, b] for a in (-x, x) for b in (-z, z)])


def _window(machine, x=20.0, z=12.0):
    return window_over(_box(x, z), [BEAM], machine)


def _leaves(window, machine, n=3, seed=0):
    low, high = room_beside(window, machine)
    ends = np.random.default_rng(seed).uniform(low, high, (n, 2, len(window.pairs)))
    ends.sort(axis=1)
    # All that is open is open by the gap at least, and within reach.
    ends[:, 0] = np.minimum(ends[:, 0], high - machine.mlc.min_gap)
    ends[:, 1] = np.maximum(ends[:, 1], ends[:, 0] + machine.mlc.min_gap)
    return ends


@pytest.mark.parametrize("name", NAMES)
def test_bixels_get_what_the_whole_machine_lets_through_to_them(name):
    machine = load_machine(name)
    window = _window(machine)
    leaves = _leaves(window, machine)
    still = np.arange(3)
    like = Apertures(leaves, np.ones(3), still, still, still)
    found = fluence_of(torch.from_numpy(leaves), torch.ones(3, dtype=torch.float64), like, window, machine, 3)
    jaws = jaws_around(machine, window.jaws_x, window.jaws_y)
    for own, every in zip(found.view(3, -1), all_pairs(leaves, window, machine), strict=True):
        np.testing.assert_allclose(
            own.numpy(), transmitted(every, *jaws, window.bixels, machine), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("name", ["agility-6mv", "stacked-6mv"])
def test_without_jaws_along_x_nothing_but_leakage_passes_beside_the_window(name):
    machine = load_machine(name)
    window = _window(machine)
    (every,) = all_pairs(_leaves(window, machine, 1), window, machine)
    outside = replace(window.bixels, positions=window.bixels.positions + np.array([50.0, 0.0]))
    passing = transmitted(every, *jaws_around(machine, window.jaws_x, window.jaws_y), outside, machine)
    np.testing.assert_allclose(passing, machine.mlc.transmission ** len(machine.mlc.layers), rtol=1e-9)
    assert np.abs(every).max() <= machine.mlc.max_position


def test_rows_of_a_stacked_collimator_are_half_as_high_as_its_leaves():
    machine = load_machine("stacked-6mv")
    window = _window(machine)
    assert window.size == (2.5, 5.0)
    # 12 mm and a margin of 5 mm either way: rows to 20 mm, behind pairs to 25 mm above and 20 mm below.
    np.testing.assert_array_equal(window.rows, np.arange(-17.5, 20.0, 5.0))
    assert len(window.pairs) == 5 + 4
    upper, lower = window.pairs[window.over]
    np.testing.assert_array_equal(upper, [12, 13, 13, 14, 14, 15, 15, 16])
    np.testing.assert_array_equal(lower - 29, [12, 12, 13, 13, 14, 14, 15, 15])


def test_wide_leaves_have_two_rows_where_narrow_ones_are_near():
    window = _window(load_machine("millennium-6mv"), z=101.0)
    assert window.size[1] == 5.0
    assert (len(window.pairs), len(window.rows)) == (42, 44)
    np.testing.assert_array_equal(window.over[0, :3], [0, 0, 1])


def test_leaves_of_one_bank_stand_no_further_apart_than_they_may():
    machine = load_machine("millennium-6mv")
    window = _window(machine, x=64.0)
    low, high = room_beside(window, machine)
    assert high - low <= machine.mlc.max_span
    assert low < window.jaws_x[0]
    every = all_pairs(np.array([[[low] * len(window.pairs), [high] * len(window.pairs)]]), window, machine)
    assert np.ptp(every, axis=2).max() <= machine.mlc.max_span + 1e-9
    with pytest.raises(ValueError, match=r"expected a target that is seen no wider than 135 mm.*got 140 mm"):
        _window(machine, x=70.0)


def test_leaf_widths_that_fit_no_lattice_are_refused():
    machine = load_machine("generic-6mv")
    odd = replace(machine, mlc=replace(machine.mlc, boundaries=np.array([-20.0, -3.0, 0.0, 5.0, 20.0])))
    with pytest.raises(ValueError, match="expected leaves over the target whose widths are multiples"):
        _window(odd)


def test_pairs_open_what_rows_ask_for_and_at_most_what_neighbours_do():
    machine = load_machine("stacked-6mv")
    window = _window(machine)
    wanted = np.sort(np.random.default_rng(5).uniform(-20, 20, (4, 2, len(window.rows))), axis=1)
    found = of_pairs(wanted, window)
    left, right = left_open(all_pairs(found, window, machine), rows_of(machine.mlc)).swapaxes(0, 1)
    inside = np.isin((rows_of(machine.mlc).edges[1:] + rows_of(machine.mlc).edges[:-1]) / 2, window.rows)
    left, right = left[:, inside], right[:, inside]
    assert (left <= wanted[:, 0] + 1e-9).all()
    assert (right >= wanted[:, 1] - 1e-9).all()
    # A row is opened further only by a neighbour on either side.
    padded = np.pad(wanted, ((0, 0), (0, 0), (1, 1)), mode="edge")
    either = np.maximum(
        np.minimum(wanted[:, 0], padded[:, 0, :-2]), np.minimum(wanted[:, 0], padded[:, 0, 2:])
    )
    assert (left >= either - 1e-9).all()


def test_closed_rows_do_not_open_the_pairs_of_their_neighbours():
    machine = load_machine("stacked-6mv")
    window = _window(machine)
    rows = np.full((1, 2, len(window.rows)), -25.0)
    rows[0, :, 3:5] = [[-10.0], [10.0]]
    found = of_pairs(rows, window)
    # Rows -5 to 0 and 0 to 5 mm: one pair above, and two below that it closes outside.
    assert open_area(found, window)[0] == pytest.approx(20 * 10)
    assert {tuple(pair) for pair in found[0].T} == {(-25.0, -25.0), (-10.0, 10.0)}


def test_one_layer_takes_rows_as_they_are():
    machine = load_machine("generic-6mv")
    window = _window(machine)
    rows = np.sort(np.random.default_rng(6).uniform(-20, 20, (2, 2, len(window.rows))), axis=1)
    np.testing.assert_array_equal(of_pairs(rows, window), rows)
    assert open_area(rows, window) == pytest.approx((rows[:, 1] - rows[:, 0]).sum(axis=1) * 5.0)


def test_fluence_behind_two_layers_changes_with_every_leaf_as_its_gradient_says():
    machine = load_machine("stacked-6mv")
    window = _window(machine)
    leaves = torch.from_numpy(_leaves(window, machine, 4, 7)).requires_grad_()
    weights = torch.rand(3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    span = np.arange(3)
    like = Apertures(leaves.detach().numpy(), np.ones(3), span, span + 1, span)

    def whole(leaves, weights):
        return fluence_of(leaves, weights, like, window, machine, 3).square().sum()

    assert torch.autograd.gradcheck(whole, (leaves, weights), eps=1e-5, atol=1e-4)


def test_pairs_as_narrow_as_the_gap_are_closed_only_where_a_jaw_can_hide_them():
    for name, kept in (("millennium-6mv", 0.0), ("agility-6mv", 3.5)):
        machine = load_machine(name)
        window = _window(machine)
        leaves = np.stack([np.zeros(len(window.pairs)), np.full(len(window.pairs), machine.mlc.min_gap)])
        leaves[1, 2] = 15.0
        opened = np.diff(as_segment(leaves, window, machine), axis=0)[0, window.pairs]
        np.testing.assert_allclose(opened, np.where(np.arange(len(opened)) == 2, 15.0, kept))


@pytest.mark.parametrize("name", ["generic-6mv", "stacked-6mv"])
def test_closed_pairs_of_a_window_wait_where_nothing_passes_them(name):
    machine = load_machine(name)
    window = _window(machine)
    waiting = aside(window, machine)
    np.testing.assert_allclose(waiting[1] - waiting[0], machine.mlc.min_gap)
    every = all_pairs(waiting[None], window, machine)[0]
    share = transmitted(every, *jaws_around(machine, window.jaws_x, window.jaws_y), window.bixels, machine)
    # One layer leaks, where the other keeps its gap.
    assert share.max() <= machine.mlc.transmission + 1e-12
    assert open_area(waiting[None], window)[0] == 0
