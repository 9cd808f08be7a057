from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.augment import Augmentation
from models.discriminator import views
from models.fit import Fit
from models.generator import SMALL, GeneratorConfig, Hints, Predicts, build
from models.samplers import shortcut
from models.wavelet import to_bands, to_image
from synth.adversarial import Adversarial, drawn, losses, networks, one_pass, train
from synth.conditions import Shares, box_planes

STILL = Augmentation(0.0, 0.0, 0.0, 0.0)
TINY = one_pass(GeneratorConfig(contrasts=2, classes=3, channels=(16, 16), blocks=1, band_std=(2.0,) * 8))
PLAIN = Adversarial(TINY, augmentation=STILL, shares=Shares(0.0, 0.0, 0.0), gamma=0.0, bf16=False)
CONTRASTS = replace(PLAIN, shares=Shares(1.0, 0.0, 0.0))


class Draws(nn.Module):
    """A generator that draws one value everywhere."""

    def __init__(self, value: float, config: GeneratorConfig = TINY) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))
        self.std = config.std

    def forward(self, bands: Tensor, time: Tensor, width: Tensor, *hints: Tensor) -> Tensor:
        assert time.tolist() == [1.0] * len(bands)
        assert width.tolist() == [1] * len(bands)
        return bands - to_bands(self.value * torch.ones_like(hints[-1]), self.std)  # source - data


class Says(nn.Module):
    """One discriminator is linear in the image (weight · sum + bias), one says 0; they keep what they saw."""

    def __init__(self, weight: float = 0.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.tensor(weight)), nn.Parameter(torch.tensor(bias))
        self.seen: list[tuple[Tensor, bool]] = []

    def forward(self, image: Tensor, high: Tensor, _: Tensor) -> tuple[Tensor, ...]:
        self.seen.append((image.detach(), torch.is_autocast_enabled(image.device.type)))
        return self.weight * image.flatten(1).sum(1) + self.bias, 0 * high.flatten(1).sum(1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int = 4, side: int = 16) -> dict[str, Tensor]:
    image = torch.rand(n, 2, side, side, generator=seeded(7)) * 2 - 1
    boxes = box_planes(torch.tensor([[1.0, 0.5, 0.5, 0.25, 0.25]]), 3, (side, side))
    return {"image": image, "condition": boxes.expand(n, 3, side, side).clone()}


def test_the_discriminator_comes_first_and_the_generator_is_judged_by_the_one_that_has_stepped() -> None:
    judge = Says(bias=0.25)
    each = losses(PLAIN, {"generator": Draws(0.0), "discriminator": judge}, batch(), seeded())
    name, value = next(each)
    # A bias of 1/4 costs 3/4 on real and 5/4 on drawn images, and none costs 1 on each.
    assert name == "discriminator"
    assert float(value.detach()) == pytest.approx(4.0)
    judge.bias.data.fill_(0.5)
    name, value = next(each)
    assert name == "generator"
    assert float(value.detach()) == pytest.approx(-0.5)
    assert next(each, None) is None


def test_each_loss_has_gradients_for_its_own_network_alone() -> None:
    draws, judge = Draws(0.1), Says(0.001)
    each = losses(CONTRASTS, {"generator": draws, "discriminator": judge}, batch(), seeded())
    next(each)[1].backward()  # type: ignore[no-untyped-call]
    assert draws.value.grad is None
    assert judge.weight.grad is not None
    judge.zero_grad()
    next(each)[1].backward()  # type: ignore[no-untyped-call]
    assert draws.value.grad is not None
    assert judge.weight.grad is None
    assert judge.weight.requires_grad


def test_given_voxels_are_judged_as_they_are_and_contrasts_that_are_absent_are_blank() -> None:
    data, judge = batch(), Says()
    nets = {"generator": Draws(0.5), "discriminator": judge}
    for _ in losses(replace(PLAIN, shares=Shares(0.0, 1.0, 0.0)), nets, data, seeded()):
        pass
    real, fake = judge.seen[0][0].chunk(2)
    assert torch.equal(real, data["image"])
    given = fake == data["image"]
    torch.testing.assert_close(fake[~given], torch.full_like(fake[~given], 0.5))
    assert not bool((given & (data["condition"][:, 1:2] > 0)).any())
    assert 0.3 < float(given.float().mean()) < 0.95
    data["present"] = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    judge.seen.clear()
    next(losses(PLAIN, nets, data, seeded()))
    assert float(judge.seen[0][0][:, 1].abs().max()) == 0


