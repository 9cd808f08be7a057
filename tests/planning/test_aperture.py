from dataclasses import replace

import numpy as np
import pytest
import torch

from planning.beams import Beam, ControlPoint
from planning.dose.aperture import PIXEL, Lattice, delivered, lattice_over, openness, transmitted
from planning.dose.bixels import Bixels
from planning.machine import load_machine

MACHINE = load_machine("generic-6mv")
N = len(MACHINE.mlc.boundaries) - 1
LATTICE = lattice_over((-30.0, 30.0), (-20.0, 20.0))


def _machine(**changes):
    return replace(MACHINE, mlc=replace(MACHINE.mlc, **changes))


def _leaves(left, right):
    leaves = torch.zeros(1, 2, N, dtype=torch.float64)
    leaves[:, 0], leaves[:, 1] = left, right
    return leaves


def _jaws(low, high):
    return torch.tensor([[low, high]], dtype=torch.float64)


def _open(left, right, machine=MACHINE, x=(-30.0, 30.0), y=(-20.0, 20.0)):
    return openness(_leaves(left, right), _jaws(*x), _jaws(*y), LATTICE, machine)[0]


def test_a_lattice_covers_its_spans_with_edges_on_whole_pixels():
    lattice = lattice_over((-4.3, 2.0), (0.0, 0.2))
    assert lattice == Lattice((-4.5, 0.5), (7, 1), PIXEL)


def test_the_open_area_is_that_of_the_leaves_and_jaws():
    machine = _machine(transmission=0.0)
    share = _open(-7.3, 11.6, machine, y=(-12.25, 9.0))
    assert float(share.sum()) * PIXEL**2 == pytest.approx((11.6 + 7.3) * (9.0 + 12.25))
    assert float(_open(-25.0, 25.0, machine, x=(-10.0, 4.5)).sum()) == pytest.approx(14.5 * 40)


def test_leaves_transmit_and_jaws_do_not():
    share = _open(0.0, 0.0, x=(-10.0, 10.0))
    middle = share[25:35]
    assert float((middle - MACHINE.mlc.transmission).abs().max()) < 1e-12
    assert float(share[:20].max()) == 0


@pytest.mark.parametrize("gap", [0.0, 1.4])
def test_the_dosimetric_gap_widens_what_is_open_by_just_that(gap):
    machine = _machine(transmission=0.0, dosimetric_gap=gap)
    assert float(_open(-7.0, 5.0, machine).sum()) == pytest.approx((12.0 + gap) * 40)
    assert float(_open(5.0, 5.0, machine).sum()) == 0


def test_the_derivative_by_a_leaf_is_the_height_of_its_row():
    leaves = _leaves(-7.3, 11.6).requires_grad_()
    machine = _machine(transmission=0.0)
    openness(leaves, _jaws(-30.0, 30.0), _jaws(-20.0, 20.0), LATTICE, machine).sum().backward()
    heights = np.diff(MACHINE.mlc.boundaries)
    inside = np.abs((MACHINE.mlc.boundaries[1:] + MACHINE.mlc.boundaries[:-1]) / 2) < 20
    np.testing.assert_allclose(leaves.grad[0, 1], np.where(inside, heights, 0.0), atol=1e-9)
    np.testing.assert_allclose(leaves.grad[0, 0], np.where(inside, -heights, 0.0), atol=1e-9)


def test_a_batch_is_each_of_its_apertures():
    random = np.random.default_rng(0)
    ends = np.sort(random.uniform(-20, 20, (3, 2, N)), axis=1)
    jaws = torch.tensor([[-25.0, 25.0], [-12.0, 3.5], [-5.0, 28.0]], dtype=torch.float64)
    together = openness(torch.from_numpy(ends), jaws, jaws.flip(0) * 0.7, LATTICE, MACHINE)
    for n in range(3):
        one = slice(n, n + 1)
        alone = openness(torch.from_numpy(ends[one]), jaws[one], (jaws.flip(0) * 0.7)[one], LATTICE, MACHINE)
        torch.testing.assert_close(together[one], alone)


