import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from planning.optimise.dose_volume import (
    AtLeast,
    AtMost,
    ColdestMean,
    Eud,
    HottestMean,
    Linear,
    MaxDvh,
    Mean,
    MinDvh,
    extreme,
)
from planning.optimise.objectives import (
    SquaredDeviation,
    SquaredMean,
    SquaredOverdose,
    SquaredUnderdose,
    Uniformity,
    evaluate,
    prepare,
    resolve_overlaps,
)
from planning.optimise.voxelwise import FallOff, Mimic

ALL = [
    SquaredDeviation("a", 2.0, 3.0),
    SquaredOverdose("a", 1.0, 5.0),
    SquaredUnderdose("b", 1.5, 7.0),
    SquaredMean("b", 0.0, 11.0),
    SquaredMean("b", 0.5, 2.0),
]
VOXELS = {"a": torch.tensor([0, 1, 2, 5]), "b": torch.tensor([2, 3, 4])}


def test_no_dose_in_a_target_costs_priority_times_dose_squared():
    value, _ = evaluate([SquaredDeviation("a", 3.0, 100.0)], VOXELS, torch.zeros(6))
    assert value == pytest.approx(900.0)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (SquaredDeviation("b", 2.0, 2.0), 2.0 * (1 + 0 + 4) / 3),
        (SquaredOverdose("b", 2.0, 2.0), 2.0 * 4 / 3),
        (SquaredUnderdose("b", 2.0, 2.0), 2.0 * 1 / 3),
        (SquaredMean("b", 0.0, 2.0), 2.0 * (7 / 3) ** 2),
        (SquaredMean("b", 1.0, 2.0), 2.0 * (4 / 3) ** 2),
        (SquaredMean("b", 3.0, 2.0), 0.0),
    ],
)
def test_terms_have_their_closed_form(objective, expected):
    dose = torch.tensor([0.0, 0.0, 1.0, 2.0, 4.0, 0.0])
    assert evaluate([objective], VOXELS, dose)[0] == pytest.approx(expected)


