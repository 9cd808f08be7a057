"""Consensus of readers whose errors are drawn, so that they are known."""

import pytest
import torch

from imaging.agreement import dice
from imaging.consensus import majority, staple


def test_majority_is_more_than_half() -> None:
    a, b, c = (torch.zeros((2, 2, 1), dtype=torch.bool) for _ in range(3))
    a[0], b[:, 0], c[0, 0] = True, True, True
    assert majority([a, b, c]).flatten().tolist() == [True, False, False, False]
    assert torch.equal(majority([a, b]), a & b)
    with pytest.raises(ValueError, match="got none"):
        majority([])


def test_staple_finds_the_sensitivities_that_readers_were_drawn_with() -> None:
    noise = torch.Generator().manual_seed(3)
    truth = torch.zeros((40, 40, 40), dtype=torch.bool)
    truth[8:32, 8:32, 8:32] = True
    p, q = (0.95, 0.80, 0.70, 0.90), (0.97, 0.90, 0.99, 0.85)
    masks = [
        torch.where(
            truth, torch.rand(truth.shape, generator=noise) < s, torch.rand(truth.shape, generator=noise) > t
        )
        for s, t in zip(p, q, strict=True)
    ]
    found = staple(masks)
    # 13 824 voxels inside: the drawn shares themselves lie within 0.01 of these (2.5 deviations).
    assert found.sensitivities == pytest.approx(p, abs=0.015)
    assert found.specificities == pytest.approx(q, abs=0.015)
    assert dice(found.mask, truth) > max(dice(mask, truth) for mask in [*masks, majority(masks)])


def test_staple_of_one_reader_or_of_equal_ones_is_the_reader() -> None:
    mask = torch.zeros((4, 4, 4), dtype=torch.bool)
    assert not staple([mask, mask]).mask.any()
    mask[1:3] = True
    assert torch.equal(staple([mask]).mask, mask)
    assert torch.equal(staple([mask, mask.clone()]).mask, mask)
