import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.check.dvh import Dvh, curve, histograms, mean
from planning.check.judge import judge
from planning.check.robust import bands, doses, robustness
from planning.check.robust_facts import as_json
from planning.dose.forward import calculate
from planning.goals import parse_goal
from planning.machine import load_machine
from planning.plan import Plan, Prescription
from planning.scenarios import combined, corner_scenarios, density_scenarios, setup_scenarios

RX = Prescription(60.0, 30)
MACHINE = load_machine("generic-6mv")
EDGE = np.array([52.5, 52.5, 52.5])
GRID = axial(-EDGE, EDGE, (5.0, 5.0, 5.0))
WATER = Volume(torch.ones(1, *GRID.shape), GRID, Quantity.DENSITY)
DRAWN = StructureSet(
    GRID,
    {
        "CTV": Structure(sphere(GRID, np.zeros(3), 17.0), RoiType.CTV, (255, 0, 0)),
        "Organ": Structure(sphere(GRID, np.array([30.0, 0, 0]), 9.0), RoiType.ORGAN, (0, 0, 255)),
    },
)
GOALS = (
    parse_goal("CTV", "D98% >= 95%"),
    parse_goal("Organ", "D0.03cc <= 30 Gy"),
    parse_goal("Lens", "Dmax <= 10 Gy"),
)


def field(width: float, height: float, gantry: float = 0.0) -> Beam:
    """One open field."""
    edges = MACHINE.mlc.boundaries
    leaves = np.full((2, len(edges) - 1), width / 2)
    leaves[0] *= -1
    points = tuple(
        ControlPoint(m, gantry, (-width / 2, width / 2), (-height / 2, height / 2), leaves)
        for m in (0.0, 1.0)
    )
    return Beam(gantry, 0.0, 0.0, np.zeros(3), "1", 100.0, points)


def plan(*beams: Beam) -> Plan:
    return Plan(beams, RX, MACHINE.name)


def found(planned: Plan, scenarios, **more):
    return robustness(planned, scenarios, WATER, DRAWN, GOALS, ["CTV"], GRID, MACHINE, **more)


def test_the_plan_as_it_is_is_judged_as_ever():
    planned = plan(field(40, 40))
    told = found(planned, combined())
    dvhs = histograms(calculate(planned, WATER, GRID, MACHINE), DRAWN)
    for band, result in zip(told.bands, judge(GOALS, dvhs, RX), strict=True):
        assert (band.nominal, band.met, band.limit) == (result.value, result.met, result.limit)
        assert band.worst == band.nominal
        assert band.mean == band.nominal


def test_a_shift_along_the_beam_s_edge_opens_and_closes_the_field_over_an_organ():
    told = found(plan(field(40, 60)), setup_scenarios(5.0))
    organ = told.bands[1]
    # The organ lies to the left, beyond the field's edge at 20 mm: a patient who moves right brings it in.
    assert organ.where == "5 mm to the right"
    assert organ.worst > organ.mean > 0
    assert organ.worst > 1.2 * organ.nominal


def test_a_patient_shifted_along_x_has_the_dose_shifted_the_other_way():
    planned = plan(field(40, 40))
    by_shift = dict(
        zip(
            [s.name for s in setup_scenarios(5.0)],
            doses(planned, setup_scenarios(5.0), WATER, GRID, MACHINE),
            strict=True,
        )
    )
    here, left = by_shift["as planned"].data[0], by_shift["5 mm to the left"].data[0]
    # One voxel: what lay at x is now at x + 5 mm of the room, so that the patient sees the field 5 mm less.
    inner = slice(4, -4)
    assert torch.allclose(left[inner, inner, inner], here[5:-3, inner, inner], rtol=0.01, atol=0.02)


def test_a_body_that_moves_by_a_voxel_has_the_dose_moved_by_a_voxel():
    """The same phantom, drawn a voxel further left, under the beams where they stay."""
    ball = Volume(sphere(GRID, np.zeros(3), 38.0)[None].float(), GRID, Quantity.DENSITY)
    moved = Volume(torch.roll(ball.data, 1, dims=1), GRID, Quantity.DENSITY)
    planned = plan(field(40, 40))
    left = [s for s in setup_scenarios(5.0) if s.name == "5 mm to the left"]
    seen = next(doses(planned, left, ball, GRID, MACHINE)).data
    there = calculate(planned, moved, GRID, MACHINE).data
    # In the patient's own coordinates the dose in the room, a voxel back.
    assert torch.allclose(seen, torch.roll(there, -1, dims=1), atol=1e-3)
    assert float(seen.max()) > 30


