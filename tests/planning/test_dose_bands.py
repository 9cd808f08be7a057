"""Bands of a plan's dose: how often they hold, and what they follow from."""

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.check.dose_bands import POINTS, dose_bands, inside, prediction, widths_off
from planning.check.dvh import Dvh, histograms
from planning.dose.forward import calculate
from planning.machine import load_machine
from planning.plan import Plan, Prescription

MACHINE = load_machine("generic-6mv")
EDGE = np.array([50.0, 50.0, 50.0])
GRID = axial(-EDGE, EDGE, (5.0, 5.0, 5.0))
DRAWN = StructureSet(
    GRID,
    {"CTV": Structure(sphere(GRID, np.zeros(3), 15.0), RoiType.CTV, (255, 0, 0))},
)


def plan() -> Plan:
    """One open field of 6 × 6 cm²."""
    leaves = np.full((2, len(MACHINE.mlc.boundaries) - 1), 30.0)
    leaves[0] *= -1
    points = tuple(ControlPoint(m, 0.0, (-30.0, 30.0), (-30.0, 30.0), leaves) for m in (0.0, 1.0))
    beam = Beam(0.0, 0.0, 0.0, np.zeros(3), "1", 100.0, points)
    return Plan((beam,), Prescription(60.0, 30), MACHINE.name)


def water(times: float) -> Volume:
    return Volume(torch.full((1, *GRID.shape), times), GRID, Quantity.DENSITY)


def test_the_interval_is_that_of_another_draw() -> None:
    """Student's t with 9 degrees of freedom has its 95th percentile at 1.8331 (published tables)."""
    assert prediction(0.9, 10) == pytest.approx(1.8331 * np.sqrt(1.1), rel=1e-4)
    draws = np.random.default_rng(0).normal(size=(20000, 6))
    mean, sd = draws[:, :5].mean(axis=1), draws[:, :5].std(axis=1, ddof=1)
    held = np.abs(draws[:, 5] - mean) <= prediction(0.9, 5) * sd
    assert held.mean() == pytest.approx(0.9, abs=0.01)


def test_mean_and_spread_are_those_of_the_doses_one_by_one() -> None:
    times = (0.96, 1.0, 1.03, 1.05)
    each = torch.stack([calculate(plan(), water(t), GRID, MACHINE).data[0] for t in times])
    told: list[float] = []
    found = dose_bands(
        plan(),
        (water(t) for t in times),
        DRAWN,
        GRID,
        MACHINE,
        n_draws=4,
        progress=lambda _, share: told.append(share),
    )
    assert torch.allclose(found.mean.data[0], each.mean(dim=0), atol=1e-3)
    assert torch.allclose(found.deviation.data[0], each.std(dim=0), atol=1e-2)
    assert told == [0.25, 0.5, 0.75, 1.0]
    # Denser tissue in front takes dose from what lies deep.
    lower, upper = (histograms(calculate(plan(), water(t), GRID, MACHINE), DRAWN) for t in (1.3, 1.0))
    assert all(inside(found.bands, upper)["CTV"])
    assert not any(inside(found.bands, lower)["CTV"])
    assert min(widths_off(found.bands, lower)) > 1 > max(widths_off(found.bands, upper))


def test_a_ct_that_is_known_has_no_band_and_a_factor_widens() -> None:
    same = dose_bands(plan(), [water(1.0)] * 3, DRAWN, GRID, MACHINE, n_draws=3)
    assert float(same.deviation.data.max()) < 1e-4
    band = same.bands["CTV"]
    assert np.allclose(band.high, band.low, atol=1e-3)
    assert list(band.shares) == list(POINTS)
    some = [water(t) for t in (0.98, 1.0, 1.02)]
    narrow, wide = (
        dose_bands(plan(), some, DRAWN, GRID, MACHINE, n_draws=3, factor=f).bands["CTV"] for f in (1.0, 2.0)
    )
    assert np.allclose(wide.high - wide.mean, 2 * (narrow.high - narrow.mean))


def test_an_organ_without_dose_keeps_a_band_that_starts_at_nothing() -> None:
    dvh = Dvh(np.zeros(4, dtype=np.float32), 1.0)
    found = dose_bands(plan(), [water(t) for t in (0.9, 1.0, 1.1)], DRAWN, GRID, MACHINE, n_draws=3)
    assert min(found.bands["CTV"].low) >= 0
    assert inside(found.bands, {"CTV": dvh})["CTV"] == [False] * len(POINTS)


def test_too_few_draws_and_senseless_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 3 densities or more"):
        dose_bands(plan(), [water(1.0)] * 2, DRAWN, GRID, MACHINE, n_draws=2)
    with pytest.raises(ValueError, match="share between 0 and 1"):
        dose_bands(plan(), [], DRAWN, GRID, MACHINE, n_draws=3, share=1.0)
