"""Patients beside a training set, and goals beside a foretold dose."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.check.dvh import parts_of
from planning.goals import parse_goal
from planning.plan import Prescription
from planning.predict.alike import known_of, traits_of, unlike
from planning.predict.channels import seen
from planning.predict.patient import Patient
from planning.predict.prospects import Reach, prospects
from planning.predict.site import read_site

SITE = read_site("brain")
GRID = axial(np.full(3, -60.0), np.full(3, 60.0), (4.0, 4.0, 4.0))
BODY = sphere(GRID, np.zeros(3), 50.0)
CC_OF_BALL = 4 / 3 * np.pi


def patient(radius: float, x: float = 20.0) -> Patient:
    """A ball to treat beside another that is the brainstem."""
    drawn = {
        "PTV": Structure(sphere(GRID, np.array([x, 0.0, 0.0]), radius), RoiType.PTV, (255, 0, 0), 60.0),
        "Brainstem": Structure(sphere(GRID, np.array([-20.0, 0.0, 0.0]), 8.0), RoiType.ORGAN, (0, 0, 255)),
    }
    return Patient(
        Volume(torch.where(BODY, 0.0, -1000.0)[None], GRID, Quantity.HU),
        StructureSet(GRID, drawn),
        Volume(BODY[None].to(torch.uint8), GRID, Quantity.LABEL),
    )


def traits(one: Patient) -> dict[str, float]:
    there = seen(one, SITE, style="balanced")
    return traits_of(there.bits, there.known, there.grid.spacing.tolist(), SITE)


def test_traits_are_volumes_distances_and_overlaps_that_can_be_worked_out() -> None:
    found = traits(patient(14.0))
    assert found["number of targets"] == 1
    drawn = float(patient(14.0).structures.mask("PTV").sum()) * GRID.voxel_volume / 1000
    assert found["volume of PTV (cm³)"] == pytest.approx(drawn, rel=0.02)
    assert drawn == pytest.approx(CC_OF_BALL * 1.4**3, rel=0.15)
    assert found["volume where dose may be (cm³)"] == pytest.approx(CC_OF_BALL * 5.0**3, rel=0.05)
    # Centres are 40 mm apart, radii 14 and 8; from voxel to voxel of 4 mm.
    assert 18.0 <= found["distance of Brainstem from the targets (mm)"] <= 18.0 + 8.0
    assert found["share of Brainstem in the targets (%)"] == 0
    over = traits(patient(14.0, x=-20.0))
    assert over["distance of Brainstem from the targets (mm)"] == 0
    assert over["share of Brainstem in the targets (%)"] == 100
    assert not any("OpticChiasm" in name for name in found)


def test_a_patient_like_the_others_is_not_told_of_and_a_strange_one_is() -> None:
    learnt = [traits(patient(radius)) for radius in np.linspace(10, 16, 12)]
    known = known_of(learnt)
    low, middle, high = known["volume of PTV (cm³)"]
    assert low < middle < high
    assert unlike(traits(patient(13.0)), known) == []
    larger = unlike(traits(patient(26.0)), known)
    assert any("volume of PTV" in why and "nearly all patients" in why for why in larger)
    over = unlike(traits(patient(13.0, x=-20.0)), known)
    assert any("share of Brainstem" in why for why in over)
    # Of few patients nothing can be said, nor of what nobody had.
    assert known_of(learnt[:9]) == {}
    assert unlike(traits(patient(26.0)), {}) == []


@pytest.mark.parametrize(
    ("limit", "reach"),
    [(27.9, Reach.OUT), (28.1, Reach.DOUBTFUL), (31.9, Reach.DOUBTFUL), (32.1, Reach.WITHIN)],
)
def test_goals_are_within_reach_where_even_the_worse_dose_meets_them(limit: float, reach: Reach) -> None:
    one = patient(14.0)
    dose = Volume(torch.full((1, *GRID.shape), 30.0), GRID, Quantity.DOSE)
    sigma = replace(dose, data=torch.ones_like(dose.data))
    goals = [parse_goal("Brainstem", f"Dmean <= {limit} Gy"), parse_goal("PTV", "D95% >= 30 Gy")]
    organ, target = prospects(goals, dose, sigma, parts_of(one.structures), Prescription(60.0, 30))
    assert (organ.value, organ.best, organ.worst) == pytest.approx((30.0, 28.0, 32.0), abs=0.01)
    assert organ.reach is reach
    assert str(reach) in organ.words
    # A target's better dose is the higher one.
    assert (target.best, target.worst) == pytest.approx((32.0, 28.0), abs=0.01)
    assert target.reach is Reach.DOUBTFUL


def test_two_grids_are_refused() -> None:
    dose = Volume(torch.zeros(1, *GRID.shape), GRID, Quantity.DOSE)
    other = axial(np.zeros(3), np.full(3, 40.0), (4.0, 4.0, 4.0))
    sigma = Volume(torch.zeros(1, *other.shape), other, Quantity.DOSE)
    with pytest.raises(ValueError, match="on one grid, got two"):
        prospects([], dose, sigma, parts_of(patient(10.0).structures), Prescription(60.0, 30))