def test_gradient_equals_finite_differences():
    dose = torch.rand(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
    weights = torch.tensor([1.0, 2.0, 8.0, 1.0, 8.0, 3.0], dtype=torch.float64)
    _, gradient = evaluate(ALL, VOXELS, dose, weights)
    for n in range(6):
        step = torch.zeros(6, dtype=torch.float64)
        step[n] = 1e-6
        up, down = (evaluate(ALL, VOXELS, dose + s * step, weights)[0] for s in (1, -1))
        assert float(gradient[n]) == pytest.approx((up - down) / 2e-6, abs=1e-6)


def test_a_voxel_of_weight_three_counts_as_three_voxels():
    dose = torch.tensor([0.5, 4.0])
    weighted, _ = evaluate(
        [SquaredDeviation("a", 1.0)], {"a": torch.arange(2)}, dose, torch.tensor([3.0, 1.0])
    )
    repeated, _ = evaluate(
        [SquaredDeviation("a", 1.0)], {"a": torch.arange(4)}, torch.tensor([0.5, 0.5, 0.5, 4.0])
    )
    assert weighted == pytest.approx(repeated)


# Each term with its limit inside the spread of 0..3 Gy, so that it has something to say.
TERMS = [
    SquaredDeviation("a", 1.4, 3.0),
    SquaredOverdose("a", 1.2, 3.0),
    SquaredUnderdose("a", 1.8, 3.0),
    SquaredMean("a", 0.5, 3.0),
    Uniformity("a", 3.0),
    Linear("a", Mean(), 3.0),
    AtMost("a", Mean(), 0.7, 3.0),
    AtLeast("a", Mean(), 2.7, 3.0),
    Linear("a", Eud(8.0), 3.0),
    AtMost("a", Eud(3.0), 0.7, 3.0),
    AtLeast("a", Eud(-5.0), 2.7, 3.0),
    Linear("a", HottestMean(31.0), 3.0),
    AtMost("a", HottestMean(31.0), 0.7, 3.0),
    AtLeast("a", ColdestMean(31.0), 2.7, 3.0),
    MaxDvh("a", 0.7, 31.0, 3.0),
    MinDvh("a", 2.5, 69.0, 3.0),
    FallOff("a", torch.linspace(-1.0, 20.0, 40, dtype=torch.float64), 1.5, 0.3, 15.0, 3.0),
    Mimic("a", torch.linspace(2.0, 1.0, 40, dtype=torch.float64), over=0.5, under=2.0, priority=3.0),
]
WHOLE = {"a": torch.arange(40)}


def spread(n=40):
    return torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 3


def kinds(term):
    number = getattr(term, "number", None)
    return f"{type(term).__name__}-{type(number).__name__}" if number else type(term).__name__


@pytest.mark.parametrize("term", TERMS, ids=kinds)
def test_every_gradient_equals_finite_differences(term):
    dose = spread()
    weights = torch.randint(1, 9, (40,), generator=torch.Generator().manual_seed(4)).double()
    value, gradient = evaluate([term], WHOLE, dose, weights)
    assert value > 0
    step = 1e-6 * torch.eye(40, dtype=torch.float64)
    slopes = [
        (evaluate([term], WHOLE, dose + s, weights)[0] - evaluate([term], WHOLE, dose - s, weights)[0]) / 2e-6
        for s in step
    ]
    np.testing.assert_allclose(gradient.numpy(), slopes, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("term", TERMS, ids=kinds)
def test_a_point_of_weight_two_is_two_points_in_every_term(term):
    dose = spread()
    count = torch.randint(1, 4, (40,), generator=torch.Generator().manual_seed(5))
    value, gradient = evaluate([term], WHOLE, dose, count.double())
    parent = torch.repeat_interleave(torch.arange(40), count)
    wide = term.at(parent) if isinstance(term, FallOff | Mimic) else term
    repeated, slopes = evaluate([wide], {"a": torch.arange(len(parent))}, dose[parent])
    assert value == pytest.approx(repeated, rel=1e-12)
    summed = torch.zeros(40, dtype=torch.float64).index_add_(0, parent, slopes)
    np.testing.assert_allclose(gradient.numpy(), summed.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("term", TERMS, ids=kinds)
def test_the_priority_is_a_factor_of_every_term(term):
    value, gradient = evaluate([term], WHOLE, spread())
    twice, steeper = evaluate([replace(term, priority=6.0)], WHOLE, spread())
    assert twice == pytest.approx(2 * value)
    np.testing.assert_allclose(steeper.numpy(), 2 * gradient.numpy())


@pytest.mark.parametrize("a", [-20.0, -1.0, 1.0, 3.0, 50.0])
def test_the_equivalent_dose_of_a_uniform_dose_is_that_dose(a):
    value, slope = Eud(a).of(torch.full((7,), 1.7, dtype=torch.float64), torch.full((7,), 1 / 7).double())
    assert value == pytest.approx(1.7)
    np.testing.assert_allclose(slope.numpy(), 1 / 7, rtol=1e-6)


def test_the_equivalent_dose_goes_from_the_coldest_through_the_mean_to_the_hottest():
    dose, share = spread(), torch.full((40,), 1 / 40, dtype=torch.float64)
    assert Eud(1.0).of(dose, share)[0] == pytest.approx(float(dose.mean()))
    assert Eud(2.0).of(dose, share)[0] == pytest.approx(float(dose.square().mean().sqrt()))
    assert Eud(-1.0).of(dose, share)[0] == pytest.approx(1 / float((1 / dose).mean()))
    assert Eud(1e4).of(dose, share)[0] == pytest.approx(float(dose.max()), rel=1e-3)
    assert Eud(-1e4).of(dose, share)[0] == pytest.approx(float(dose.min()), rel=1e-3)


@pytest.mark.parametrize("a", [-20.0, 1.0, 40.0])
def test_the_equivalent_dose_of_nothing_and_of_much_has_a_finite_slope(a):
    for dose in (torch.zeros(5), torch.tensor([0.0, 1.0, 50.0, 80.0, 0.0])):
        value, slope = Eud(a).of(dose, torch.full((5,), 0.2))
        assert math.isfinite(value)
        assert bool(torch.isfinite(slope).all())
        assert float(slope.min()) >= 0


@pytest.mark.parametrize("a", [0.0, 0.5, float("nan")])
def test_an_exponent_whose_slope_has_no_bound_is_refused(a):
    with pytest.raises(ValueError, match="expected a of at least 1"):
        Eud(a)


def test_the_hottest_tenth_of_an_even_spread_has_its_mean_in_the_middle_of_it():
    dose = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000 * 60
    share = torch.full((1000,), 1e-3, dtype=torch.float64)
    assert HottestMean(10.0).of(dose, share)[0] == pytest.approx(57.0)
    assert ColdestMean(10.0).of(dose, share)[0] == pytest.approx(3.0)
    # All of the volume is the mean; a part smaller than a point is the extreme point.
    assert HottestMean(100.0).of(dose, share)[0] == pytest.approx(30.0)
    assert HottestMean(0.01).of(dose, share)[0] == pytest.approx(float(dose.max()))


def test_the_border_of_a_part_divides_a_point():
    # A quarter of five equal points is one and a quarter of them.
    taken = extreme(torch.tensor([1.0, 5.0, 2.0, 4.0, 3.0]), torch.full((5,), 0.2), 0.25, hottest=True)
    np.testing.assert_allclose(taken.numpy(), [0, 0.2, 0, 0.05, 0], atol=1e-7)


def test_a_dose_volume_term_is_zero_where_its_goal_is_met_and_only_there():
    # D10% of an even spread of 0..60 Gy is 54 Gy, D90% 6 Gy.
    dose = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000 * 60
    inside = {"a": torch.arange(1000)}
    assert evaluate([MaxDvh("a", 54.0, 10.0), MinDvh("a", 6.0, 90.0)], inside, dose)[0] == pytest.approx(0)
    assert evaluate([MaxDvh("a", 53.0, 10.0)], inside, dose)[0] > 1e-4
    assert evaluate([MinDvh("a", 7.0, 90.0)], inside, dose)[0] > 1e-4


def test_points_between_the_limit_and_the_dose_at_the_volume_pay():
    # D10% = 54, limit 48: those from 48 to 54 pay, which is the integral of (x - 48)² / 60 = 6³/3/60.
    dose = (torch.arange(6000, dtype=torch.float64) + 0.5) / 6000 * 60
    value, gradient = evaluate([MaxDvh("a", 48.0, 10.0)], {"a": torch.arange(6000)}, dose)
    assert value == pytest.approx(6**3 / 3 / 60, rel=1e-4)
    paying = gradient > 0
    assert 48 < float(dose[paying].min()) < float(dose[paying].max()) < 54
    assert float(gradient.min()) == 0


def test_a_dose_volume_term_of_no_volume_is_over_or_underdose():
    dose = spread()
    assert (
        evaluate([MaxDvh("a", 1.0, 0.0)], WHOLE, dose)[0]
        == evaluate([SquaredOverdose("a", 1.0)], WHOLE, dose)[0]
    )
    assert (
        evaluate([MinDvh("a", 1.0, 100.0)], WHOLE, dose)[0]
        == evaluate([SquaredUnderdose("a", 1.0)], WHOLE, dose)[0]
    )


def test_uniformity_is_the_variance_and_does_not_see_the_mean():
    value, gradient = evaluate([Uniformity("a")], WHOLE, spread())
    assert value == pytest.approx(float(spread().var(unbiased=False)))
    assert evaluate([Uniformity("a")], WHOLE, spread() + 5)[0] == pytest.approx(value)
    assert float(gradient.sum()) == pytest.approx(0, abs=1e-12)


def test_dose_may_fall_along_its_line_for_nothing():
    distance = torch.tensor([0.0, 5.0, 10.0, 20.0], dtype=torch.float64)
    line = FallOff("a", distance, 2.0, 1.0, 10.0)
    inside = {"a": torch.arange(4)}
    along = torch.tensor([2.0, 1.5, 1.0, 1.0], dtype=torch.float64)
    assert evaluate([line], inside, along)[0] == 0
    assert evaluate([line], inside, along - 0.5)[0] == 0
    assert evaluate([line], inside, along + 0.1)[0] == pytest.approx(0.01)


def test_a_mimicked_dose_costs_nothing_and_lack_and_excess_have_their_own_factors():
    reference = spread()
    term = Mimic("a", reference, over=2.0, under=3.0)
    assert evaluate([term], WHOLE, reference.clone())[0] == 0
    assert evaluate([term], WHOLE, reference + 0.1)[0] == pytest.approx(0.02)
    assert evaluate([term], WHOLE, reference - 0.1)[0] == pytest.approx(0.03)


def test_a_term_of_other_points_is_refused():
    for term in (FallOff("a", torch.zeros(3), 2.0, 1.0, 10.0), Mimic("a", torch.zeros(3))):
        with pytest.raises(ValueError, match="each of the 40 points of a, got 3"):
            evaluate([term], WHOLE, spread())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: HottestMean(0.0), "more than 0"),
        (lambda: ColdestMean(101.0), "at most 100"),
        (lambda: MaxDvh("a", 1.0, -1.0), "0 to 100"),
        (lambda: MinDvh("a", 1.0, 101.0), "0 to 100"),
        (lambda: FallOff("a", torch.zeros(1), 1.0, 2.0, 10.0), "limit that falls"),
        (lambda: FallOff("a", torch.zeros(1), 2.0, 1.0, 0.0), "limit that falls"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_what_is_prepared_once_gives_what_is_evaluated_each_time():
    weights = torch.tensor([1.0, 2.0, 8.0, 1.0, 8.0, 3.0])
    objective = prepare(ALL, VOXELS, weights, like=torch.zeros(6))
    for seed in range(3):
        dose = torch.rand(6, generator=torch.Generator().manual_seed(seed)) * 3
        value, gradient = objective(dose)
        expected, slope = evaluate(ALL, VOXELS, dose, weights)
        assert value == expected
        assert torch.equal(gradient, slope)


def test_points_in_a_row_and_scattered_points_are_the_same_structure():
    dose = spread()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(6))
    place = torch.argsort(order)
    terms = [t for t in TERMS if not isinstance(t, FallOff | Mimic)]
    value, gradient = evaluate(terms, WHOLE, dose)
    moved, slope = evaluate(terms, {"a": place}, dose[order])
    assert moved == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(slope[place].numpy(), gradient.numpy(), rtol=1e-9, atol=1e-12)


def test_a_missing_or_empty_structure_is_refused():
    for voxels in ({}, {"a": torch.empty(0, dtype=torch.int64)}):
        with pytest.raises(ValueError, match="expected voxels of a to optimise"):
            evaluate([SquaredMean("a")], voxels, torch.zeros(3))


def test_a_voxel_belongs_to_the_structure_of_lowest_rank():
    voxels = {"body": torch.arange(6), "core": torch.tensor([1, 2]), "target": torch.tensor([2, 3, 4])}
    alone = resolve_overlaps(voxels, {"target": 1, "core": 2})
    assert {name: v.tolist() for name, v in alone.items()} == {
        "body": [0, 5],
        "core": [1],
        "target": [2, 3, 4],
    }


def test_equal_ranks_share_their_voxels():
    voxels = {"a": torch.arange(3), "b": torch.arange(2, 5)}
    assert [v.tolist() for v in resolve_overlaps(voxels, {"a": 1, "b": 1}).values()] == [[0, 1, 2], [2, 3, 4]]
