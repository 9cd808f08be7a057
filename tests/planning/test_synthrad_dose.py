"""SynthRAD's dose metrics on doses whose figures are worked out by hand."""

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.volume import Quantity, Volume
from planning.check.dvh import Dvh
from planning.check.synthrad_dose import PlanHistograms, dvh_metric, high_dose_error, most_irradiated

RX = 60.0


def cube(*rows: float) -> Volume:
    """A dose of one number in each plane."""
    grid = axial(np.zeros(3), np.array([float(len(rows)), 3.0, 3.0]), (1.0, 1.0, 1.0))
    data = torch.tensor(rows)[:, None, None].expand(1, *grid.shape).clone()
    return Volume(data, grid, Quantity.DOSE)


def dvh(*parts: tuple[float, float], cc: float = 10.0) -> Dvh:
    """Shares (%) of a structure with a dose (Gy) each."""
    doses = np.concatenate([np.full(round(10 * percent), gy, dtype=np.float32) for percent, gy in parts])
    return Dvh(np.sort(doses), cc)


def head(target: float, isodose: float, **organs: Dvh) -> PlanHistograms:
    """A target of 10 cm³ with one dose, in a body of 100 cm³ of which a share (%) has 60 Gy."""
    body = dvh((isodose, RX), (100 - isodose, 1.0), cc=100.0)
    return PlanHistograms(dvh((100, target)), body, organs)


def test_dose_error_counts_where_the_true_dose_reaches_nine_tenths() -> None:
    true = cube(60.0, 54.0, 53.9, 0.0)
    found = cube(61.2, 52.2, 0.0, 60.0)
    # 1.2 and 1.8 Gy in the first two planes; in the others the true dose is too low.
    assert high_dose_error(found, true, RX) == pytest.approx((1.2 + 1.8) / 2 / 60, rel=1e-5)
    assert high_dose_error(true, true, RX) == 0


def test_dvh_metric_adds_target_conformity_and_the_mean_over_organs() -> None:
    # 95 % isodoses of 20 and 25 cm³ around 10 cm³: conformity 10² / (10 · 20) = 0.5, and 0.4.
    truth = head(60.0, 20, A=dvh((100, 30)), B=dvh((100, 20)), C=dvh((100, 10)), D=dvh((100, 5)))
    found = head(58.0, 25, A=dvh((100, 33)), B=dvh((100, 20)), C=dvh((100, 9)), D=dvh((100, 50)))
    of_target = 2 / 60 + 0.1 / 0.5
    of_organs = (2 * 3 / 30 + 0 + 2 * 1 / 10) / 3  # D is a fourth
    assert dvh_metric(found, truth, RX) == pytest.approx(of_target + of_organs, rel=1e-5)
    assert dvh_metric(truth, truth, RX) == 0
    assert dvh_metric(head(58.0, 25), head(60.0, 20), RX) == pytest.approx(of_target, rel=1e-5)


def test_d2_and_mean_of_an_organ_count_each() -> None:
    # Half of the organ at 40 Gy: D2% 40 and mean 20, beside 44 and 22 - 0.1 · 40.
    truth = head(60.0, 20, A=dvh((50, 40), (50, 0)))
    found = head(60.0, 20, A=dvh((40, 44), (60, 0)))
    assert dvh_metric(found, truth, RX) == pytest.approx(4 / 40 + abs(17.6 - 20) / 20, rel=1e-5)


def test_organs_are_chosen_by_d5_and_mean_together() -> None:
    organs = {
        "Even": dvh((100, 20)),  # (20 + 20) / 2
        "Spot": dvh((10, 50), (90, 0)),  # (50 + 5) / 2
        "Cold": dvh((100, 1)),
        "Warm": dvh((100, 8)),
        "None": dvh((100, 0)),
    }
    assert most_irradiated(organs) == ("Spot", "Even", "Warm")
    assert most_irradiated({"None": organs["None"]}) == ()


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="reaches 90 % of 60 Gy"):
        high_dose_error(cube(60.0, 60.0), cube(50.0, 50.0), RX)
    with pytest.raises(ValueError, match="on one grid"):
        high_dose_error(cube(60.0), cube(60.0, 60.0), RX)
    for truth in (head(0.0, 20), head(50.0, 20)):
        with pytest.raises(ValueError, match="95 % isodose"):
            dvh_metric(head(60.0, 20), truth, RX)
