import pytest
import torch

from planning.optimise.objectives import (
    SquaredDeviation,
    SquaredMean,
    SquaredOverdose,
    SquaredUnderdose,
    evaluate,
    resolve_overlaps,
)

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
