"""Machines of every kind deliver what was optimised for them, within their limits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import axial, positions
from imaging.volume import Quantity, Volume
from planning.beams import Beam
from planning.deliverable import expect_deliverable
from planning.dose.bixel_dose import FULL_CUTOFF
from planning.dose.forward import calculate
from planning.dose.influence import influence
from planning.machine import load_machine
from planning.motion import schedule
from planning.optimise.apertures import window_over
from planning.optimise.arc import Arc, delivered_arcs, modulated, sectors
from planning.optimise.direct import delivered_fields, shaped_fields
from planning.optimise.fluence import optimise_fluence
from planning.optimise.objectives import SquaredDeviation, SquaredOverdose, prepare
from planning.optimise.shaping import dose_of
from planning.optimise.uncertain import only_as_planned
from planning.plan import Plan, Prescription

NAMES = ["millennium-6mv", "agility-6mv", "stacked-6mv"]
GRID = axial(np.full(3, -70.0), np.full(3, 70.0), (5.0, 5.0, 5.0))
TERMS = [SquaredDeviation("T", 2.0, 100.0), SquaredOverdose("O", 0.8, 30.0), SquaredOverdose("B", 1.3, 5.0)]
ARC = Arc(310.0, 50.0, True, np.zeros(3), step=10.0)
BEAMS = [Beam(gantry, 0.0, 0.0, np.zeros(3), str(n)) for n, gantry in enumerate((20.0, 140.0, 260.0))]


@pytest.fixture(scope="module")
def case():
    """A cylinder of water, and a target that bends round an organ."""
    centers = positions(GRID, np.argwhere(np.ones(GRID.shape)).astype(np.float64))
    x, y, z = centers.T
    body = (np.hypot(x, y) < 65) & (np.abs(z) < 60)
    target = (np.hypot(x, y) < 28) & (np.hypot(x, y) > 13) & (y < 5) & (np.abs(z) < 12)
    organ = (np.hypot(x, y) < 8) & (np.abs(z) < 12)
    density = Volume(torch.from_numpy(body.reshape(GRID.shape)).float()[None], GRID, Quantity.DENSITY)
    rest = body & ~target & ~organ
    rest &= np.arange(len(rest)) % 15 == 0
    chosen = np.flatnonzero(target | organ | rest)
    parts = {"T": target, "O": organ, "B": rest}
    regions = {name: torch.from_numpy(np.flatnonzero(part[chosen])) for name, part in parts.items()}
    return density, centers[target], centers[chosen], torch.from_numpy(chosen), regions


@pytest.fixture(scope="module", params=NAMES)
def machine(request):
    return load_machine(request.param)


def _begun(case, machine, fields, spans):
    """What leaves are shaped from: a fluence of the fields, and the influence of the spans."""
    density, target, points, _, regions = case
    coarse = window_over(target, fields, machine, column=5.0)
    window = window_over(target, spans, machine)
    wide, fine = (
        influence(beams, [w.bixels] * len(beams), density, points, machine, cutoff=FULL_CUTOFF)
        for beams, w in ((fields, coarse), (spans, window))
    )
    free = optimise_fluence(wide, TERMS, regions, max_iterations=15)
    objective = prepare(TERMS, regions, like=torch.empty(0))
    return free.weights.double().numpy(), coarse, window, only_as_planned(fine), objective, machine


@pytest.fixture(scope="module")
def arc(case, machine):
    given = _begun(case, machine, [part.middle for part in sectors([ARC])], ARC.spans())
    found, history = modulated([ARC], *given, max_iterations=15)
    assert history[-1] < 0.5 * history[0]
    made = delivered_arcs([ARC], found, given[2], machine)
    return machine, made, dose_of(found, given[2], given[3], machine)


@pytest.fixture(scope="module")
def fields(case, machine):
    given = _begun(case, machine, BEAMS, BEAMS)
    found, history = shaped_fields(*given, n_segments=9, max_iterations=24)
    assert history[-1] < history[0]
    made = delivered_fields(BEAMS, found, given[2], machine)
    return machine, made, dose_of(found, given[2], given[3], machine)


def _check_delivery(case, made):
    """The dose of what is delivered is the one that was seen while leaves were shaped."""
    (machine, beams, seen), (density, _, _, chosen, regions) = made, case
    plan = expect_deliverable(Plan(beams, Prescription(2.0, 1), machine.name), machine)
    dose = calculate(plan, density, GRID, machine).data.flatten()[chosen]
    # What leaks between the bixels and the full opening is not seen: no more than all of it could give.
    leak = machine.mlc.transmission ** len(machine.mlc.layers)
    unseen = leak * sum(beam.mu for beam in beams) * 0.012 if "x" not in machine.jaws else 0.0
    # Pixels of 1 mm stand for bixels of 2.5 mm that leaves cut.
    excess = dose - seen
    assert float(excess.min()) > -0.08
    assert float(excess.max()) < 0.085 + unseen
    assert -0.01 < float(excess.mean()) < 0.01 + unseen
    assert float(dose[regions["T"]].mean()) == pytest.approx(2.0, rel=0.03)


def test_the_dose_of_an_arc_is_the_one_that_was_optimised(case, arc):
    _check_delivery(case, arc)


def test_the_dose_of_fields_is_the_one_that_was_optimised(case, fields):
    _check_delivery(case, fields)


def test_an_arc_keeps_every_limit(arc):
    machine, (beam,), _ = arc
    times, limits = schedule(beam, machine), machine.limits
    assert times.gantry.max() <= limits.max_gantry_speed * (1 + 1e-9)
    assert times.leaf.max() <= limits.max_leaf_speed * (1 + 1e-9)
    assert times.dose_rate.max() <= limits.max_dose_rate * (1 + 1e-9)
    shown = np.array([point.leaves for point in beam.control_points])
    assert np.abs(shown).max() <= machine.mlc.max_position
    # Leaves alone never ask for less than 3 degrees/s, of a ring that turns fast either.
    assert np.abs(np.diff(shown, axis=0)).max() <= limits.max_leaf_speed * ARC.spacing / 3.0 + 1e-6


def test_leaves_of_both_layers_are_shaped(arc):
    machine, (beam,), _ = arc
    shown = np.array([point.leaves for point in beam.control_points])
    first = 0
    for edges in machine.mlc.layers:
        own = shown[:, :, first : first + len(edges) - 1]
        moving = np.ptp(own, axis=0).max(axis=0) > 5.0
        assert moving.sum() >= 4
        first += len(edges) - 1


def test_jaws_stand_where_there_are_any(arc, fields):
    for machine, beams, _ in (arc, fields):
        full = (-machine.max_jaw, machine.max_jaw)
        for point in (point for beam in beams for point in beam.control_points):
            for axis, jaws in zip(("x", "y"), (point.jaws_x, point.jaws_y), strict=True):
                assert (jaws == full) == (axis not in machine.jaws)


def test_half_a_leaf_of_shift_makes_rows_that_single_layers_cannot(case):
    stacked = load_machine("stacked-6mv")
    alone = replace(stacked, mlc=replace(stacked.mlc, lower=np.zeros(0)))
    assert window_over(case[1], BEAMS, stacked).size[1] == 5.0
    assert window_over(case[1], BEAMS, alone).size[1] == 10.0
