from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from imaging.grid import axial, positions
from imaging.volume import Quantity, Volume
from planning.beams import Beam
from planning.dose.bixel_dose import FULL_CUTOFF
from planning.dose.bixels import Bixels
from planning.dose.forward import calculate
from planning.dose.influence import apply, influence
from planning.machine import load_machine
from planning.optimise.objectives import SquaredDeviation, evaluate
from planning.optimise.segments import (
    Field,
    doses,
    openness,
    reweight,
    reweight_without_short,
    weighted,
    without_short,
)
from planning.optimise.sequence import Segment, quantise, sequence, to_beam
from planning.plan import Plan, Prescription

SIDE = np.arange(-22.5, 25.0, 5.0)
SQUARE = Bixels(np.array([(x, y) for y in SIDE for x in SIDE]))
EDGE = np.array([60.0, 60.0, 60.0])
GRID = axial(-EDGE, EDGE, (5.0, 5.0, 5.0))
WATER = Volume(torch.ones((1, *GRID.shape)), GRID, Quantity.DENSITY)
BEAMS = [Beam(angle, 0.0, 0.0, np.zeros(3), str(angle)) for angle in (0.0, 120.0, 240.0)]
CENTERS = positions(GRID, np.argwhere(np.ones(GRID.shape)).astype(np.float64))


@pytest.fixture(scope="module")
def machine():
    return load_machine("generic-6mv")


@pytest.fixture(scope="module")
def matrix(machine):
    return influence(BEAMS, [SQUARE] * 3, WATER, CENTERS, machine, cutoff=FULL_CUTOFF)


def bumps(seed):
    """Smooth weights with some detail."""
    x, y = SQUARE.positions.T
    rng = np.random.default_rng(seed)
    return 1 + 0.4 * np.sin(x / 9 + seed) + 0.3 * np.cos(y / 7) + 0.1 * rng.random(len(x))


def fields(machine, n_levels=10):
    return tuple(
        Field(SQUARE, tuple(sequence(bumps(n), SQUARE, machine.mlc, n_levels))) for n in range(len(BEAMS))
    )


def weights_of(fields):
    return torch.tensor([s.weight for f in fields for s in f.segments], dtype=torch.float32)


def test_segments_without_leakage_give_the_dose_of_the_quantised_fluence(machine, matrix):
    tight = replace(machine, mlc=replace(machine.mlc, transmission=0.0))
    cut = fields(tight)
    levels = [quantise(bumps(n), 10) for n in range(3)]
    fluence = np.concatenate([whole * step for whole, step in levels])
    wanted = apply(matrix, torch.from_numpy(fluence).float())
    got = doses(matrix, cut, tight) @ weights_of(cut)
    assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("interdigitation", [True, False])
def test_segments_with_leakage_give_the_dose_of_the_plan(machine, matrix, interdigitation):
    machine = replace(machine, mlc=replace(machine.mlc, interdigitation=interdigitation))
    cut = fields(machine)
    beams = tuple(to_beam(beam, f.segments, machine) for beam, f in zip(BEAMS, cut, strict=True))
    planned = calculate(Plan(beams, Prescription(2.0, 1), machine.name), WATER, GRID, machine)
    got = doses(matrix, cut, machine) @ weights_of(cut)
    assert float((got - planned.data.flatten()).abs().max()) <= 2e-3 * float(got.max())


def test_closed_bixels_get_the_transmission_and_those_behind_jaws_nothing(machine):
    leaves = np.zeros((2, 80))
    leaves[:, 40] = -10.0, 10.0
    leaves[:, 42] = 0.0, 20.0
    got = openness([Segment(leaves, 1.0)], SQUARE, machine)[:, 0].reshape(10, 10)
    leak = pytest.approx(machine.mlc.transmission)
    assert got[5].tolist() == pytest.approx([0, 0, 0, 1, 1, 1, 1, 0.015, 0.015, 0])
    assert got[6, 4] == leak
    assert got[6, 0] == 0
    assert got[4].max() == 0
    assert got[8].max() == 0


def test_weights_are_found_again(machine, matrix):
    cut = fields(machine)
    dose = doses(matrix, cut, machine)
    truth = weights_of(cut)
    wanted = dose @ truth
    region = {"here": torch.nonzero(wanted > 0.5 * wanted.max())[:, 0]}

    def objective(given):
        value = float(((given - wanted) ** 2)[region["here"]].mean())
        slope = torch.zeros_like(given)
        slope[region["here"]] = 2 * (given - wanted)[region["here"]] / len(region["here"])
        return value, slope

    spoiled = weighted(cut, truth * (1 + 0.3 * torch.cos(torch.arange(len(truth)).float())))
    _, result = reweight(spoiled, dose, objective)
    assert result.value < 0.01 * result.history[0]


def test_reweighting_and_dropping_short_segments_lowers_the_objective(machine, matrix):
    cut = fields(machine, 6)
    dose = doses(matrix, cut, machine)
    middle = torch.from_numpy(np.flatnonzero(np.linalg.norm(CENTERS, axis=1) < 20))
    objective = partial(evaluate, [SquaredDeviation("middle", 2.0)], {"middle": middle})
    better, result = reweight(cut, dose, objective)
    assert result.value < result.history[0]
    kept, flags = without_short(better, 0.05)
    assert int(flags.sum()) == sum(len(f.segments) for f in kept) < len(flags)
    assert min(s.weight for f in kept for s in f.segments) >= 0.05


def test_no_segment_is_shorter_than_asked_for_and_none_needed_goes(machine, matrix):
    cut = fields(machine, 6)
    dose = doses(matrix, cut, machine)
    middle = torch.from_numpy(np.flatnonzero(np.linalg.norm(CENTERS, axis=1) < 20))
    objective = partial(evaluate, [SquaredDeviation("middle", 2.0)], {"middle": middle})
    least = 0.06
    found, stays, result = reweight_without_short(cut, dose, objective, least)
    got = weights_of(found)
    assert len(got) == int(stays.sum()) < len(stays)
    assert min(s.weight for f in found for s in f.segments) >= least
    assert torch.allclose(got, result.weights)
    assert result.value == pytest.approx(objective(dose[:, stays] @ got)[0], rel=1e-5)
    # Better than raising the short ones to the least, and not much worse than free weights.
    free = reweight(cut, dose, objective)[1]
    assert result.value < objective(dose @ free.weights.clamp(min=least))[0]
    assert result.value < 1.5 * free.value
    # Slope along each weight above the least: none; at the least: upwards only.
    slope = dose[:, stays].T @ objective(dose[:, stays] @ got)[1]
    scale = float((dose[:, stays].T @ objective(dose[:, stays] @ torch.full_like(got, least))[1]).abs().max())
    assert float(slope[got > 1.01 * least].abs().max()) < 0.02 * scale
    assert float(slope.min()) > -0.02 * scale
