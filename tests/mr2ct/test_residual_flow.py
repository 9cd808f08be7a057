"""The flow on what a regression leaves open: its velocity, its modes, its mean, and what it leaves alone."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from imaging.grid import axial
from imaging.volume import Quantity, Volume
from models.fit import Fit
from models.generator import Generator, GeneratorConfig, build
from models.unet import UNetConfig, unet
from models.wavelet import to_bands
from models.weights import save_weights
from mr2ct.recipes import RECIPES, Trained, read_flow
from mr2ct.regression import LEAST_SCALE, LEVELS, N_OUTPUTS, UNIT, RegressionNet, answer
from mr2ct.residual_flow import ResidualFlow, draw, guess_of, loss_of, mean_of, samples_of, train

AIR, SOFT, BONE = -1000.0, 50.0, 900.0
OPEN, TISSUE = 0.5, 1.0  # MR signal of what may be bone or air, and of soft tissue
SETTINGS = GeneratorConfig(
    space=3, contrasts=1, classes=4, embedded=4, channels=(16, 32), blocks=1, spread=1.0, band_std=(1.0,) * 8
)
MIDDLE, HALF = (AIR + BONE) / 2, (BONE - AIR) / 2


class Undecided(nn.Module):
    """A regression: half air and half bone at the signal OPEN, soft tissue elsewhere, with its scale (HU)."""

    def __init__(self, scale: float = HALF, sure: float = 5.0) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))
        self.scales = [math.log(math.expm1((s - LEAST_SCALE) / UNIT)) for s in (sure, scale)]

    def forward(self, x: Tensor) -> Tensor:
        where = ((x[:, :1] - OPEN).abs() < 0.2).float()
        said = torch.full((len(x), N_OUTPUTS, *x.shape[2:]), -60.0)
        said[:, :1] = self.scales[0] + where * (self.scales[1] - self.scales[0])
        said[:, 1 + LEVELS.index(SOFT)] = 60 * (1 - 2 * where[:, 0])
        for level in (AIR, BONE):
            said[:, 1 + LEVELS.index(level)] = 60 * (2 * where[:, 0] - 1)
        return said * self.one


class Coins(Dataset[dict[str, Tensor]]):
    """Cells of bone or of air, by a coin each, in the middle of soft tissue; the MRI is the same."""

    def __init__(self, side: int = 16, length: int = 4000) -> None:
        self.side, self.length = side, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        image = torch.full((1, *(self.side,) * 3), TISSUE)
        ct = torch.full((1, *(self.side,) * 3), SOFT)
        inside = (slice(None), *(slice(self.side // 4, 3 * self.side // 4),) * 3)
        image[inside] = OPEN
        coins = torch.rand((self.side // 4,) * 3, generator=generator(n)) < 0.5
        for axis in range(3):
            coins = coins.repeat_interleave(2, axis)
        ct[inside] = torch.where(coins, BONE, AIR)
        return {"image": image, "ct": ct, "body": torch.ones_like(ct)}


class Answering(Generator):  # type: ignore[misc]
    """Answers as a function of bands and time."""

    def __init__(self, answered: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(SETTINGS.as_json())
        self.answered = answered

    def forward(self, bands: Tensor, time: Tensor, *_: Tensor) -> Tensor:
        return self.answered(bands, time.reshape(-1, 1, 1, 1, 1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quiet(title: str, share: float) -> None:
    assert title
    assert 0 <= share <= 1


def coin_cells(bands: Tensor, t: Tensor) -> Tensor:
    """The exact velocity where each cell of the wavelet is wholly bone or wholly air by a coin of its own.

    Its first band is ±2^(3/2) units, the others are 0. On straight paths from noise the mean of what data
    may be at x is c tanh(c x (1 - t) / t²), by Bayes' rule, and the velocity (x - mean) / t.
    """
    c = 2**1.5
    mean = torch.zeros_like(bands)
    mean[:, :1] = c * torch.tanh(c * bands[:, :1] * (1 - t) / t**2)
    return (bands - mean) / t


def all_open(side: int = 16) -> Tensor:
    return torch.full((1, 1, *(side,) * 3), OPEN)


def test_the_loss_is_zero_at_noise_less_residual_and_quadratic_about_it() -> None:
    """On the path x = (1 - t) data + t noise the velocity is (x - data) / t, wherever it is asked for."""
    sample = {name: t[None] for name, t in Coins()[0].items()}
    regression = Undecided()
    guess = guess_of(regression, sample["image"], 0.05)
    data = to_bands(guess.open * (sample["ct"] - guess.ct) / guess.unit, SETTINGS.std)
    for wrong in (0.0, 0.3):
        net = Answering(lambda bands, t, wrong=wrong: (bands - data) / t + wrong)  # type: ignore[misc]
        for seed in range(3):
            loss = loss_of(ResidualFlow(net=SETTINGS), net, regression, sample, generator(seed))
            assert float(loss) == pytest.approx(wrong**2, abs=1e-5)


def test_the_regression_says_the_mean_and_opens_what_may_be_bone_or_air() -> None:
    sample = Coins()[0]
    guess = guess_of(Undecided(), sample["image"][None], 0.05)
    inside = sample["image"][None] == OPEN
    assert torch.equal(guess.open > 0, inside)
    assert float((guess.ct[inside] - MIDDLE).abs().max()) < 1  # neither bone nor air
    assert float((guess.unit[inside] - HALF).abs().max()) < 10  # half precision
    # Of a Laplace distribution about 50 HU the twentieth lies above 150 HU from a scale of 100 / ln 10 on.
    for scale, opened in ((40.0, 0.0), (47.0, 1.0)):
        soft = guess_of(Undecided(HALF, scale), torch.full((1, 1, 4, 4, 4), TISSUE), 0.05)
        assert float(soft.open.mean()) == opened


def test_air_that_is_certain_is_left_alone() -> None:
    class Air(Undecided):
        def forward(self, x: Tensor) -> Tensor:
            said = torch.full((len(x), N_OUTPUTS, *x.shape[2:]), -60.0)
            said[:, 0] = math.log(math.expm1(0.01))
            said[:, 1 + LEVELS.index(AIR)] = 60.0
            return said

    assert float(guess_of(Air(), all_open(4), 0.05).open.max()) == 0


def test_eight_steps_draw_both_modes_and_one_step_their_mean() -> None:
    """With the velocity in closed form, so that nothing hangs on training."""
    net, regression = Answering(coin_cells), Undecided()
    cts = draw(net, regression, all_open(), generator(1), steps=8)
    near = torch.minimum((cts - BONE).abs(), (cts - AIR).abs())
    assert float((near < 100).double().mean()) > 0.95
    share = float((cts > MIDDLE).double().mean())  # of 512 cells
    assert share == pytest.approx(0.5, abs=3 * 0.5 / math.sqrt(512))
    once = draw(net, regression, all_open(), generator(2), steps=1)
    assert float((once - MIDDLE).abs().max()) < 5


def test_soft_tissue_is_the_regressions_to_the_last_bit() -> None:
    net = Answering(lambda bands, _: -3.0 * torch.ones_like(bands))
    sample = Coins()[0]
    value = answer(Undecided(), sample["image"][None])[0].detach()
    ct = draw(net, Undecided(), sample["image"][None], generator(), steps=3)
    soft = sample["image"] == TISSUE
    assert torch.equal(ct[soft], value[soft])
    assert float((ct[~soft] - value[~soft]).abs().mean()) > 100
    assert float(ct.max()) <= 3000


class Pointwise(Generator):  # type: ignore[misc]
    """Answers each cell by itself: small enough to learn the coins in a second or two."""

    def __init__(self) -> None:
        super().__init__(replace(SETTINGS, band_std=(2**1.5, *(1.0,) * 7)).as_json())
        layers = [nn.Conv3d(9, 64, 1), nn.SiLU(), nn.Conv3d(64, 64, 1), nn.SiLU(), nn.Conv3d(64, 8, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, bands: Tensor, time: Tensor, *_: Tensor) -> Tensor:
        t = time.reshape(-1, 1, 1, 1, 1).expand(-1, 1, *bands.shape[2:])
        return self.layers(torch.cat([bands, t], dim=1)).float()


def test_it_learns_to_draw_bone_or_air_where_the_regression_says_neither() -> None:
    torch.manual_seed(0)
    net, regression, config, coins = Pointwise(), Undecided(), ResidualFlow(net=SETTINGS), Coins(8)
    optimiser = torch.optim.Adam(net.layers.parameters(), 1e-2)
    batches = [default_collate([coins[n] for n in range(64 * k, 64 * k + 64)]) for k in range(8)]
    for step in range(300):
        loss = loss_of(config, net, regression, batches[step % 8], generator(step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    image, inside = batches[0]["image"], (slice(None), *(slice(2, 6),) * 3)
    value, _ = answer(regression, image)
    assert float((value[inside] - MIDDLE).detach().abs().max()) < 1
    ct = draw(net, regression, image, generator(5), steps=8)[inside]
    bone, air = ct > MIDDLE + HALF / 3, ct < MIDDLE - HALF / 3
    # A bell of the same mean and spread has a quarter between these bounds.
    assert float((bone | air).double().mean()) > 0.85
    assert 0.3 < float(bone.double().mean()) < 0.7
    once = draw(net, regression, image, generator(6), steps=1)[inside]
    assert float(once.mean()) == pytest.approx(MIDDLE, abs=0.4 * HALF)
    assert float(once.std()) < 0.6 * float(ct.std())


def trained(folder: Path, steps: int) -> tuple[Generator, dict[str, Any]]:
    how = Fit(steps=steps, batch=4)
    config = ResidualFlow(4.0, (8, 8, 8), replace(SETTINGS, band_std=()), fit=how)
    net, took = train(config, Coins(8), Undecided(), folder, quiet)
    return net, dict(took)


def test_a_finished_run_stays_and_its_bands_are_those_of_the_coins(tmp_path: Path) -> None:
    """Coins fill whole cells, so that residuals are ±1 unit: 2^(3/2) in the first band, 0 in the others."""
    net, took = trained(tmp_path, 2)
    assert net.settings.std[0] == pytest.approx(2**1.5, rel=0.02)
    assert max(net.settings.std[1:]) < 0.05
    again, took_again = trained(tmp_path, 2)
    assert took_again["steps"] == took["steps"] == 2
    assert again.settings == net.settings
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def head() -> Volume:
    """A block of soft tissue with what may be bone or air in it, on voxels of the network's."""
    data = torch.zeros(1, 23, 20, 27)
    data[:, 3:20, 3:17, 3:24] = 700.0
    data[:, 8:14, 8:14, 8:20] = 350.0
    return Volume(data, axial(np.zeros(3), 4.0 * np.array([23, 20, 27]), (4.0,) * 3), Quantity.MR, "1.2.3")


