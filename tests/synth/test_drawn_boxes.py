import json
import math

import pytest
import torch

from synth.drawn_boxes import BoxDensity, box_of, class_of, fit

# Two boxes of class 0, one of class 1.
CLASSES = torch.tensor([0, 1, 0])
BOXES = torch.tensor([[0.4, 0.5, 0.1, 0.2], [0.7, 0.3, 0.2, 0.2], [0.6, 0.5, 0.4, 0.2]])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_fit_of_two_boxes_has_their_mean_and_half_their_distance_squared():
    found = fit(CLASSES, BOXES)
    assert found.shares == pytest.approx((2 / 3, 1 / 3))
    # log 0.1 and log 0.4 lie log 2 to each side of log 0.2; cx lies 0.1 to each side of 0.5, the same way.
    assert found.means[0] == pytest.approx((0.5, 0.5, math.log(0.2), math.log(0.2)), abs=1e-6)
    a, b = 0.1, math.log(2)
    assert found.covariances[0][0] == pytest.approx((a * a, 0, a * b, 0), abs=1e-6)
    assert found.covariances[0][2] == pytest.approx((a * b, 0, b * b, 0), abs=1e-6)
    assert found.covariances[1] == ((0.0,) * 4,) * 4


def test_a_fit_finds_the_gaussian_that_boxes_came_from():
    spread = torch.tensor(
        [[2e-3, 1e-3, 0, 0], [1e-3, 2e-3, 0, 0], [0, 0, 0.09, 0.06], [0, 0, 0.06, 0.09]], dtype=torch.float64
    )
    mean = (0.45, 0.55, math.log(0.15), math.log(0.2))
    told = BoxDensity((1.0,), (mean,), (tuple(map(tuple, spread.tolist())),))
    draw = generator()
    boxes = torch.stack([box_of(told, 0, draw) for _ in range(4000)])
    found = fit(torch.zeros(4000, dtype=torch.long), boxes)
    # Of 4000 draws a mean is off by sd / 63, a variance by its own 2.2 %.
    sd = spread.diagonal().sqrt()
    assert bool(((torch.tensor(found.means[0]) - torch.tensor(mean)).abs() < 4 * sd / 63).all())
    assert torch.allclose(
        torch.tensor(found.covariances[0], dtype=torch.float64), spread, rtol=0.1, atol=1e-3
    )


def test_every_box_lies_inside_the_picture_and_has_a_size():
    wide = BoxDensity((1.0,), ((0.5, 0.9, -0.7, -0.7),), (tuple(map(tuple, torch.eye(4).tolist())),))
    draw = generator(1)
    boxes = torch.stack([box_of(wide, 0, draw) for _ in range(500)])
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    assert float(low.min()) >= 0
    assert float(high.max()) <= 1
    assert float(boxes[:, 2:].min()) > 0
    # What a file holds is the box itself.
    assert [float(f"{v:.6f}") for v in boxes.flatten().tolist()] == boxes.flatten().tolist()


def test_a_class_seen_once_is_drawn_as_it_was_seen():
    assert box_of(fit(CLASSES, BOXES), 1, generator()).tolist() == pytest.approx(
        [0.7, 0.3, 0.2, 0.2], abs=1e-4
    )


@pytest.mark.parametrize("start", [0.0, 0.37, 0.99])
def test_any_first_slices_hold_each_class_by_its_share(start):
    density = BoxDensity((0.5, 0.3, 0.2), ((0.5, 0.5, -2.0, -2.0),) * 3, (((0.0,) * 4,) * 4,) * 3)
    drawn = [class_of(density, k, start) for k in range(600)]
    for n in range(1, 601):
        # Discrepancy of the golden ratio's multiples grows with log n / n alone.
        assert all(abs(drawn[:n].count(c) - n * density.shares[c]) < 3 for c in range(3))
    assert set(drawn[:10]) == {0, 1, 2}


def test_a_density_comes_back_from_json_to_the_bit():
    density = fit(CLASSES, BOXES)
    assert BoxDensity.from_json(json.loads(json.dumps(density.as_json()))) == density


def test_bad_densities_get_one_sentence():
    good = fit(CLASSES, BOXES).as_json()
    for change, sentence in (
        ({"shares": [0.5, 0.6]}, "1 in all"),
        ({"shares": [1.0]}, "got 1, 2 and 2"),
        ({"means": [[0.5, 0.5, float("nan"), 0.0]] * 2}, "finite"),
        ({"means": 3}, "something else"),
        ({"covariances": [(-torch.eye(4)).tolist()] * 2}, "negative variance"),
    ):
        with pytest.raises(ValueError, match=sentence):
            BoxDensity.from_json({**good, **change})
    with pytest.raises(ValueError, match="something else"):
        BoxDensity.from_json({})
    with pytest.raises(ValueError, match="every class from 0, got none of 1"):
        fit(torch.tensor([0, 2, 0]), BOXES)
    with pytest.raises(ValueError, match="width and a height"):
        fit(CLASSES, torch.zeros(3, 4))
    with pytest.raises(ValueError, match="class from 0 to 1"):
        box_of(fit(CLASSES, BOXES), 2, generator())
    outside = BoxDensity((1.0,), ((0.5, 0.5, 3.0, 3.0),), (((0.0,) * 4,) * 4,))
    with pytest.raises(ValueError, match="outside it"):
        box_of(outside, 0, generator())