def test_denser_tissue_has_the_dose_of_as_much_more_water():
    k = 1.2
    deep = axial(np.array([-22.5, -102.5, -22.5]), np.array([22.5, 102.5, 22.5]), (5.0, 5.0, 5.0))
    water = Volume(torch.ones(1, *deep.shape), deep, Quantity.DENSITY)
    sigma = Volume(water.data * (k - 1), deep, Quantity.DENSITY)
    planned = plan(field(40, 40))
    plain, _, denser = (
        d.data[0, 4, :, 4] for d in doses(planned, density_scenarios(), water, deep, MACHINE, deviation=sigma)
    )
    # On the axis at depth z the dose is that of the depth k z in water, but for the inverse square.
    z = 2.5 + 5.0 * np.arange(deep.shape[1])
    from_source = MACHINE.sad - 102.5 + z
    there = np.interp(k * z, z, np.log(plain.numpy() * from_source**2))
    expected = np.exp(there) / from_source**2
    beyond = (z > 20) & (k * z < z[-1])
    assert np.allclose(denser.numpy()[beyond], expected[beyond], rtol=0.003)


def test_every_goal_is_told_in_every_scenario_and_histograms_lie_between_their_bands():
    scenarios = setup_scenarios(5.0)
    told = found(plan(field(40, 60)), scenarios)
    seen = [histograms(d, DRAWN) for d in doses(plan(field(40, 60)), scenarios, WATER, GRID, MACHINE)]
    for dvhs, results in zip(seen, told.results, strict=True):
        assert [r.value for r in results] == [r.value for r in judge(GOALS, dvhs, RX)]
    for name, band in told.envelopes.items():
        all_of_them = np.stack([curve(dvhs[name], band.doses) for dvhs in seen])
        assert np.array_equal(band.nominal, all_of_them[0])
        assert np.array_equal(band.low, all_of_them.min(axis=0))
        assert np.array_equal(band.high, all_of_them.max(axis=0))
    assert (told.envelopes["Organ"].high > told.envelopes["Organ"].nominal + 5).any()


def test_corners_are_as_far_away_as_the_axes():
    corners = corner_scenarios(3.0)
    assert len(corners) == 9
    assert [np.linalg.norm(s.shift) for s in corners[1:]] == pytest.approx([3.0] * 8)
    assert corners[1].name == "3 mm to the left, back and head"
    assert sum(s.probability for s in corners) == pytest.approx(1)
    with pytest.raises(ValueError, match="at most 20 mm"):
        corner_scenarios(21.0)


def test_a_beam_as_wide_as_it_must_be_keeps_the_target_covered():
    planned = plan(field(80, 80))
    dose = calculate(planned, WATER, GRID, MACHINE)
    at_target = mean(histograms(dose, DRAWN)["CTV"])
    wide_told, narrow_told = (
        found(plan(replace(field(width, width), mu=100.0 * 64 / at_target)), setup_scenarios(5.0)).coverage[0]
        for width in (80, 36)
    )
    assert wide_told.worst > narrow_told.worst + 5
    assert narrow_told.worst < narrow_told.nominal


def test_without_deviation_denser_scenarios_are_the_plan_as_it_is():
    none = Volume(torch.zeros_like(WATER.data), GRID, Quantity.DENSITY)
    told = found(plan(field(40, 40)), density_scenarios(), deviation=none)
    for band in told.bands[:2]:
        assert band.worst == band.nominal
        assert band.mean == pytest.approx(band.nominal)


def test_a_mean_is_weighted_by_probability_and_a_missing_structure_is_told():
    likely = (0.4, 0.3, 0.2, 0.1)
    made = [replace(s, probability=p) for s, p in zip(setup_scenarios(3.0), likely, strict=False)]
    dvhs = [{"CTV": Dvh(np.full(10, d, dtype=np.float32), 1.0)} for d in (60.0, 58.0, 56.0, 50.0)]
    ctv, organ, _ = bands(GOALS, dvhs, made, RX)
    assert (ctv.nominal, ctv.mean, ctv.worst) == pytest.approx((60, 57.6, 50))
    assert ctv.where == made[3].name
    assert ctv.met is False
    assert organ.met is None
    assert "no structure Organ" in organ.reason


def test_it_is_told_in_plain_values():
    told = json.loads(json.dumps(as_json(found(plan(field(40, 40)), setup_scenarios(3.0)))))
    assert len(told["scenarios"]) == 7
    assert told["v95_percent"]["CTV"]["worst"] <= told["v95_percent"]["CTV"]["nominal"]
    assert told["goals"][2]["met_in_all"] is None
