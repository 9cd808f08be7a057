"""Linear models that mimic planning objectives: optima that are known by hand."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from planning.dose.bixels import Bixels
from planning.dose.influence import Influence, apply
from planning.optimise.linear_matrix import merged, sparse, split, squares
from planning.optimise.linear_mimic import (
    MOST_BIXELS,
    Gap,
    gap_of,
    mimic_linearly,
)
from planning.optimise.linear_objectives import Asked, Kind, objectives_of

# One bixel that gives a target's point 2 Gy and an organ's 1 Gy, predicted to be 10 Gy and 3 Gy.
BOTH = csr_array(np.array([[2.0], [1.0]]))
REGIONS = {"PTV": torch.tensor([0]), "cord": torch.tensor([1])}
FORETOLD = np.array([10.0, 3.0])
RX = {"PTV": 10.0}


def test_excess_and_lack_are_means_over_all_points():
    dose = np.array([0.0, 4.0, 8.0, 12.0])
    assert Asked("a", Kind.EXCESS, 6.0).value(dose) == pytest.approx((2 + 6) / 4)
    assert Asked("a", Kind.LACK, 6.0).value(dose) == pytest.approx((6 + 2) / 4)
    assert Asked("a", Kind.MEAN).value(dose) == pytest.approx(6.0)
    assert Asked("a", Kind.MAXIMUM).value(dose) == pytest.approx(12.0)


def test_an_organ_has_seven_objectives_and_a_target_three():
    asked = objectives_of(REGIONS | {"empty": torch.tensor([], dtype=torch.int64)}, FORETOLD, RX)
    assert len([a for a in asked if a.structure == "cord"]) == 7
    assert [(a.kind, a.level) for a in asked if a.structure == "PTV"] == [
        (Kind.MAXIMUM, 0.0),
        (Kind.EXCESS, 10.5),
        (Kind.LACK, 10.0),
    ]
    assert "empty" not in {a.structure for a in asked}


def test_worst_absolute_gap_balances_organ_and_target():
    # w - 3 of the organ equals 10 - 2 w of the target at w = 13/3.
    found = mimic_linearly(BOTH, REGIONS, FORETOLD, RX, Gap.MAX_ABSOLUTE)
    assert found.weights[0] == pytest.approx(13 / 3, abs=1e-5)
    assert gap_of(found, Gap.MAX_ABSOLUTE) == pytest.approx(4 / 3, abs=1e-5)


def test_sum_of_absolute_gaps_spares_what_more_objectives_ask():
    # The organ's seven objectives rise by 7 a unit of weight, the target's lack falls by 2: stop at w = 3.
    found = mimic_linearly(BOTH, REGIONS, FORETOLD, RX, Gap.MEAN_ABSOLUTE)
    assert found.weights[0] == pytest.approx(3.0, abs=1e-5)
    assert gap_of(found, Gap.MEAN_ABSOLUTE) == pytest.approx(4.0 / 10, abs=1e-5)


@pytest.mark.parametrize("gap", [Gap.MAX_RELATIVE, Gap.MEAN_RELATIVE])
def test_relative_models_keep_a_coverage_that_is_predicted_to_be_whole(gap):
    # No lack is predicted, so none may be: 2 w = 10, whatever the organ gets.
    found = mimic_linearly(BOTH, REGIONS, FORETOLD, RX, gap)
    assert found.weights[0] == pytest.approx(5.0, abs=1e-4)


def test_worst_relative_gap_is_that_of_the_hottest_part():
    # 5 Gy instead of 3 Gy: (5 - 3) / (3 - 0.975 * 3) for the excess over 97.5 % of the greatest dose.
    found = mimic_linearly(BOTH, REGIONS, FORETOLD, RX, Gap.MAX_RELATIVE)
    assert gap_of(found, Gap.MAX_RELATIVE) == pytest.approx(2 / 0.075, rel=1e-4)


def _reachable() -> tuple[csr_array, dict[str, torch.Tensor], np.ndarray]:
    random = np.random.default_rng(2)
    table = random.random((60, 15)) * (random.random((60, 15)) < 0.5)
    table[:, 0] = 0.2
    dose = table @ random.random(15)
    parts = {"PTV": torch.arange(20), "cord": torch.arange(20, 40), "parotid": torch.arange(35, 60)}
    return csr_array(table), parts, dose * 70.0 / dose.max()


@pytest.mark.parametrize("gap", list(Gap))
def test_what_bixels_can_give_is_reached_in_all_objectives(gap):
    matrix, regions, dose = _reachable()
    found = mimic_linearly(matrix, regions, dose, {"PTV": 65.0}, gap)
    assert gap_of(found, gap) <= 1e-5
    assert (found.achieved <= found.predicted * (1 + 1e-5) + 1e-5).all() or gap.of_the_worst
    assert found.weights.min() >= 0
    np.testing.assert_allclose(found.dose, matrix @ found.weights)


def test_no_point_gets_more_than_82_of_70():
    # Nothing else than the limit holds back a point that no objective is asked of.
    matrix = csr_array(np.array([[1.0], [2.0]]))
    found = mimic_linearly(matrix, {"PTV": torch.tensor([0])}, np.array([70.0, 0.0]), {"PTV": 70.0})
    assert found.dose[1] == pytest.approx(82.0, rel=1e-6)


def test_dense_blocks_and_sparse_rows_give_one_dose():
    values = torch.tensor([1.0, 2.0, 0.0, 3.0, 5.0, 7.0])
    matrix = Influence(
        values,
        torch.tensor([0, 2, 1, 2], dtype=torch.int32),
        torch.tensor([0, 1, 2], dtype=torch.int32),
        np.array([[2, 2], [2, 1]]),
        3,
        (0, 3),
        (0, 2),
    )
    weights = torch.tensor([1.0, 2.0, 4.0])
    rows = sparse(matrix, 2.0)
    np.testing.assert_allclose(rows @ weights.numpy(), 2 * apply(matrix, weights).numpy())
    assert rows.nnz == 5


def _beams() -> list[Bixels]:
    x, y = np.meshgrid(np.arange(4) * 5.0 - 7.5, np.arange(4) * 5.0 - 7.5, indexing="ij")
    place = np.stack([x.ravel(), y.ravel()], axis=1)
    return [Bixels(place), Bixels(place)]


def test_squares_of_10_mm_hold_four_bixels_of_5_mm_of_one_beam():
    groups = squares(_beams(), 10.0)
    assert np.bincount(groups).tolist() == [4] * 8
    assert set(groups[:16]).isdisjoint(groups[16:])
    # Neighbours along y, and the next square along x.
    assert groups[0] == groups[1] == groups[4] == groups[5] != groups[8]
    with pytest.raises(ValueError, match="no smaller than bixels"):
        squares(_beams(), 4.0)


def test_merged_bixels_give_the_dose_of_even_weights():
    random = np.random.default_rng(3)
    table, groups = csr_array(random.random((5, 32))), squares(_beams(), 10.0)
    weights = random.random(8)
    np.testing.assert_allclose(merged(table, groups) @ weights, table @ weights[groups])


def test_a_split_is_exact_for_even_weights_of_a_group():
    random = np.random.default_rng(4)
    table, groups = csr_array(random.random((6, 32)) ** 4), squares(_beams(), 10.0)
    parts = split(table, groups, 0.3)
    assert 0 < parts.near.nnz < table.nnz
    weights = random.random(8)
    sums = np.bincount(groups, weights=weights[groups])
    np.testing.assert_allclose(parts.near @ weights[groups] + parts.far @ sums, table @ weights[groups])
    with pytest.raises(ValueError, match="each of 32 bixels"):
        split(table, groups[:-1])


def test_a_search_on_a_split_that_drops_nothing_is_the_search_itself():
    whole = split(BOTH, np.zeros(1, dtype=np.int64), 0.0)
    found = mimic_linearly(BOTH, REGIONS, FORETOLD, RX, Gap.MAX_ABSOLUTE, whole)
    assert found.weights[0] == pytest.approx(13 / 3, abs=1e-5)


def test_a_search_on_lumped_scatter_finds_what_even_weights_can_give():
    # The two bixels are one group; the organ's dose is lumped, the optimum is even.
    matrix = csr_array(np.array([[2.0, 0.0], [0.0, 2.0], [0.4, 0.6]]))
    regions = {"PTV": torch.tensor([0, 1]), "cord": torch.tensor([2])}
    parts = split(matrix, np.zeros(2, dtype=np.int64), 0.5)
    assert parts.near.nnz == 2
    foretold = np.array([10.0, 10.0, 3.0])
    found = mimic_linearly(matrix, regions, foretold, RX, Gap.MAX_RELATIVE, parts)
    np.testing.assert_allclose(found.weights, [5.0, 5.0], rtol=1e-4)
    assert found.dose[2] == pytest.approx(5.0, rel=1e-4)


def test_a_coverage_that_no_bixel_can_keep_is_refused():
    # The target's second point sees no bixel, and no lack is predicted.
    matrix = csr_array(np.array([[2.0], [0.0]]))
    with pytest.raises(ValueError, match="compare absolute differences"):
        mimic_linearly(matrix, {"PTV": torch.tensor([0, 1])}, np.full(2, 10.0), RX, Gap.MAX_RELATIVE)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"reference": np.array([1.0])}, "2 points"),
        ({"reference": np.array([1.0, np.nan])}, "0 Gy or more"),
        ({"regions": {"cord": torch.tensor([1])}}, "PTV without"),
        ({"regions": {"PTV": torch.tensor([2])}}, "points 0 to 1"),
        ({"prescriptions": {}}, "expected targets"),
        ({"matrix": csr_array(np.array([[np.inf], [1.0]]))}, "finite doses"),
        ({"matrix": csr_array((2, MOST_BIXELS + 1))}, "wider bixels"),
        ({"rough": split(csr_array(np.ones((3, 1))), np.zeros(1, dtype=np.int64))}, "rough matrix"),
    ],
)
def test_what_does_not_fit_is_refused(change, says):
    given = {"matrix": BOTH, "regions": REGIONS, "reference": FORETOLD, "prescriptions": RX} | change
    with pytest.raises(ValueError, match=says):
        mimic_linearly(**given)