def test_samples_of_a_scan_differ_where_it_is_open_alone() -> None:
    config = ResidualFlow(4.0, (16, 16, 16), SETTINGS)
    net, regression, mr = Answering(coin_cells), Undecided(), head()
    found = samples_of(mr, net, regression, config, n=3, steps=4, seed=1)
    assert [ct.grid for ct in found] == [mr.grid] * 3
    assert {(ct.quantity, ct.frame) for ct in found} == {(Quantity.HU, "1.2.3")}
    both = mean_of(found)
    spread = both.aleatoric.data[0]
    assert float(spread[10:12, 10:12, 10:18].mean()) > 200
    # Windows are scaled on their own, so a voxel of soft tissue or two may look open in one of them.
    assert float((spread[4:7, 4:7, 4:22] > 1).double().mean()) < 0.05
    torch.testing.assert_close(both.ct.data, sum(ct.data for ct in found) / 3)
    assert float(mean_of(found[:1]).uncertainty.data.max()) == 0
    again = samples_of(mr, net, regression, config, n=3, steps=4, seed=1)
    assert torch.equal(again[2].data, found[2].data)
    with pytest.raises(ValueError, match="1 to 1 contrasts and a sample"):
        samples_of(mr, net, regression, config, n=0)


def test_a_recipe_gives_what_its_card_reads_back(tmp_path: Path) -> None:
    base = RegressionNet(
        4.0, (64, 64, 64), UNetConfig(inputs=1, outputs=N_OUTPUTS, features=(4,) * 6), Fit(steps=1)
    )
    rest = dict.fromkeys(("data", "licence", "split", "limits"), "toy")
    start = tmp_path / "start.safetensors"
    own = Trained(unet(base.net), base, {"steps": 0, "loss": 0.0}, "mr2ct", "toy", "toy")
    save_weights(own.net.state_dict(), own.card() | rest, start)
    made = RECIPES["flow"](base, Coins(64), tmp_path / "run", quiet, "cpu", 0, start, None)
    path = tmp_path / "flow.safetensors"
    save_weights(made.net.state_dict(), made.card() | rest, path)
    net, config = read_flow(path)
    assert (config.net, config.spacing, config.shape) == (made.net.settings, 4.0, (64, 64, 64))
    assert config.net.classes == 1 + 3
    pairs = zip(made.net.parameters(), net.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-3, rtol=1e-3) for a, b in pairs)  # kept in half precision
    with pytest.raises(ValueError, match="weights of a flow"):
        read_flow(start)
    with pytest.raises(ValueError, match="expected weights of a regression"):
        RECIPES["flow"](base, Coins(64), tmp_path / "run", quiet, "cpu", 0, None, None)


def test_what_makes_no_flow_is_refused() -> None:
    with pytest.raises(ValueError, match="velocity of one volume"):
        ResidualFlow(net=GeneratorConfig(space=3, contrasts=2, classes=7))
    with pytest.raises(ValueError, match="doubt between"):
        ResidualFlow(doubt=0.5)
    with pytest.raises(ValueError, match="expected 1 contrasts"):
        draw(build(SETTINGS), Undecided(), torch.zeros(1, 2, 16, 16, 16), generator())