def test_errors_of_given_and_of_other_voxels_are_weighed() -> None:
    data = batch(3)
    data["image"] = torch.tensor([0.5, -0.25]).reshape(1, 2, 1, 1).expand(3, 2, 16, 16).clone()
    nets = {"generator": Draws(0.0), "discriminator": Says()}
    weighed = replace(CONTRASTS, known=2.0, reconstruction=8.0)
    values = {name: float(v.detach()) for name, v in losses(weighed, nets, data, seeded())}
    # One of two contrasts is given to each sample: its error is 1/2 and the other's 1/4, or the reverse.
    possible = [(n * (2 * 0.5 + 8 * 0.25) + (3 - n) * (2 * 0.25 + 8 * 0.5)) / 3 for n in range(4)]
    assert min(abs(values["generator"] - p) for p in possible) < 1e-5
    values = {name: float(v.detach()) for name, v in losses(PLAIN, nets, data, seeded())}
    assert values["generator"] == 0


def test_the_penalty_of_a_linear_discriminator_is_half_gamma_times_its_squared_norm_in_float32() -> None:
    judge = Says(0.01)
    judged = replace(PLAIN, gamma=3.0, every=1, bf16=True)
    nets = {"generator": Draws(0.0), "discriminator": judge}
    _, with_ = next(losses(judged, nets, batch(), seeded()))
    assert [autocast for _, autocast in judge.seen] == [True, False]
    _, without = next(losses(replace(judged, gamma=0.0), nets, batch(), seeded()))
    expected = 3.0 / 2 * 0.01**2 * (2 * 16 * 16)
    assert float((with_ - without).detach()) == pytest.approx(expected, rel=1e-3)


def test_a_lazy_penalty_sees_one_image_in_so_many_and_weighs_as_many_times() -> None:
    judge = Says(0.01)
    nets = {"generator": Draws(0.0), "discriminator": judge}
    lazy = replace(PLAIN, gamma=1.0, every=4)
    norm = 0.01**2 * (2 * 4 * 4)

    def taken(n: int, seed: int) -> tuple[int, float]:
        """How many images were looked at for the penalty, and its value."""
        values = []
        for config in (lazy, replace(lazy, gamma=0.0)):
            judge.seen.clear()
            _, value = next(losses(config, nets, batch(n, 4), seeded(seed)))
            values.append((sum(len(seen) for seen, _ in judge.seen[1:]), float(value.detach())))
        return values[0][0], values[0][1] - values[1][1]

    for n, seen in ((8, 2), (4, 1)):
        looked_at, value = taken(n, 0)
        assert looked_at == seen
        assert value == pytest.approx(norm / 2, rel=1e-2)
    alone = [taken(1, seed) for seed in range(100)]
    there = [value for seen, value in alone if seen]
    assert len(there) / 100 == pytest.approx(1 / 4, abs=0.12)
    assert there == pytest.approx([4 * norm / 2] * len(there), rel=1e-2)


@pytest.mark.parametrize(("gamma", "settles"), [(0.5, True), (0.0, False)])
def test_the_dirac_gan_settles_with_the_penalty_and_circles_without(gamma: float, settles: bool) -> None:
    # Mescheder et al., ICML 2018, sections 2 and 4: data at 0, a generator at θ, a discriminator ψ·x.
    side = one_pass(GeneratorConfig(contrasts=1, classes=0, channels=(16,), blocks=1))
    config = replace(PLAIN, generator=side, gamma=gamma, every=1, known=0.0)
    draws, judge = Draws(0.2, side), Says()
    judge.bias.requires_grad_(False)
    steps = {
        "generator": torch.optim.SGD([draws.value], 0.05),
        "discriminator": torch.optim.SGD([judge.weight], 0.05),
    }
    nets = {"generator": draws, "discriminator": judge}
    zeros = {"image": torch.zeros(1, 1, 2, 2)}
    furthest = 0.0
    for step in range(150):
        for name, value in losses(config, nets, zeros, seeded(step)):
            steps[name].zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            steps[name].step()
        if step >= 100:
            furthest = max(furthest, abs(float(draws.value.detach())))
    assert (furthest < 0.01) is settles
    assert (furthest > 0.15) is not settles


