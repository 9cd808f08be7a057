"""The recipes with a judge: who learns from what, what holds a head without pairs, and that none is seen."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import mr2ct.adversarial as module
from imaging.grid import axial
from imaging.volume import Quantity, Volume
from models.discriminator import Discriminators
from models.fit import Fit
from models.unet import UNetConfig, unet
from models.weights import save_weights
from mr2ct.adversarial import (
    JUDGE,
    NET,
    AdversarialNet,
    Unpaired,
    losses,
    structure,
    train,
    without_pairs,
)
from mr2ct.convert import convert
from mr2ct.ct_features import CtFeatures, SegmenterOfCts
from mr2ct.regression import LEVELS, N_OUTPUTS, UNIT, answer, loss_of

SIDE = 64
SMALL = AdversarialNet(
    4.0,
    (SIDE,) * 3,
    UNetConfig(inputs=2, outputs=N_OUTPUTS, features=(8, 8, 8, 8, 8, 8)),
    Fit(steps=2, checkpoint_s=1000.0),
    judge_features=4,
)
ONES = (1.0,) * 8
CARD = dict.fromkeys(
    ("name", "does", "config", "data", "licence", "split", "budget", "metrics", "limits"), "toy"
)


def quiet(title: str, share: float) -> None:
    assert title
    assert 0 <= share <= 1


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Numbered(Dataset[dict[str, Tensor]]):
    """MRI and CT of sample n that both say n, and a list of what was asked for."""

    def __init__(self, length: int = 40) -> None:
        self.length, self.asked = length, list[int]()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        self.asked.append(n)
        block = torch.zeros(1, SIDE, SIDE, SIDE)
        block[:, 16:48, 16:48, 16:48] = 1
        noise = 0.02 * torch.rand(block.shape, generator=generator(n))
        image = torch.cat([block + noise, torch.zeros_like(block)])
        image[1, 0, 0, 0] = n
        ct = 1000 * block - 1000 + 100 * noise
        ct[0, 0, 0, 0] = n
        return {"image": image, "ct": ct, "body": block}


class Levels(nn.Module):
    """Says one CT number everywhere, by a weight that learns; the scale is fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.linspace(0, 1, len(LEVELS)))

    def forward(self, x: Tensor) -> Tensor:
        said = torch.cat([torch.zeros(1), self.logits])
        return said[None, :, None, None, None].expand(len(x), -1, *x.shape[2:])


