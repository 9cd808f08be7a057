"""Bixels joined from smaller ones, against bixels computed whole."""

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.volume import Quantity, Volume
from planning.beams import Beam
from planning.dose.influence import adjoint, apply, influence
from planning.dose.joined import joined
from planning.machine import load_machine
from planning.optimise.apertures import Window, halved, halves_of, window_over

MACHINE = load_machine("generic-6mv")
CUBE = axial(np.full(3, -90.0), np.full(3, 90.0), (5.0, 5.0, 5.0))
WATER = Volume(torch.ones((1, *CUBE.shape)), CUBE, Quantity.DENSITY)
BEAMS = [Beam(0.0, 0.0, 0.0, np.zeros(3)), Beam(70.0, 0.0, 0.0, np.zeros(3))]
POINTS = np.random.default_rng(0).uniform(-50, 50, (500, 3))


def window() -> Window:
    corners = np.array([[x, y, z] for x in (-15.0, 15.0) for y in (-15.0, 15.0) for z in (-10.0, 10.0)])
    return window_over(corners, BEAMS, MACHINE, 5.0, 5.0)


def test_halves_cover_what_the_whole_covers():
    coarse = window()
    fine = halved(coarse)
    assert fine.jaws_x == pytest.approx(coarse.jaws_x)
    assert fine.size == (2.5, coarse.size[1])
    whole, parts = coarse.bixels.positions, halves_of(coarse)
    for n in range(len(whole)):
        own = fine.bixels.positions[parts == n]
        np.testing.assert_allclose(own.mean(axis=0), whole[n])
        np.testing.assert_allclose(np.ptp(own, axis=0), [2.5, 0.0])


def test_two_halves_have_the_dose_of_the_whole():
    coarse = window()
    fine = influence(BEAMS, [halved(coarse).bixels] * 2, WATER, POINTS, MACHINE)
    whole = influence(BEAMS, [coarse.bixels] * 2, WATER, POINTS, MACHINE)
    found = joined(fine, halves_of(coarse), len(coarse.bixels.positions))
    assert found.beam_starts == whole.beam_starts
    weights = torch.rand(whole.n_bixels, generator=torch.Generator().manual_seed(1))
    wanted = apply(whole, weights)
    # Each half's own ray is another one, and what lies at the rim of the reach.
    assert float((apply(found, weights) - wanted).abs().max()) < 0.005 * float(wanted.max())


def test_joined_bixels_are_sums_and_have_their_adjoint():
    coarse = window()
    parts, n_each = halves_of(coarse), len(coarse.bixels.positions)
    fine = influence(BEAMS, [halved(coarse).bixels] * 2, WATER, POINTS, MACHINE)
    found = joined(fine, parts, n_each)
    weights = torch.rand(2 * n_each, generator=torch.Generator().manual_seed(2))
    each = torch.cat([weights[:n_each][parts], weights[n_each:][parts]])
    torch.testing.assert_close(apply(found, weights), apply(fine, each), rtol=1e-4, atol=1e-6)
    slope = torch.rand(len(POINTS), generator=torch.Generator().manual_seed(3))
    left, right = (apply(found, weights) * slope).sum(), (adjoint(found, slope) * weights).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-4)


def test_bixels_of_another_window_are_refused():
    coarse = window()
    fine = influence(BEAMS, [halved(coarse).bixels] * 2, WATER, POINTS, MACHINE)
    with pytest.raises(ValueError, match="bixels in each beam"):
        joined(fine, halves_of(coarse)[:-1], len(coarse.bixels.positions))
    with pytest.raises(ValueError, match="parts of bixels 0 to 2"):
        joined(fine, halves_of(coarse), 3)