def test_networks_draw_images_of_their_shape_in_two_and_three_dimensions() -> None:
    volumes = one_pass(GeneratorConfig(3, 2, 12, channels=(16, 16), blocks=1))
    for generator, space in ((TINY, (16, 16)), (volumes, (16, 16, 16))):
        config = Adversarial(generator, features=4, layers=2)
        nets = networks(config, seed=3)
        known = torch.zeros(1, 2, *space)
        hints = Hints(torch.zeros(1, generator.classes, *space), known, known)
        image = drawn(nets["generator"], hints, config, seeded())
        assert image.shape == known.shape
        assert image.dtype == torch.float32
        whole, fine = nets["discriminator"](*views(image, generator.std), hints.condition)
        assert whole.shape == fine.shape
    again = networks(config, seed=3)["discriminator"].state_dict()
    assert all(torch.equal(v, again[k]) for k, v in nets["discriminator"].state_dict().items())


class KilledError(Exception):
    pass


class Boxes(Dataset[dict[str, Tensor]]):
    """Samples with a box as bright as its class says; those from ``end`` on are never made."""

    def __init__(self, end: int = 100) -> None:
        self.end = end

    def __len__(self) -> int:
        return 100

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        if n >= self.end:
            raise KilledError
        plane = box_planes(torch.tensor([[n % 3, 0.5, 0.5, 0.5, 0.5]]), 3, (32, 32))
        bright = (plane * torch.tensor([0.2, 0.6, 1.0]).reshape(3, 1, 1)).sum(0)
        return {"image": torch.stack([bright, -bright]), "condition": plane}


def quiet(title: str, share: float) -> None:
    assert title


def test_a_training_killed_on_the_way_ends_with_the_same_bits(tmp_path: Path) -> None:
    how = Fit(steps=3, batch=2, learning_rate=1e-3, momentum=0.0, checkpoint_s=0.0)
    config = Adversarial(TINY, features=4, layers=2, every=2, bf16=False, fit=how)
    whole, _ = train(config, Boxes(), tmp_path / "whole", quiet)
    with pytest.raises(KilledError):
        train(config, Boxes(end=4), tmp_path / "parts", quiet)
    parts, _ = train(config, Boxes(), tmp_path / "parts", quiet)
    first = networks(config)["generator"].state_dict()
    for name, t in whole.state_dict().items():
        assert torch.equal(t, parts.state_dict()[name])
        assert bool(torch.isfinite(t).all())
    assert any(not torch.equal(t, first[name]) for name, t in whole.state_dict().items())


def test_a_gan_starts_as_the_one_step_of_a_diffusions_shortcut(tmp_path: Path) -> None:
    flow = build(replace(TINY, predicts=Predicts.VELOCITY, widths=3), 5)
    nn.init.normal_(flow.net.out[2].conv.weight, std=0.1, generator=seeded())
    how = Fit(steps=1, batch=2, learning_rate=0.0, weight_decay=0.0, checkpoint_s=0.0)
    config = Adversarial(one_pass(flow.settings), features=4, layers=2, bf16=False, fit=how)
    net, _ = train(config, Boxes(), tmp_path, quiet, start=flow)
    given = Hints(batch()["condition"], torch.zeros(4, 2, 16, 16), torch.zeros(4, 2, 16, 16))
    noise = torch.randn(4, 8, 8, 8, generator=seeded(3))
    with torch.no_grad():
        step = to_image(shortcut(flow, noise, given, 1), flow.settings.std)
        torch.testing.assert_close(drawn(net, given, config, seeded(3)), step)


def test_settings_that_make_no_gan_are_refused() -> None:
    with pytest.raises(ValueError, match="one_pass"):
        Adversarial(SMALL)  # answers a velocity
    with pytest.raises(ValueError, match="weights of 0 or more"):
        Adversarial(TINY, gamma=-1.0)
    assert Adversarial(one_pass(SMALL)).generator.contrasts == 4
