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
