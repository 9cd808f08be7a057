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
