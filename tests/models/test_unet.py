"""The head on single voxels: silent before it has learnt, and near-sighted."""

import pytest
import torch

from models.unet import UNetConfig, unet

SMALL = UNetConfig(1, 2, (4, 4, 4, 4, 4, 4), sharp=4)


def test_a_head_changes_nothing_before_it_has_learnt() -> None:
    net = unet(SMALL).eval()
    x = torch.rand(1, 1, 64, 64, 64)
    with torch.no_grad():
        with_head = net(x)
        net.head = None
        assert torch.allclose(net(x), with_head, atol=1e-6)  # kernels may round otherwise from call to call


def test_a_head_sees_two_voxels_far() -> None:
    head = unet(SMALL).head
    assert head is not None
    torch.nn.init.ones_(head[-1].weight)
    x = torch.zeros(1, 3, 16, 16, 16)
    bright = x.clone()
    bright[0, 2, 8, 8, 8] = 1.0
    with torch.no_grad():
        changed = (head(bright) - head(x)).abs().amax(dim=1)[0] > 1e-7
    box = torch.nonzero(changed)
    assert box.amin(dim=0).tolist() == [6, 6, 6]
    assert box.amax(dim=0).tolist() == [10, 10, 10]


def test_a_head_of_fewer_than_no_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="of single voxels"):
        UNetConfig(sharp=-1)


def test_levels_begin_with_the_answer_and_go_on_in_cells_of_four_and_eight() -> None:
    net = unet(UNetConfig(2, 3, (4, 5, 6, 7, 8, 9), sharp=4, deep=2)).eval()
    x = torch.rand(1, 2, 64, 32, 32)
    with torch.no_grad():
        levels = net.levels(x)
        assert torch.allclose(levels[0], net(x), atol=1e-6)
    assert [tuple(one.shape) for one in levels] == [(1, 3, 64, 32, 32), (1, 3, 16, 8, 8), (1, 3, 8, 4, 4)]
    assert len(unet(SMALL).levels(torch.rand(1, 1, 64, 64, 64))) == 1


def test_a_card_rebuilds_the_network_and_says_when_it_cannot() -> None:
    config = UNetConfig(2, 3, (4, 5, 6, 7, 8, 9), sharp=4, deep=1)
    assert UNetConfig.of({**config.as_json(), "features": [4, 5, 6, 7, 8, 9], "spacing": 1.5}) == config
    for wrong in ({}, {"inputs": 1}, {"features": 3}):
        with pytest.raises(ValueError, match="expected a card whose config"):
            UNetConfig.of(wrong)
    with pytest.raises(ValueError, match="expected 0 to 2 coarser levels"):
        UNetConfig(deep=3)
