"""Cascades of U-Nets without normalisation, on any number of voxels."""

import pytest
import torch

from models.dose_unet import DoseUNetConfig, dose_unet
from models.standardised import StandardConv3d, standardised
from models.unet import UNetConfig

SMALL = DoseUNetConfig(3, (4, 4, 4, 4, 4, 4), 2)


@pytest.mark.parametrize("sides", [(16, 16, 16), (17, 31, 20)])
def test_each_stage_answers_every_voxel_with_a_dose(sides: tuple[int, int, int]) -> None:
    net = dose_unet(SMALL)
    said = net.answers(torch.rand(1, 3, *sides))
    assert [tuple(one.shape) for one in said] == [(1, 1, *sides)] * 2
    assert all(float(one.detach().min()) >= 0 for one in said)


def test_the_second_stage_sees_what_the_first_one_said() -> None:
    net = dose_unet(SMALL)
    sum(one.sum() for one in net.answers(torch.rand(1, 3, 16, 16, 16))[1:]).backward()
    first = net.stages[0].inner.final_conv.weight.grad
    assert first is not None
    assert float(first.abs().max()) > 0


def test_standardised_kernels_have_mean_zero_and_a_set_size() -> None:
    net = standardised(torch.nn.Conv3d(6, 5, 3))
    assert isinstance(net, StandardConv3d)
    with torch.no_grad():
        net.weight.mul_(7.0).add_(3.0)
        kernel = net.standard()
    assert torch.allclose(kernel.mean(dim=(1, 2, 3, 4)), torch.zeros(5), atol=1e-6)
    size = kernel.square().sum(dim=(1, 2, 3, 4))
    assert torch.allclose(size, torch.full((5,), 2 / 1.01), rtol=1e-4)


def test_an_answer_grows_with_what_is_seen_where_nothing_is_normalised() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 1, 64, 64, 64)
    spread = {}
    for norm in ("none", "instance"):
        net = dose_unet(DoseUNetConfig(1, (8, 8, 8, 8, 8, 8), 1, norm=norm)).stages[0]
        with torch.no_grad():
            spread[norm] = float(net(4 * x).std() / net(x).std())
    assert spread["none"] > 2.0
    assert spread["instance"] == pytest.approx(1.0, abs=0.1)


def test_doses_are_told_finer_than_bfloat16_can() -> None:
    net = dose_unet(DoseUNetConfig(1, (8, 8, 8, 8, 8, 8), 1))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        said = net(torch.rand(1, 1, 16, 16, 16))
    assert float((said - said.bfloat16().float()).abs().max()) > 0


def test_a_card_rebuilds_a_cascade() -> None:
    told = {**SMALL.as_json(), "features": list(SMALL.features), "site": "openkbp"}
    assert DoseUNetConfig.of(told) == SMALL
    with pytest.raises(ValueError, match="stages of a dose predictor"):
        DoseUNetConfig.of({"inputs": 3})
    with pytest.raises(ValueError, match="1 to 3 U-Nets"):
        DoseUNetConfig(3, stages=4)
    with pytest.raises(ValueError, match="normalisation of instance, none"):
        DoseUNetConfig(3, norm="batch")
    with pytest.raises(ValueError, match="at most 1024 channels"):
        DoseUNetConfig(5000)
    assert UNetConfig().norm == "instance"
