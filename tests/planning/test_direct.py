"""Standing fields shaped by gradient: few segments that deliver what was optimised."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from imaging.grid import axial, positions
from imaging.volume import Quantity, Volume
from planning.beams import Beam, n_segments
from planning.deliverable import expect_deliverable
from planning.dose.forward import calculate
from planning.dose.influence import influence
from planning.machine import load_machine
from planning.optimise.apertures import window_over
from planning.optimise.direct import Smallest, delivered_fields, shaped_fields
from planning.optimise.fluence import optimise_fluence
from planning.optimise.objectives import SquaredDeviation, SquaredOverdose, evaluate, prepare
from planning.optimise.refit import refitted
from planning.optimise.shaping import dose_of
from planning.optimise.steepest import steepest
from planning.optimise.swapping import swapped
from planning.optimise.uncertain import only_as_planned
from planning.plan import Plan, Prescription

MACHINE = load_machine("generic-6mv")
GRID = axial(np.full(3, -60.0), np.full(3, 60.0), (4.0, 4.0, 4.0))
BEAMS = [Beam(gantry, 0.0, 0.0, np.zeros(3), str(n)) for n, gantry in enumerate((20.0, 140.0, 260.0))]
TERMS = [SquaredDeviation("T", 2.0, 100.0), SquaredOverdose("O", 0.8, 30.0), SquaredOverdose("B", 1.4, 5.0)]


@pytest.fixture(scope="module")
def case():
    centers = positions(GRID, np.argwhere(np.ones(GRID.shape)).astype(np.float64))
    x, y, z = centers.T
    body = (np.hypot(x, y) < 55) & (np.abs(z) < 55)
    target = (np.hypot(x, y) < 22) & (np.hypot(x, y) > 10) & (np.abs(z) < 10)
    organ = (np.hypot(x, y) < 6) & (np.abs(z) < 10)
    density = Volume(torch.from_numpy(body.reshape(GRID.shape)).float()[None], GRID, Quantity.DENSITY)
    rest = body & ~target & ~organ
    rest[np.flatnonzero(rest)[::3]] = False
    chosen = np.flatnonzero(target | organ | rest)
    parts = {"T": target, "O": organ, "B": rest}
    regions = {name: torch.from_numpy(np.flatnonzero(part[chosen])) for name, part in parts.items()}
    return density, centers[target], centers[chosen], chosen, regions


@pytest.fixture(scope="module")
def begun(case):
    """What leaves are shaped from: a fluence, and the influence of the bixels under them."""
    density, target, points, _, regions = case
    coarse, window = (window_over(target, BEAMS, MACHINE, column=width) for width in (5.0, 2.5))
    parts = [influence(BEAMS, [w.bixels] * 3, density, points, MACHINE) for w in (coarse, window)]
    fluence = optimise_fluence(parts[0], TERMS, regions, max_iterations=30).weights.double().numpy()
    return fluence, coarse, window, only_as_planned(parts[1]), prepare(TERMS, regions, like=torch.empty(0))


SMALLEST = Smallest(2.0 * MACHINE.fluence_per_mu, 150.0)


@pytest.fixture(scope="module")
def made(begun):
    apertures, history = shaped_fields(*begun, MACHINE, n_segments=12, smallest=SMALLEST, max_iterations=60)
    return delivered_fields(BEAMS, apertures, begun[2], MACHINE), apertures, history


def test_no_more_segments_are_delivered_than_allowed(made):
    beams, apertures, _ = made
    assert 3 <= sum(map(n_segments, beams)) <= len(apertures.weights) <= 12


def test_no_segment_is_smaller_than_allowed(begun, made):
    heights = np.diff(MACHINE.mlc.boundaries)
    n = 0
    for beam in made[0]:
        for first, last in pairwise(beam.control_points):
            if last.meterset > first.meterset:
                left, right = first.leaves.clip(*first.jaws_x)
                n += 1
                assert ((right - left) * heights).sum() >= SMALLEST.area - 1e-6
                assert beam.mu * (last.meterset - first.meterset) >= 2.0 - 1e-9
    assert n == len(made[1].weights)


def test_leaves_find_a_better_dose_than_the_segments_they_start_from(made):
    _, _, history = made
    assert history[-1] < 0.95 * history[0]


def test_the_control_points_deliver_what_was_optimised(case, made):
    density, _, _, chosen, regions = case
    plan = expect_deliverable(Plan(made[0], Prescription(2.0, 1), MACHINE.name), MACHINE)
    dose = calculate(plan, density, GRID, MACHINE).data.flatten()[torch.from_numpy(chosen)]
    assert evaluate(TERMS, regions, dose)[0] == pytest.approx(made[2][-1], rel=0.1)


def test_open_pairs_keep_the_leaf_gap(made):
    for beam in made[0]:
        for point in beam.control_points:
            opened = point.leaves[1] - point.leaves[0]
            assert opened[opened > 0].min() >= MACHINE.mlc.min_gap - 1e-9


def test_fewer_segments_than_beams_and_stiff_leaves_are_refused(begun):
    with pytest.raises(ValueError, match="expected at least one segment for each of 3 beams, got 2"):
        shaped_fields(*begun, MACHINE, n_segments=2)
    stiff = replace(MACHINE, mlc=replace(MACHINE.mlc, interdigitation=False))
    with pytest.raises(ValueError, match="expected leaves that may pass the opposite leaves"):
        shaped_fields(*begun, stiff)


def test_the_steepest_aperture_is_the_best_of_all_intervals(begun):
    _, _, window, _, _ = begun
    generator = np.random.default_rng(5)
    n = len(window.columns)
    slope = generator.normal(size=(2, len(window.rows), n))
    leaves, worth = steepest(slope, window)
    for beam in range(2):
        ends = [(a, b) for a in range(n) for b in range(a + 1, n + 1)]
        best = [min([0.0, *(row[a:b].sum() for a, b in ends)]) for row in slope[beam]]
        assert worth[beam] == pytest.approx(sum(best))
        columns = np.rint((leaves[beam] - window.jaws_x[0]) / window.size[0]).astype(int)
        opened = [row[a:b].sum() for row, a, b in zip(slope[beam], *columns, strict=True)]
        assert sum(opened) == pytest.approx(sum(best))


def test_swaps_never_make_segments_worse_or_more(begun, made):
    _, _, window, uncertain, objective = begun
    before = objective(dose_of(made[1], window, uncertain, MACHINE))[0]
    found, _ = swapped(made[1], window, uncertain, objective, MACHINE, max_iterations=12)
    assert len(found.weights) == len(made[1].weights)
    assert objective(dose_of(found, window, uncertain, MACHINE))[0] <= before


def test_refitted_monitor_units_lower_the_objective_of_the_calculated_dose(case, begun, made):
    density, _, points, chosen, regions = case
    beams, value = refitted(made[0], density, points, begun[4], MACHINE, least=2.0)

    def objective_of(given):
        plan = expect_deliverable(Plan(given, Prescription(2.0, 1), MACHINE.name), MACHINE)
        dose = calculate(plan, density, GRID, MACHINE).data.flatten()[torch.from_numpy(chosen)]
        return evaluate(TERMS, regions, dose)[0]

    assert objective_of(beams) == pytest.approx(value, rel=1e-4)
    assert value <= objective_of(made[0]) * (1 + 1e-6)
    for beam in beams:
        held = beam.mu * np.diff([point.meterset for point in beam.control_points])
        assert held[held > 0].min() >= 2.0 - 1e-6
        assert [p.leaves.tobytes() for p in beam.control_points] == [
            p.leaves.tobytes() for b in made[0] if b.name == beam.name for p in b.control_points
        ]