def test_bixels_get_the_mean_of_their_pixels():
    random = np.random.default_rng(1)
    leaves = np.sort(random.uniform(-20, 20, (2, N)), axis=0)
    machine = _machine(dosimetric_gap=0.8)
    x, y = np.meshgrid(np.arange(-27.5, 30, 5.0), np.arange(-17.5, 20, 5.0), indexing="ij")
    bixels = Bixels(np.stack([x.ravel(), y.ravel()], axis=1))
    share = transmitted(leaves, (-22.0, 26.0), (-18.0, 11.0), bixels, machine).reshape(x.shape)
    fine = openness(torch.from_numpy(leaves)[None], _jaws(-22.0, 26.0), _jaws(-18.0, 11.0), LATTICE, machine)[
        0
    ]
    n = round(5 / PIXEL)
    mean = fine.reshape(x.shape[0], n, x.shape[1], n).mean(dim=(1, 3))
    np.testing.assert_allclose(share, mean.numpy(), atol=1e-9)


def test_what_is_delivered_is_monitor_units_times_the_open_area():
    leaves = np.zeros((2, N))
    inside = np.abs((MACHINE.mlc.boundaries[1:] + MACHINE.mlc.boundaries[:-1]) / 2) < 10
    leaves[:, inside] = [[-10.0], [10.0]]
    machine = _machine(transmission=0.0)
    points = tuple(ControlPoint(s, 30.0, (-10.0, 10.0), (-10.0, 10.0), leaves) for s in (0.0, 0.25, 1.0))
    found = delivered(Beam(30.0, 5.0, 10.0, np.zeros(3), "1", 80.0, points), machine)
    assert len(found) == 1
    beam, fluence = found[0]
    assert (beam.gantry, beam.couch, beam.collimator) == (30.0, 5.0, 10.0)
    total = float(fluence.values.sum()) * fluence.pixel**2
    assert total == pytest.approx(80 * machine.fluence_per_mu * 400, rel=1e-5)


STACKED = load_machine("stacked-6mv")
UPPER = len(STACKED.mlc.boundaries) - 1
WINDOW = (-140.0, 140.0)


def _random_leaves(seed, n=1):
    ends = np.random.default_rng(seed).uniform(-60, 60, (n, 2, STACKED.mlc.n_pairs))
    return np.sort(ends, axis=1)


def _fine(leaves, machine, pixel=0.5):
    """Openness on pixels that no edge of these leaves cuts."""
    lattice = lattice_over((-70.0, 70.0), (-50.0, 50.0), pixel)
    return openness(torch.from_numpy(leaves), _jaws(*WINDOW), _jaws(*WINDOW), lattice, machine)


def _layer(edges):
    mlc = replace(STACKED.mlc, boundaries=edges, lower=np.zeros(0))
    return replace(STACKED, mlc=mlc)


def test_two_layers_let_through_the_product_of_what_each_does():
    # On whole half millimetres, so that every pixel is open or closed.
    leaves = np.round(_random_leaves(0) * 2) / 2
    machine = replace(STACKED, mlc=replace(STACKED.mlc, dosimetric_gap=1.0, transmission=0.2))
    upper, lower = (
        replace(_layer(edges), mlc=replace(machine.mlc, boundaries=edges, lower=np.zeros(0)))
        for edges in machine.mlc.layers
    )
    product = _fine(leaves[..., :UPPER], upper) * _fine(leaves[..., UPPER:], lower)
    torch.testing.assert_close(_fine(leaves, machine), product)
    assert {round(v, 6) for v in product.unique().tolist()} == {0.04, 0.2, 1.0}


def test_pixels_that_leaves_cut_get_the_mean_of_the_product():
    leaves = _random_leaves(1)
    coarse = _fine(leaves, STACKED, 2.5)
    fine = _fine(leaves, STACKED, 0.05).reshape(1, 56, 50, 40, 50).mean(dim=(2, 4))
    torch.testing.assert_close(coarse, fine, atol=1e-9, rtol=0)


def test_layers_shifted_by_half_a_leaf_open_half_a_leaf():
    leaves = np.zeros((1, 2, STACKED.mlc.n_pairs))
    # One pair of each layer, 10 mm wide: -5 to 5 mm above, 0 to 10 mm below.
    leaves[:, 0, [14, UPPER + 14]], leaves[:, 1, [14, UPPER + 14]] = -20.0, 20.0
    machine = replace(STACKED, mlc=replace(STACKED.mlc, transmission=0.0, dosimetric_gap=0.0))
    assert float(_fine(leaves, machine).sum()) * 0.25 == pytest.approx(40 * 5)
    one = replace(_layer(STACKED.mlc.boundaries), mlc=replace(machine.mlc, lower=np.zeros(0)))
    assert float(_fine(leaves[..., :UPPER], one).sum()) * 0.25 == pytest.approx(40 * 10)


