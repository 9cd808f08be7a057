"""Arcs deliver what was optimised, within every limit of the machine."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import axial, positions
from imaging.volume import Quantity, Volume
from planning.arcs import Arc
from planning.beams import Beam
from planning.deliverable import expect_deliverable
from planning.dose.forward import calculate
from planning.dose.influence import influence
from planning.machine import load_machine
from planning.motion import schedule
from planning.optimise.apertures import Apertures, fluence_of, window_over, within_reach
from planning.optimise.arc import delivered_arcs, modulated, sectors
from planning.optimise.fluence import optimise_fluence
from planning.optimise.objectives import SquaredDeviation, SquaredOverdose, evaluate, prepare
from planning.optimise.sequenced import swept
from planning.optimise.shaping import dose_of, shape
from planning.optimise.uncertain import only_as_planned
from planning.plan import Plan, Prescription

MACHINE = load_machine("generic-6mv")
WATER = axial(np.full(3, -80.0), np.full(3, 80.0), (5.0, 5.0, 5.0))
ARC = Arc(200.0, 160.0, True, np.zeros(3), step=10.0)


@pytest.fixture(scope="module")
def case():
    """A cylinder of water, a target that bends round an organ, and what is wanted of them."""
    centers = positions(WATER, np.argwhere(np.ones(WATER.shape)).astype(np.float64))
    x, y, z = centers.T
    body = (np.hypot(x, y) < 75) & (np.abs(z) < 75)
    target = (np.hypot(x, y) < 30) & (np.hypot(x, y) > 15) & (y < 5) & (np.abs(z) < 12)
    organ = (np.hypot(x, y) < 9) & (np.abs(z) < 12)
    density = Volume(torch.from_numpy(body.reshape(WATER.shape)).float()[None], WATER, Quantity.DENSITY)
    rest = body & ~target & ~organ
    rest &= np.arange(len(rest)) % 6 == 0
    parts = {"T": target, "O": organ, "B": rest}
    chosen = np.flatnonzero(target | organ | rest)
    regions = {name: torch.from_numpy(np.flatnonzero(part[chosen])) for name, part in parts.items()}
    terms = [
        SquaredDeviation("T", 2.0, 100.0),
        SquaredOverdose("O", 0.5, 50.0),
        SquaredOverdose("B", 1.2, 10.0),
    ]
    return density, centers[target], centers[chosen], chosen, regions, terms


@pytest.fixture(scope="module")
def begun(case):
    """What leaves are shaped from: the fluence of sectors, and the influence of all spans."""
    density, target, points, _, regions, terms = case
    middles, spans = [part.middle for part in sectors([ARC])], ARC.spans()
    coarse = window_over(target, middles, MACHINE, column=5.0)
    window = window_over(target, spans, MACHINE)
    wide, fine = (
        influence(beams, [w.bixels] * len(beams), density, points, MACHINE)
        for beams, w in ((middles, coarse), (spans, window))
    )
    free = optimise_fluence(wide, terms, regions, max_iterations=30)
    objective = prepare(terms, regions, like=torch.empty(0))
    return free, (free.weights.double().numpy(), coarse, window, only_as_planned(fine), objective)


@pytest.fixture(scope="module")
def shaped(begun):
    return modulated([ARC], *begun[1], MACHINE, max_iterations=30)


@pytest.fixture(scope="module")
def made(begun, shaped):
    return delivered_arcs([ARC], shaped[0], begun[1][2], MACHINE)


def test_leaves_shaped_by_gradient_come_near_to_free_fluence(begun, shaped):
    _, history = shaped
    assert history[-1] < 0.3 * history[0]
    # Free fluence knows no leaves, no leakage and no gaps.
    assert begun[0].value < history[-1]


def test_sectors_share_the_spans_and_stand_in_their_middle():
    parts = sectors([ARC, replace(ARC, start=160.0, stop=200.0, clockwise=False)])
    for n in (0, 1):
        own = [part for part in parts if part.arc == n]
        np.testing.assert_array_equal(np.concatenate([part.spans for part in own]), np.arange(32))
    for part in parts[: len(parts) // 2]:
        seen = [ARC.spans()[k].gantry for k in part.spans]
        apart = (np.array(seen) - part.middle.gantry + 180) % 360 - 180
        assert apart.sum() == pytest.approx(0, abs=1e-6)


def test_the_dose_of_the_control_points_is_the_one_that_was_optimised(case, begun, shaped, made):
    density, _, _, chosen, regions, terms = case
    plan = Plan(made, Prescription(2.0, 1), MACHINE.name)
    dose = calculate(plan, density, WATER, MACHINE).data.flatten()[torch.from_numpy(chosen)]
    _, _, window, uncertain, objective = begun[1]
    seen = objective(dose_of(shaped[0], window, uncertain, MACHINE))[0]
    # Bixels of 2.5 mm that leaves cut stand for 1 mm pixels there, and leaves move in fewer steps.
    assert evaluate(terms, regions, dose)[0] == pytest.approx(seen, rel=0.1)


def test_every_limit_of_the_machine_is_kept(made):
    plan = Plan(made, Prescription(2.0, 1), MACHINE.name)
    expect_deliverable(plan, MACHINE)
    (beam,) = made
    times, limits = schedule(beam, MACHINE), MACHINE.limits
    assert times.gantry.max() <= limits.max_gantry_speed * (1 + 1e-9)
    assert times.leaf.max() <= limits.max_leaf_speed * (1 + 1e-9)
    assert times.dose_rate.max() <= limits.max_dose_rate * (1 + 1e-9)
    gaps = np.array([point.leaves[1] - point.leaves[0] for point in beam.control_points])
    assert gaps.min() >= MACHINE.mlc.min_gap - 1e-9
    # Leaves alone never make the gantry turn slower than half its speed.
    travel = np.abs(np.diff([point.leaves for point in beam.control_points], axis=0)).max()
    assert travel <= limits.max_leaf_speed * 10.0 / (0.5 * limits.max_gantry_speed) + 1e-6


def test_the_arc_turns_through_its_angles_the_way_it_says(made):
    angles = [point.gantry for point in made[0].control_points]
    assert (angles[0], angles[-1]) == (200.0, 160.0)
    np.testing.assert_allclose((np.diff(angles) + 180) % 360 - 180, 10.0)
    back = replace(ARC, start=160.0, stop=200.0, clockwise=False)
    np.testing.assert_allclose(back.angles, ARC.angles[::-1])
    assert [b.gantry for b in back.spans()] == pytest.approx([b.gantry for b in ARC.spans()][::-1])


def test_monitor_units_are_shared_as_metersets_say(made):
    (beam,) = made
    shares = [point.meterset for point in beam.control_points]
    assert shares[0] == 0
    assert shares[-1] == pytest.approx(1.0)
    assert min(np.diff(shares)) >= 0
    assert beam.mu > 0


def _window():
    target = np.array([[x, y, z] for x in (-10.0, 10.0) for y in (-10.0, 10.0) for z in (-8.0, 8.0)])
    return window_over(target, ARC.spans()[:1], MACHINE)


def test_a_sweep_in_many_steps_delivers_its_fluence():
    window = _window()
    generator = np.random.default_rng(2)
    wanted = generator.random((len(window.rows), len(window.columns)))
    n = 400
    # Thin leaves without leakage or gap: the sliding window is exact but for its steps.
    machine = replace(MACHINE, mlc=replace(MACHINE.mlc, transmission=0.0, min_gap=0.0))
    for sector in (0, 1):
        parts = [wanted.ravel()] * (sector + 1)
        spans = [np.arange(k * n, (k + 1) * n) for k in range(sector + 1)]
        found = swept(np.stack(parts), spans, window, 5.0, 0.0)
        found = replace(found, beam=np.zeros(len(found.beam), dtype=np.int64))
        fluence = fluence_of(
            torch.from_numpy(found.leaves), torch.from_numpy(found.weights), found, window, machine, 1
        )
        delivered = fluence.view(wanted.shape).numpy() / (n * (sector + 1))
        # Times are straight lines between the middles of columns, of which each column sees the mean.
        seen = (wanted[:, :-2] + 6 * wanted[:, 1:-1] + wanted[:, 2:]) / 8
        np.testing.assert_allclose(delivered[:, 1:-1], seen, atol=0.03)
        assert np.abs(np.diff(found.leaves, axis=0)).max() <= 5.0 + 1e-6


def test_fluence_changes_with_leaves_and_weights_as_its_gradient_says():
    window = _window()
    generator = torch.Generator().manual_seed(4)
    left = -8 + 6 * torch.rand(4, len(window.rows), generator=generator, dtype=torch.float64)
    right = left + 2 + 8 * torch.rand(left.shape, generator=generator, dtype=torch.float64)
    leaves = torch.stack([left, right], dim=1)
    weights = torch.rand(3, generator=generator, dtype=torch.float64)
    span = np.arange(3)
    like = Apertures(leaves.numpy(), weights.numpy(), span, span + 1, span)

    def whole(leaves, weights):
        return fluence_of(leaves, weights, like, window, MACHINE, 3).square().sum()

    assert torch.autograd.gradcheck(whole, (leaves.requires_grad_(), weights.requires_grad_()), atol=1e-4)


def test_leaves_that_would_travel_too_far_stay_behind_with_their_gap():
    leaves = np.zeros((3, 2, 2))
    leaves[:, 1] = 5.0
    leaves[1] += 30.0
    span = np.arange(2)
    found = within_reach(Apertures(leaves, np.ones(2), span, span + 1, span), MACHINE, 12.0)
    assert np.abs(np.diff(found.leaves, axis=0)).max() <= 12.0
    assert (found.leaves[:, 1] - found.leaves[:, 0]).min() >= MACHINE.mlc.min_gap
    assert found.leaves[1, 0, 0] == 12.0


def test_standing_leaves_are_shaped_for_fields_that_do_not_move(case):
    density, target, points, _, regions, terms = case
    beams = [Beam(g, 0.0, 0.0, np.zeros(3)) for g in (0.0, 72.0, 144.0, 216.0, 288.0)]
    window = window_over(target, beams, MACHINE)
    matrix = influence(beams, [window.bixels] * 5, density, points, MACHINE)
    still = np.arange(5)
    leaves = np.tile(np.array([[-30.0], [30.0]]), (5, 1, len(window.rows)))
    start = Apertures(leaves, np.full(5, 0.01), still, still, still)
    objective = prepare(terms, regions, like=torch.empty(0))
    found = shape(start, window, only_as_planned(matrix), objective, MACHINE, max_iterations=25)
    assert found.history[-1] < 0.7 * found.history[0]
    assert (np.diff(found.history) <= 1e-9).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stop": 200.0}, "expected an arc that turns, in steps of 1-10 degrees, got 200 to 200"),
        ({"step": 0.5}, "expected an arc that turns, in steps of 1-10 degrees"),
    ],
)
def test_an_arc_that_does_not_turn_is_refused(change, says):
    with pytest.raises(ValueError, match=says):
        replace(ARC, **change).spans()


def test_what_no_arc_can_treat_is_refused(case, begun):
    _, target, _, _, _, _ = case
    with pytest.raises(ValueError, match="expected at least one arc, got none"):
        modulated([], *begun[1], MACHINE)
    stiff = replace(MACHINE, mlc=replace(MACHINE.mlc, interdigitation=False))
    with pytest.raises(ValueError, match="expected leaves that may pass the opposite leaves"):
        modulated([ARC], *begun[1], stiff)
    with pytest.raises(ValueError, match="expected a target within 194 mm of the isocentre"):
        window_over(target + 250.0, ARC.spans(), MACHINE)
