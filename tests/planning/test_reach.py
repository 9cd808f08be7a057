from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.phantoms import ellipsoid, sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.arrange import arrange
from planning.beams import project
from planning.goals import brain_goals, parse_goal
from planning.machine import load_machine
from planning.optimise.automatic import plan_automatically
from planning.optimise.making import Task
from planning.optimise.reach import reaching
from planning.optimise.trade_off import trade_off
from planning.plan import Prescription

RX = Prescription(60.0, 30)
MACHINE = load_machine("generic-6mv")
EDGE = np.array([60.0, 60.0, 40.0])
GRID = axial(-EDGE, EDGE, (5.0, 5.0, 5.0))
BODY = ellipsoid(GRID, np.zeros(3), EDGE - 4)
WATER = Volume(BODY[None].float(), GRID, Quantity.DENSITY)
CENTER = np.array([12.0, 0, 0])


def drawn(center=CENTER, radius=14.0):
    return StructureSet(
        GRID,
        {
            "Body": Structure(BODY, RoiType.EXTERNAL, (0, 255, 0)),
            "PTV": Structure(sphere(GRID, center, radius), RoiType.PTV, (255, 0, 0), 60.0),
            "Brainstem": Structure(sphere(GRID, np.array([-8.0, 0, 0]), 10.0), RoiType.ORGAN, (0, 0, 255)),
        },
    )


BEAMS = arrange(drawn(), 3)
GOALS = brain_goals()
PAIR = (parse_goal("PTV", "D98% >= 95%"), parse_goal("Brainstem", "D0.03cc <= 60 Gy"))


def turned(**angles):
    return tuple(replace(beam, **angles) for beam in BEAMS)


def with_a_hole():
    data = WATER.data.clone()
    data[0, 12, 12, 8] = torch.nan
    return Volume(data, GRID, Quantity.DENSITY)


def test_bixels_reach_beyond_the_target_by_the_margin_and_no_further_than_whole_bixels():
    for beam, bixels in zip(BEAMS, reaching(drawn(), WATER, BEAMS, MACHINE, GRID, margin=10.0), strict=True):
        seen = project(beam, CENTER[None], MACHINE.sad)[0]
        away = np.abs(bixels.positions - seen).max(axis=0)
        # 14 mm of sphere and 10 mm of margin, magnified by 3 % at most; centres lie in whole bixels of 5 mm.
        assert (away > 14 + 10 - 5).all()
        assert (away < 1.03 * 14 + 10 + 5).all()


WRONG = {
    "no beam": ({"beams": ()}, "one or more beams, got none"),
    "beams beside the patient": ({"density": replace(WATER, data=0 * WATER.data)}, "target in the body"),
    "isocentre outside the scan": ({"beams": turned(isocenter=np.array([90.0, 0, 0]))}, "inside the scan"),
    "isocentre that is no number": ({"beams": turned(isocenter=np.full(3, np.nan))}, "finite isocentre"),
    "couch beyond its range": ({"beams": turned(couch=120.0)}, "couch angle from 265 to 95 degrees"),
    "gantry that is no angle": ({"beams": turned(gantry=400.0)}, "gantry angle of 0-360 degrees"),
    "target without a voxel": ({"structures": drawn(radius=0.1)}, "target with voxels in it"),
    "target in air": ({"structures": drawn(np.array([52.0, 48.0, 0.0]), 6.0)}, "got 100.0 % of it outside"),
    "target out of the dose grid": (
        {"dose_grid": axial(np.array([10.0, -60, -40]), EDGE, (5.0, 5.0, 5.0))},
        "dose grid that holds the target",
    ),
    "density that is no number": ({"density": with_a_hole()}, "got 1 NaN or infinite voxels"),
    "dose grid coarser than the bixels": (
        {"dose_grid": axial(-EDGE, EDGE, (3.0, 3.0, 6.0))},
        "no coarser than the bixels, 5 mm, got voxels of 6 mm",
    ),
    "goals that contradict each other": (
        {"goals": (*GOALS, parse_goal("PTV", "Dmax <= 50 Gy"))},
        "goals that one dose can meet",
    ),
}


def given(changes):
    return {
        "density": WATER,
        "structures": drawn(),
        "prescription": RX,
        "machine": MACHINE,
        "beams": BEAMS,
        "goals": GOALS,
        "dose_grid": GRID,
    } | changes


@pytest.fixture
def before_any_dose(monkeypatch):
    """Nothing may be computed before the refusal."""

    def computed(*_args, **_more):
        raise AssertionError("dose was computed")

    monkeypatch.setattr("planning.optimise.making.influence", computed)
    monkeypatch.setattr("planning.optimise.trade_off.influence", computed)


@pytest.mark.usefixtures("before_any_dose")
@pytest.mark.parametrize(("changes", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_planned_is_refused_in_one_sentence_before_any_dose(changes, sentence):
    with pytest.raises(ValueError, match=sentence) as one:
        plan_automatically(Task(**given(changes)))
    with pytest.raises(ValueError, match=sentence) as other:
        trade_off(PAIR, **given(changes))
    for told in (one, other):
        assert "\n" not in str(told.value)
        assert str(told.value).startswith("expected ")


def test_a_matrix_that_would_not_fit_is_foreseen_with_the_remedy(monkeypatch):
    monkeypatch.setattr("planning.dose.memory.free_bytes", lambda _device: 2**20)
    for make in (lambda **given: plan_automatically(Task(**given)), lambda **given: trade_off(PAIR, **given)):
        with pytest.raises(MemoryError, match=r"influence matrix of \d+ points .* use fewer points"):
            make(**given({}))
