"""The network of CT numbers: what its loss teaches, and how a scan goes through it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from imaging.grid import Grid, axial
from imaging.volume import Quantity, Volume
from models.fit import Fit
from models.unet import UNetConfig
from mr2ct.convert import convert
from mr2ct.regression import LEAST_SCALE, LEVELS, N_OUTPUTS, UNIT, RegressionNet, answer, loss_of, train

SMALL = RegressionNet(
    4.0, (64, 64, 64), UNetConfig(inputs=2, outputs=N_OUTPUTS, features=(8, 8, 8, 8, 8, 8)), Fit(steps=120)
)
TWO = UNetConfig(inputs=2, outputs=N_OUTPUTS)


def saying(value: Tensor, scale: float) -> Tensor:
    """What a network that is sure of a CT number (HU) and of one scale gives for each voxel."""
    levels = torch.tensor(LEVELS)
    value = value.clamp(LEVELS[0], LEVELS[-1])
    away = (value[:, None] - levels[:, None, None, None]).abs()
    gap = torch.bucketize(value.detach(), levels).clamp(1, len(LEVELS) - 1)
    width = (levels[gap] - levels[gap - 1])[:, None]
    near = torch.arange(len(LEVELS))[:, None, None, None] - gap[:, None]
    share = torch.where((near == 0) | (near == -1), 1 - away / width, torch.zeros_like(away))
    raw = torch.full_like(value, math.log(math.expm1((scale - LEAST_SCALE) / UNIT)))
    return torch.cat([raw[:, None], share.clamp(min=1e-7).log()], dim=1)


class Linear(nn.Module):
    """Answers ``level + slope · (first contrast)`` in HU, and one scale (HU)."""

    def __init__(self, level: float, slope: float, scale: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))
        self.slope, self.scale = slope, scale

    def forward(self, x: Tensor) -> Tensor:
        return saying(self.level + self.slope * x[:, 0].float(), self.scale)


class Blocks(Dataset[dict[str, Tensor]]):
    """A bright block of 800 HU in dark air, nothing else in the second contrast."""

    def __len__(self) -> int:
        return 400

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        g = torch.Generator().manual_seed(n)
        block = torch.zeros(1, 64, 64, 64)
        i, j, k = torch.randint(4, 36, (3,), generator=g).tolist()
        block[:, i : i + 24, j : j + 24, k : k + 24] = 1
        image = torch.cat([block + 0.05 * torch.rand(block.shape, generator=g), torch.zeros_like(block)])
        return {"image": image, "ct": 1800 * block - 1000, "body": block}


def quiet(title: str, share: float) -> None:
    assert title
    assert 0 <= share <= 1


def batch(ct: Tensor, body: Tensor) -> dict[str, Tensor]:
    return {"image": torch.zeros(1, 1, *ct.shape), "ct": ct[None, None], "body": body[None, None]}


def test_what_is_said_is_what_is_answered() -> None:
    """A number between two levels is their mean, weighted by how near each is."""
    wanted = torch.tensor([-1000.0, -437.0, 10.0, 75.0, 1234.0, 2400.0]).reshape(1, 6, 1, 1)

    class Says(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            return saying(wanted, 40.0)

    value, scale = answer(Says(), torch.zeros(1, 1, 6, 1, 1))
    assert torch.allclose(value, wanted, atol=0.1)
    assert torch.allclose(scale, torch.full_like(scale, 40.0), rtol=1e-3)


def test_the_truth_is_the_best_answer_and_the_mean_error_the_best_scale() -> None:
    ct = torch.full((4, 4, 4), 320.0)
    given = batch(ct, torch.ones_like(ct))

    def loss(level: float, scale: float) -> float:
        return float(loss_of(Linear(level, 0.0, scale), given).detach())

    assert all(loss(320.0, 30.0) < loss(level, 30.0) for level in (20.0, 250.0, 400.0, 900.0))
    assert all(loss(250.0, 70.0) < loss(250.0, scale) for scale in (45.0, 110.0))


def test_the_scale_cannot_excuse_an_error() -> None:
    """Its likelihood moves the scale alone: the CT number feels the same pull whatever the scale."""
    ct, pulls = torch.full((4, 4, 4), 480.0), []
    for scale in (5.0, 500.0):
        net = Linear(300.0, 0.0, scale)
        loss_of(net, batch(ct, torch.ones_like(ct))).backward()
        assert net.level.grad is not None
        pulls.append(float(net.level.grad))
    assert pulls[0] == pytest.approx(pulls[1], rel=1e-5)
    assert pulls[0] < 0  # higher


def test_air_around_the_body_counts_three_tenths() -> None:
    ct, body = torch.zeros(4, 4, 4), torch.zeros(4, 4, 4)
    body[:2] = 1
    inside, outside = ct.clone(), ct.clone()
    inside[:2], outside[2:] = 100, 100
    net = Linear(0.0, 0.0, 50.0)
    none = float(loss_of(net, batch(ct, body)).detach())
    gained = [float(loss_of(net, batch(wrong, body)).detach()) - none for wrong in (inside, outside)]
    assert gained[1] / gained[0] == pytest.approx(0.3, rel=1e-3)


def test_a_network_learns_blocks_and_goes_on_where_it_was(tmp_path: Path) -> None:
    net, took = train(SMALL, Blocks(), tmp_path, quiet, seed=0)
    assert took["steps"] == 120
    sample = Blocks()[399]
    with torch.no_grad():
        value, scale = answer(net.eval(), sample["image"][None])
    error = (value - sample["ct"]).abs()[0]
    assert float(error[sample["body"][0] > 0].median()) < 150
    assert float(scale.min()) >= LEAST_SCALE
    assert train(SMALL, Blocks(), tmp_path, quiet)[1]["steps"] == 120


def scan(n_contrasts: int = 1) -> Volume:
    """A bright head-sized block, turned and off the axes."""
    angle = math.radians(20)
    affine = np.eye(4)
    affine[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    affine[:3, :3] *= 4.0
    data = torch.zeros(n_contrasts, 30, 36, 28)
    data[:, 6:24, 6:30, 6:22] = 700.0
    return Volume(data, Grid((30, 36, 28), affine), Quantity.MR, "1.2.3")


def test_a_scan_comes_back_on_its_own_grid_with_what_the_networks_say() -> None:
    config = RegressionNet(4.0, (32, 32, 32), TWO, window=(32, 32, 32))
    mr = scan()
    found = convert(mr, [Linear(-1000.0, 1040.0, 30.0)], config)
    assert found.ct.grid == mr.grid
    assert (found.ct.quantity, found.ct.frame) == (Quantity.HU, "1.2.3")
    inner = found.ct.data[0, 10:20, 10:26, 10:18]
    assert float((inner - 40).abs().max()) < 15  # half precision
    assert float(found.ct.data[0, 2, 2, 2]) == pytest.approx(-1000, abs=5)
    # A Laplace distribution of scale 30.
    assert float(found.aleatoric.data[0, 15, 18, 14]) == pytest.approx(30 * math.sqrt(2), rel=0.03)
    assert float(found.epistemic.data.abs().max()) == 0
    assert found.uncertainty.quantity is Quantity.HU_DEVIATION


def test_networks_that_disagree_say_so_and_the_mean_is_taken() -> None:
    config = RegressionNet(4.0, (32, 32, 32), TWO, window=(32, 32, 32))
    nets = [Linear(-1000.0, 1000.0, 30.0), Linear(-1000.0, 1200.0, 40.0)]
    found = convert(scan(2), nets, config)
    at = (0, 15, 18, 14)
    assert float(found.ct.data[at]) == pytest.approx(100, abs=15)
    assert float(found.epistemic.data[at]) == pytest.approx(100, rel=0.05)
    assert float(found.aleatoric.data[at]) == pytest.approx(math.sqrt(30**2 + 40**2), rel=0.05)
    both = math.hypot(float(found.epistemic.data[at]), float(found.aleatoric.data[at]))
    assert float(found.uncertainty.data[at]) == pytest.approx(both)


def test_the_mirrored_answer_is_mirrored_back() -> None:
    class Place(nn.Module):
        """Says how far along the first axis a voxel lies in its window."""

        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            at = torch.linspace(0, 1000, x.shape[2])[:, None, None].expand(1, *x.shape[2:])
            return saying(at * self.one, 30.0)

    config = RegressionNet(4.0, (32, 32, 32), UNetConfig(inputs=1, outputs=N_OUTPUTS), window=(32, 32, 32))
    mr = Volume(torch.ones(1, 30, 30, 30), axial(np.zeros(3), np.full(3, 119.0), (4.0,) * 3), Quantity.MR)
    found = convert(mr, [Place(), Place()], config)
    assert float(found.ct.data.std()) < 5  # one rises as the other falls
    assert float(found.epistemic.data[0, 0].mean()) > 300


def test_what_is_no_scan_is_refused() -> None:
    config = RegressionNet(4.0, (32, 32, 32), TWO, window=(32, 32, 32))
    net = Linear(0.0, 0.0, 10.0)
    with pytest.raises(ValueError, match="1 to 2 contrasts and a network"):
        convert(scan(3), [net], config)
    with pytest.raises(ValueError, match="1 to 2 contrasts and a network"):
        convert(scan(), [], config)
    with pytest.raises(ValueError, match="expected a volume in MR signal"):
        convert(Volume(scan().data, scan().grid, Quantity.HU), [net], config)