class Judge(nn.Module):
    """Likes large CT numbers, and keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.5))
        self.shown: list[tuple[Tensor, Tensor]] = []

    def forward(self, image: Tensor, high: Tensor, told: Tensor) -> tuple[Tensor, ...]:
        self.shown.append((image.detach(), told.detach()))
        said = self.slope * image.float().mean(dim=(2, 3, 4), keepdim=True)
        return said, 0 * high.float().mean(dim=(1, 2, 3, 4), keepdim=True)


def batch(paired: bool = True) -> dict[str, Tensor]:
    g = generator(1)
    ct = 100 * torch.randn(2, 1, 8, 8, 8, generator=g)
    body = (torch.rand(2, 1, 8, 8, 8, generator=g) > 0.5).float()
    return {"image": torch.rand(2, 2, 8, 8, 8, generator=g), "ct": ct, "body": body}


def toy(**changed: Any) -> AdversarialNet:
    return AdversarialNet(**{"net": SMALL.net, "gamma": 0.0, **changed})


def test_each_learns_from_its_own_loss_alone() -> None:
    for config in (toy(), without_pairs(toy())):
        nets = {NET: Levels(), JUDGE: Judge()}
        steps = losses(config, ONES, None, nets, batch(), generator())
        name, loss = next(steps)
        assert name == JUDGE
        loss.backward()
        assert nets[NET].logits.grad is None
        kept = nets[JUDGE].slope.grad.clone()
        assert float(kept.abs()) > 0
        name, loss = next(steps)
        assert name == NET
        loss.backward()
        assert torch.equal(nets[JUDGE].slope.grad, kept)
        assert float(nets[NET].logits.grad.abs().max()) > 0


def test_the_verdict_moves_the_ct_to_where_the_judge_likes_it() -> None:
    """Of a judge that says slope · mean, the loss is minus that: known in HU, and in its gradient."""
    nets = {NET: Levels(), JUDGE: Judge()}
    given = batch()
    value = float(answer(nets[NET], given["image"])[0].detach().mean())
    found = dict(losses(toy(adversarial=3.0), ONES, None, nets, given, generator()))
    alone = loss_of(nets[NET], given)
    gap = float((found[NET] - alone).detach())
    assert gap == pytest.approx(-3 * 0.5 * value / UNIT, rel=1e-3)
    real = given["ct"].mean(dim=(1, 2, 3, 4)) / UNIT
    hinge = (1 - 0.5 * real).clamp(min=0).mean() + max(1 + 0.5 * value / UNIT, 0)
    assert float(found[JUDGE].detach()) == pytest.approx(float(hinge) + 2, rel=1e-3)  # one that says 0 has 2


def test_the_judge_sees_the_mri_beside_the_ct_only_with_pairs() -> None:
    given = batch()
    for config, planes in ((toy(), 2), (without_pairs(toy()), 0)):
        judge = Judge()
        list(losses(config, ONES, None, {NET: Levels(), JUDGE: judge}, given, generator()))
        image, told = judge.shown[0]
        assert told.shape[1] == planes
        torch.testing.assert_close(image[:2] * UNIT, given["ct"])
        if planes:
            assert torch.equal(told, torch.cat([given["image"]] * 2))
        assert config.judge.classes == planes


def test_the_penalty_of_a_linear_judge_is_its_slope() -> None:
    """|∇D|² = slope² / voxels for a judge of the mean; taken at each step it weighs gamma / 2."""
    nets = {NET: Levels(), JUDGE: Judge()}
    given = batch()

    def of_judge(gamma: float) -> float:
        config = toy(gamma=gamma, every=1)
        return float(next(losses(config, ONES, None, nets, given, generator()))[1].detach())

    assert of_judge(2e4) - of_judge(0.0) == pytest.approx(1e4 * 0.5**2 / 8**3, rel=1e-3)


def step_along(axis: int, height: float) -> Tensor:
    x = torch.zeros(1, 1, 16, 16, 16)
    x.narrow(2 + axis, 8, 8).fill_(height)
    return x


def test_an_edge_that_the_mri_does_not_show_costs_its_total_variation() -> None:
    """A step of 500 HU over one plane of 15: half a unit, divided by 15."""
    nothing = torch.zeros(1, 2, 16, 16, 16)
    assert float(structure(step_along(0, 500.0), nothing)) == pytest.approx(0.5 / 15, rel=0.01)
    across = step_along(1, 0.8)
    # Where both edges cross, one voxel in 15, the CT's lies across the MRI's and costs as much.
    assert float(structure(step_along(0, 500.0), across)) == pytest.approx(0.5 / 15, rel=0.01)
    assert float(structure(torch.full((1, 1, 16, 16, 16), 40.0), across)) == pytest.approx(0, abs=1e-6)


def test_an_edge_along_the_mris_is_nearly_free_bright_or_dark() -> None:
    """By the closed form of the projection, 1 - g² / (g² + 0.1²) is left; the root is smoothed by 1 HU."""
    left = 0.5 * (1 - 0.8**2 / (0.8**2 + 0.1**2))
    for height in (0.8, -0.8):
        found = float(structure(step_along(2, 500.0), step_along(2, height)))
        assert found == pytest.approx((math.hypot(left, 1e-3) - 1e-3) / 15, rel=1e-3)
    both = torch.cat([step_along(0, 0.8), step_along(2, 0.8)], dim=1)
    only = float(structure(step_along(2, 500.0), step_along(2, 0.8)))
    assert float(structure(step_along(2, 500.0), both)) == pytest.approx(only, rel=1e-4)


def test_mri_and_ct_are_never_of_one_sample() -> None:
    parted = Unpaired(Numbered(40))
    assert len(parted) == 20
    seen = [(int(s["image"][1, 0, 0, 0]), int(s["ct"][0, 0, 0, 0])) for s in (parted[n] for n in range(20))]
    mri, cts = {a for a, _ in seen}, {b for _, b in seen}
    assert not mri & cts
    assert len(mri) == len(cts) == 20
    with pytest.raises(IndexError):
        parted[20]


def test_training_without_pairs_sees_no_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Mapping[str, Tensor]] = []

    def fit(nets: Any, samples: Any, each: Any, how: Fit, *rest: Any, **more: Any) -> dict[str, float]:
        shown.extend(samples[n] for n in range(6))
        return {"steps": how.steps}

    monkeypatch.setattr(module, "fit", fit)
    train(without_pairs(SMALL), Numbered(), tmp_path, quiet)
    of = [(int(s["image"][1, 0, 0, 0]), int(s["ct"][0, 0, 0, 0])) for s in shown]
    assert not {a for a, _ in of} & {b for _, b in of}
    shown.clear()
    train(SMALL, Numbered(), tmp_path, quiet)
    assert all(int(s["image"][1, 0, 0, 0]) == int(s["ct"][0, 0, 0, 0]) for s in shown)


@pytest.mark.parametrize("paired", [True, False])
def test_a_network_goes_on_from_a_regression_and_a_finished_run_stays(tmp_path: Path, paired: bool) -> None:
    first = unet(SMALL.net)
    save_weights(first.state_dict(), CARD, tmp_path / "first.safetensors")
    config = SMALL if paired else without_pairs(SMALL)
    net, took = train(config, Numbered(), tmp_path / "run", quiet, start=tmp_path / "first.safetensors")
    assert took["steps"] == 2
    pairs = zip(net.parameters(), first.parameters(), strict=True)
    moved = [float((a - b).detach().abs().max()) for a, b in pairs]
    assert 0 < max(moved) < 0.01  # Adam's two steps, not weights drawn anew
    data = Numbered()
    again, took = train(config, data, tmp_path / "run", quiet)
    assert took["steps"] == 2
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    mr = Volume(torch.rand(1, 20, 20, 20), axial(np.zeros(3), np.full(3, 80.0), (4.0,) * 3), Quantity.MR)
    ct = convert(mr, [again], config).ct
    assert ct.grid == mr.grid
    assert torch.isfinite(ct.data).all()


def test_a_judge_learns_which_ct_belongs_to_an_mri() -> None:
    """With pairs a CT that is good by itself gives itself away beside another's MRI."""
    torch.manual_seed(0)
    config = toy(judge_features=4, every=1_000_000)
    judge = Discriminators(config.judge)
    optimiser = torch.optim.Adam(judge.parameters(), 3e-3)
    g = generator()
    gap = 0.0
    for _ in range(60):
        sides = (torch.rand(4, 1, 1, 1, 1, generator=g) > 0.5).float().expand(4, 1, 32, 32, 32)
        image = torch.cat([sides, sides], dim=1)
        right, wrong = 1000 * sides, 1000 * (1 - sides)
        loss = module._loss_of_judge(config, ONES, judge, right, wrong, image, g)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        gap = float(loss.detach())
    assert gap < 3.0  # one that cannot tell has 4


def test_what_makes_no_training_is_refused(tmp_path: Path) -> None:
    features = CtFeatures(unet(SegmenterOfCts().net))
    with pytest.raises(ValueError, match="none is that of the MRI"):
        train(without_pairs(SMALL), Numbered(), tmp_path, quiet, features=features)
    for wrong in ({"adversarial": -1.0}, {"every": 0}, {"pace": 0.0}):
        with pytest.raises(ValueError, match="expected weights of 0 or more"):
            toy(**wrong)