def test_closed_layers_leak_the_square_of_what_one_leaks():
    leaves = np.zeros((1, 2, STACKED.mlc.n_pairs))
    share = _fine(leaves, STACKED)
    torch.testing.assert_close(share, torch.full_like(share, STACKED.mlc.transmission**2))


def test_two_layers_are_differentiable_in_every_leaf():
    leaves = torch.from_numpy(_random_leaves(2)).requires_grad_()
    lattice = lattice_over((-70.0, 70.0), (-20.0, 20.0), 5.0)
    weight = torch.rand(1, *lattice.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def total(leaves):
        share = openness(leaves, _jaws(*WINDOW), _jaws(*WINDOW), lattice, STACKED)
        return (share * weight).sum()

    assert torch.autograd.gradcheck(total, leaves, eps=1e-5, atol=1e-6)


def test_bixels_behind_two_layers_get_the_mean_of_their_pixels():
    leaves = _random_leaves(3)
    x, y = np.meshgrid(np.arange(-68.75, 70, 2.5), np.arange(-47.5, 50, 5.0), indexing="ij")
    bixels = Bixels(np.stack([x.ravel(), y.ravel()], axis=1), (2.5, 5.0))
    share = transmitted(leaves[0], WINDOW, WINDOW, bixels, STACKED).reshape(x.shape)
    mean = _fine(leaves, STACKED)[0].reshape(56, 5, 20, 10).mean(dim=(1, 3))
    np.testing.assert_allclose(share, mean.numpy(), atol=1e-9)


def test_positions_of_one_layer_only_are_refused():
    points = tuple(
        ControlPoint(share, 0.0, WINDOW, WINDOW, _random_leaves(4)[0][:, :UPPER]) for share in (0.0, 1.0)
    )
    with pytest.raises(ValueError, match="expected 57 leaf pairs, got 29"):
        delivered(Beam(0.0, 0.0, 0.0, np.zeros(3), "1", 1.0, points), STACKED)


@pytest.mark.parametrize("name", ["generic-6mv", "agility-6mv", "stacked-6mv"])
def test_what_moving_leaves_deliver_is_the_mean_of_all_they_pass(name):
    machine = load_machine(name)
    full = (-machine.max_jaw, machine.max_jaw)
    x, y = (full if axis not in machine.jaws else (-30.0, 30.0) for axis in ("x", "y"))
    ends = np.zeros((2, 2, machine.mlc.n_pairs))
    first = 0
    for edges in machine.mlc.layers:
        some = slice(first + len(edges) // 2 - 2, first + len(edges) // 2 + 3)
        ends[:, :, some] = np.sort(np.random.default_rng(first).uniform(-25, 25, (2, 2, 5)), axis=1)
        first += len(edges) - 1
    points = tuple(ControlPoint(s, 0.0, x, y, leaves) for s, leaves in zip((0.0, 1.0), ends, strict=True))
    ((_, fluence),) = delivered(Beam(0.0, 0.0, 0.0, np.zeros(3), "1", 10.0, points), machine)
    n_steps = int(np.ceil(np.abs(ends[1] - ends[0]).max()))
    way = (torch.arange(n_steps, dtype=torch.float64) + 0.5).reshape(-1, 1, 1) / n_steps
    leaves = torch.lerp(torch.from_numpy(ends[:1]), torch.from_numpy(ends[1:]), way)
    jaws = [_jaws(*span).expand(n_steps, 2) for span in (x, y)]
    lattice = lattice_over(x, y)
    # Everywhere, and with room beside it where only leakage is, the same as without any shortcut.
    whole = openness(leaves, *jaws, lattice, machine).mean(dim=0) * 10 * machine.fluence_per_mu
    torch.testing.assert_close(fluence.values, whole.float(), rtol=1e-6, atol=0)
    assert fluence.values.shape == lattice.shape
