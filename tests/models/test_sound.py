"""Gradients of convolutions in bfloat16 are those in float32, also where a level is two places deep."""

import pytest
import torch
from torch import nn

from models.sound import SoundConv3d, sound
from models.unet import UNetConfig, unet


def poisoned() -> None:
    """Leaves NaN in the memory that is handed out next."""
    junk = [torch.full((k * 100_003,), float("nan"), dtype=torch.bfloat16) for k in range(1, 8)]
    del junk


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_gradients_are_those_of_float32(depth: int) -> None:
    torch.manual_seed(0)
    conv = sound(nn.Sequential(nn.Conv3d(32, 32, 3, padding=1)))
    x, wanted = torch.randn(1, 32, depth, 4, 4), torch.randn(1, 32, depth, 4, 4)
    conv(x).backward(wanted)
    weight = conv[0].weight
    assert weight.grad is not None
    exact = weight.grad.clone()
    for _ in range(3):
        weight.grad = None
        poisoned()
        with torch.autocast("cpu", torch.bfloat16):
            answered = conv(x)
        answered.backward(wanted.to(answered.dtype))
        assert float((weight.grad - exact).abs().max() / exact.abs().max()) < 0.02


def test_a_sound_network_has_the_same_weights_by_the_same_names() -> None:
    torch.manual_seed(0)
    net = unet(UNetConfig(1, 2, (4, 4, 4, 4, 4, 4)))
    kinds = {type(part) for part in net.modules() if isinstance(part, nn.Conv3d)}
    assert kinds == {SoundConv3d}
    before = {name: t.clone() for name, t in net.state_dict().items()}
    again = sound(net).state_dict()
    assert again.keys() == before.keys()
    assert all(torch.equal(again[name], t) for name, t in before.items())
