import json

import numpy as np
import pytest
import torch

from planning.optimise.fluence import minimise
from planning.optimise.objectives import SquaredDeviation, SquaredMean, prepare
from planning.optimise.pareto import Front, between, navigate, read_front, sweep, write_front

MATRIX = torch.rand(60, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
REGIONS = {"target": torch.arange(30), "organ": torch.arange(30, 60)}
LIKE = torch.zeros(1, dtype=torch.float64)
TARGET = prepare([SquaredDeviation("target", 2.0, 10.0), SquaredMean("organ", 0.0, 0.1)], REGIONS, like=LIKE)
ORGAN = prepare([SquaredMean("organ", 0.0, 1.0), SquaredDeviation("target", 2.0, 0.3)], REGIONS, like=LIKE)
START = torch.full((12,), 0.3, dtype=torch.float64)


def apply(weights):
    return MATRIX @ weights


def adjoint(dose):
    return MATRIX.T @ dose


def best(objective):
    return minimise(apply, adjoint, objective, START, max_iterations=2000, tolerance=1e-14)


@pytest.fixture(scope="module")
def front():
    return sweep(
        ("target", "organ"), (TARGET, ORGAN), apply, adjoint, START, max_iterations=2000, tolerance=1e-13
    )


def values(fluence):
    dose = apply(fluence.double())
    return np.array([TARGET(dose)[0], ORGAN(dose)[0]])


def test_more_of_one_is_less_of_the_other(front):
    assert len(front.shares) == 9
    assert (np.diff(front.values[:, 0]) > 0).all()
    assert (np.diff(front.values[:, 1]) < 0).all()
    assert (np.diff(front.shares) > 0).all()
    assert front.places[[0, -1]].tolist() == [0, 1]


def test_its_ends_are_the_best_for_each_alone(front):
    assert front.values[0, 0] == pytest.approx(best(TARGET).value, rel=1e-5)
    assert front.values[-1, 1] == pytest.approx(best(ORGAN).value, rel=1e-5)


def test_every_node_is_the_best_for_its_weights(front):
    for share, found in zip(front.shares, front.values, strict=True):
        wished = best(
            lambda d, s=share: tuple((1 - s) * a + s * b for a, b in zip(TARGET(d), ORGAN(d), strict=True))
        )
        assert (1 - share) * found[0] + share * found[1] == pytest.approx(wished.value, rel=1e-5)


def test_the_front_is_convex_and_known_within_its_gap(front):
    slopes = np.diff(front.values[:, 1]) / np.diff(front.values[:, 0])
    assert (np.diff(slopes) > 0).all()
    assert 0 < front.gap < 0.02
    coarse = sweep(("a", "b"), (TARGET, ORGAN), apply, adjoint, START, n_points=4)
    assert coarse.gap > front.gap
    # The fine front's nodes lie below the coarse one's lines by no more than the coarse one's gap.
    extent = np.ptp(coarse.values, axis=0)
    on_lines = np.interp(front.values[:, 0], coarse.values[:, 0], coarse.values[:, 1])
    below = (on_lines - front.values[:, 1]) / extent[1]
    assert below.min() > -1e-3
    # Distance across the line is less than that along one axis, by no more than the line's slope.
    assert below.max() <= 1e-3 + coarse.gap * np.hypot(1, np.abs(slopes * extent[0] / extent[1]).max())


def test_at_a_node_navigation_gives_the_node(front):
    for n, place in enumerate(front.places):
        assert torch.equal(navigate(front, float(place)), front.fluences[n])


def test_between_nodes_no_objective_is_worse_than_the_mixture_of_its_values(front):
    for place in np.linspace(0, 1, 41):
        low, share = between(front, float(place))
        high = min(low + 1, len(front.places) - 1)
        mixed = (1 - share) * front.values[low] + share * front.values[high]
        assert (values(navigate(front, float(place))) <= mixed * (1 + 1e-5)).all()


def test_dose_between_nodes_is_the_mixture_of_their_doses(front):
    place = float(front.places[2:4].mean())
    middle = (apply(front.fluences[2].double()) + apply(front.fluences[3].double())) / 2
    torch.testing.assert_close(apply(navigate(front, place).double()), middle, rtol=1e-6, atol=1e-6)


def test_two_wishes_that_agree_leave_one_fluence():
    alone = sweep(("a", "a"), (TARGET, TARGET), apply, adjoint, START, max_iterations=500)
    assert len(alone.places) == 1
    assert torch.equal(navigate(alone, 0.7), alone.fluences[0])


def test_a_front_is_read_as_it_was_written(front, tmp_path):
    write_front(front, tmp_path)
    again = read_front(tmp_path)
    assert again.names == front.names
    assert torch.equal(again.fluences, front.fluences)
    for name in ("shares", "places", "values"):
        assert np.array_equal(getattr(again, name), getattr(front, name))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front.json", "front.npz"]
    assert b"pickle" not in (tmp_path / "front.npz").read_bytes()


def test_another_file_is_no_front(tmp_path):
    with pytest.raises(ValueError, match="expected a folder with a front"):
        read_front(tmp_path)
    write_front(
        Front(("a", "b"), np.zeros(1), np.zeros(1), torch.zeros(1, 2), np.zeros((1, 2)), 0.0), tmp_path
    )
    told = json.loads((tmp_path / "front.json").read_text())
    (tmp_path / "front.json").write_text(json.dumps({**told, "format": 7}))
    with pytest.raises(ValueError, match="format 1, got 7"):
        read_front(tmp_path)


def test_places_beyond_the_front_and_a_front_of_one_point_are_refused(front):
    with pytest.raises(ValueError, match="from 0 to 1"):
        navigate(front, 1.2)
    with pytest.raises(ValueError, match="at least 2 points"):
        sweep(("a", "b"), (TARGET, ORGAN), apply, adjoint, START, n_points=1)
