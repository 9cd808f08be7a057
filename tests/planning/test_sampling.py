import numpy as np
import pytest
import torch

from planning.optimise.dose_volume import AtMost, Eud, MaxDvh
from planning.optimise.objectives import SquaredDeviation, SquaredMean, SquaredOverdose, evaluate
from planning.optimise.sampling import at, draw, shares_for
from planning.optimise.voxelwise import Mimic

VOXELS = {
    "ptv": torch.arange(5, 300, 3),
    "body": torch.arange(300, 1401),
    "lens": torch.tensor([7]),
}
TERMS = [
    SquaredDeviation("ptv", 2.0, 100.0),
    SquaredOverdose("body", 1.0, 10.0),
    AtMost("body", Eud(4.0), 0.5, 3.0),
    MaxDvh("lens", 0.2, 0.0, 5.0),
]


def dose_of(seed=0):
    return torch.rand(1500, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("share", [1.0, 0.5, 1 / 3, 1 / 8, 0.117, 1e-9])
def test_the_weights_of_a_structure_sum_to_its_voxels_exactly(share):
    drawn = draw(VOXELS, dict.fromkeys(VOXELS, share))
    for name, inside in VOXELS.items():
        own = drawn.weights[drawn.regions[name]]
        assert float(own.sum()) == len(inside)
        assert float(own.max() - own.min()) <= 1
        assert len(own) == max(round(share * len(inside)), 1)


def test_drawn_points_are_voxels_of_their_structure_one_in_each_group_in_order():
    drawn = draw(VOXELS, {"body": 1 / 8, "ptv": 0.3})
    for name, region in drawn.regions.items():
        rows = drawn.rows[region]
        assert torch.equal(rows, VOXELS[name][drawn.kept[name]])
        ends = torch.cat([torch.zeros(1), drawn.weights[region].cumsum(0)])
        assert bool((drawn.kept[name] >= ends[:-1]).all())
        assert bool((drawn.kept[name] < ends[1:]).all())
    assert torch.equal(torch.cat(list(drawn.regions.values())), torch.arange(len(drawn.rows)))


def test_all_shares_of_one_give_the_full_objective_to_the_bit():
    drawn = draw(VOXELS, dict.fromkeys(VOXELS, 1.0))
    full, slope = evaluate(TERMS, VOXELS, dose_of())
    value, gradient = evaluate(TERMS, drawn.regions, dose_of()[drawn.rows], drawn.weights)
    assert value == full
    assert torch.equal(gradient, slope[drawn.rows])


def test_a_drawn_mean_is_on_average_the_mean():
    # Terms that are means of the points are estimated without bias: 400 draws of an eighth. The spread
    # of their mean is known from themselves.
    terms = [SquaredDeviation("ptv", 2.0, 100.0), SquaredOverdose("body", 1.0, 10.0)]
    dose = dose_of() * torch.linspace(1, 2, 1500)
    full, _ = evaluate(terms, VOXELS, dose)
    values = []
    for seed in range(400):
        drawn = draw(VOXELS, {"ptv": 0.25, "body": 0.13}, torch.Generator().manual_seed(seed))
        values.append(evaluate(terms, drawn.regions, dose[drawn.rows], drawn.weights)[0])
    error = np.std(values) / np.sqrt(len(values))
    assert 0 < error < 0.01 * full
    assert np.mean(values) == pytest.approx(full, abs=4 * error)


def test_groups_of_neighbours_estimate_a_smooth_dose_better_than_any_points():
    dose = torch.sin(torch.arange(1500) / 100.0) + 1
    full, _ = evaluate([SquaredMean("body")], VOXELS, dose)
    grouped, anywhere = [], []
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        drawn = draw(VOXELS, {"body": 0.05}, generator)
        grouped.append(evaluate([SquaredMean("body")], drawn.regions, dose[drawn.rows], drawn.weights)[0])
        rows = VOXELS["body"][torch.randperm(1101, generator=generator)[:55]]
        anywhere.append(evaluate([SquaredMean("body")], {"body": rows}, dose)[0])
    assert np.square(np.array(grouped) - full).mean() < 0.1 * np.square(np.array(anywhere) - full).mean()


def test_the_same_points_are_drawn_every_time_and_others_by_another_generator():
    first, again = (draw(VOXELS, {"body": 0.1}) for _ in range(2))
    other = draw(VOXELS, {"body": 0.1}, torch.Generator().manual_seed(9))
    assert torch.equal(first.rows, again.rows)
    assert not torch.equal(first.rows, other.rows)


def test_a_dose_to_mimic_is_taken_at_the_drawn_points():
    drawn = draw(VOXELS, {"body": 0.1})
    dose = dose_of()
    terms = at([Mimic("body", dose[VOXELS["body"]]), SquaredMean("ptv")], drawn)
    value, _ = evaluate(terms[:1], drawn.regions, dose[drawn.rows], drawn.weights)
    assert value == 0
    assert terms[1] == SquaredMean("ptv")


def test_points_go_to_the_structures_by_their_priorities():
    terms = [SquaredDeviation("ptv", 2.0, 30.0), SquaredOverdose("body", 1.0, 60.0)]
    voxels = {"ptv": torch.arange(1000), "body": torch.arange(1000, 9000)}
    shares = shares_for(terms, voxels, 900)
    assert {name: shares[name] * len(v) for name, v in voxels.items()} == pytest.approx(
        {"ptv": 300, "body": 600}
    )
    # A structure with fewer voxels than its points keeps them all, and the others get the rest.
    shares = shares_for(terms, voxels, 6000)
    assert shares == pytest.approx({"ptv": 1.0, "body": 5000 / 8000})
    assert shares_for(terms, voxels, 10**6) == {"ptv": 1.0, "body": 1.0}


def test_what_cannot_be_drawn_is_refused():
    for shares in ({"body": 0.0}, {"body": 1.5}, {"body": float("nan")}, {"bdy": 0.5}):
        with pytest.raises(ValueError, match="expected shares above 0 and at most 1 of ptv, body, lens"):
            draw(VOXELS, shares)
    with pytest.raises(ValueError, match="at least one point for each of 3 structures, got 2"):
        shares_for(TERMS, VOXELS, 2)
