from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from models.generator import FULL, SLICES, SMALL, Generator, GeneratorConfig, Hints, Predicts, build

TINY = GeneratorConfig(classes=2, channels=(16, 32), blocks=1, widths=3)
TINY_3D = GeneratorConfig(space=3, contrasts=4, classes=12, channels=(16, 32), blocks=1)


def hints(how: GeneratorConfig, n: int = 2, side: int = 8) -> Hints:
    sides = (side,) * how.space
    made = torch.Generator().manual_seed(0)
    image = torch.randn(n, how.contrasts, *sides, generator=made)
    known = torch.zeros_like(image)
    known[:, :, : side // 2] = 1
    return Hints(torch.rand(n, how.classes, *sides, generator=made), known, image * known)


def bands(how: GeneratorConfig, n: int = 2, side: int = 8) -> torch.Tensor:
    shape = (n, how.bands, *[side // 2] * how.space)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def awake(how: GeneratorConfig) -> Generator:
    """A network whose layers that start at zero say something."""
    net, made = build(how), torch.Generator().manual_seed(0)
    for weight in net.parameters():
        if weight.ndim > 1 and not weight.any():
            nn.init.normal_(weight, std=0.1, generator=made)
    return net


@pytest.mark.parametrize("how", [TINY, TINY_3D, GeneratorConfig(classes=0, channels=(16, 16), blocks=1)])
def test_answers_have_the_shape_of_the_bands_and_start_at_zero(how: GeneratorConfig) -> None:
    at, width = bands(how), torch.zeros(2, dtype=torch.long)
    answer = build(how)(at, torch.tensor([0.2, 1.0]), width, *hints(how))
    assert answer.shape == at.shape
    assert not answer.any()  # MONAI's last layer


@pytest.mark.parametrize("time", [0.1, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_a_spread_starts_at_the_best_guess_from_noise_alone(spread: float, time: float) -> None:
    """The line of regression for data of that spread; what others leave to learn has variance 1."""
    how = replace(TINY, spread=spread)
    made = torch.Generator().manual_seed(2)
    data, noise = (torch.randn(2_000_000, generator=made) for _ in range(2))
    known, velocity = (1 - time) * spread * data + time * noise, noise - spread * data
    slope = float((known * velocity).mean() / (known**2).mean())
    told = (torch.full((2,), time), torch.zeros(2, dtype=torch.long), *hints(how))
    answer = build(how)(bands(how), *told)
    torch.testing.assert_close(answer, slope * bands(how), atol=0.02, rtol=0.0)
    left = noise - data - slope * ((1 - time) * data + time * noise)
    # It hears them as far as data speak through the noise, and a tenth of them where they do not.
    heard = 0.1 + 0.9 * float(((1 - time) * spread * data).std() / known.std())
    net = awake(how)
    with torch.no_grad():
        added = net(bands(how), *told) - answer
        net.settings = TINY
        inner = net(heard * bands(how), *told)
        torch.testing.assert_close(added, inner * float(left.std()), rtol=0.02, atol=5e-3)


def test_answers_depend_on_all_that_the_network_is_told() -> None:
    net, at, width = awake(TINY), bands(TINY), torch.zeros(2, dtype=torch.long)
    time, told = torch.tensor([0.3, 0.6]), hints(TINY)
    with torch.no_grad():
        answer = net(at, time, width, *told)
        others = [
            net(at, time + 0.1, width, *told),
            net(at, time, width + 1, *told),
            net(at, time, width, *told.unconditional()),
            net(at, time, width, *told._replace(known=torch.zeros_like(told.known))),
            net(at, time, width, *told._replace(given=-told.given)),
        ]
        assert all(float((answer - other).abs().max()) > 1e-4 for other in others)
        torch.testing.assert_close(
            net(at[1:], time[1:], width[1:], *told.rows(torch.tensor([1]))), answer[1:]
        )


def test_a_generator_with_waves_knows_where_a_band_lies() -> None:
    """The same bands everywhere give the same answer inside, unless the network is told the place."""
    for waves, tells in ((0, False), (2, True)):
        how = replace(TINY, classes=0, waves=waves)
        net = build(how, 1).eval()
        for weight in net.parameters():
            nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(0))
        sides = (32,) * how.space
        bands = torch.ones(1, how.bands, *[n // 2 for n in sides])
        nothing = torch.zeros(1, how.contrasts, *sides)
        x = net.net.conv_in  # what the first convolution sees
        seen: list[torch.Tensor] = []
        x.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
        net(bands, torch.ones(1), torch.zeros(1, dtype=torch.long), nothing[:, :0], nothing, nothing)
        same = bool((seen[0] == seen[0].flatten(2)[..., :1].reshape(1, -1, *[1] * how.space)).all())
        assert same is not tells
        if tells:  # the middle of the first sine is its zero, both ends of it are the extremes
            assert seen[0].shape[1] == 2 * how.bands + how.contrasts + 4 * how.space
            first = seen[0][0, -4 * how.space]
            assert float(first.flatten()[0]) == pytest.approx(-1, abs=1e-6)
            assert float(first.flatten()[-1]) == pytest.approx(1, abs=1e-6)


def test_half_precision_answers_in_single() -> None:
    net, width = awake(TINY_3D), torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        full = net(bands(TINY_3D), torch.rand(2), width, *hints(TINY_3D))
        with torch.autocast("cpu", torch.bfloat16):
            half = net(bands(TINY_3D), torch.rand(2), width, *hints(TINY_3D))
    assert half.dtype == torch.float32
    assert full.shape == half.shape


def test_there_are_no_transposed_convolutions() -> None:
    for how in (TINY, TINY_3D):
        assert not [m for m in build(how).modules() if isinstance(m, nn.ConvTranspose2d | nn.ConvTranspose3d)]


def test_first_weights_depend_on_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = build(TINY, 1), build(TINY, 1), build(TINY, 2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.net.conv_in.conv.weight, same.net.conv_in.conv.weight)
    assert not torch.equal(one.net.conv_in.conv.weight, other.net.conv_in.conv.weight)


def test_diffusers_saves_and_loads_it_to_the_bit(tmp_path: Path) -> None:
    how = GeneratorConfig(
        classes=2, channels=(16, 16), blocks=1, predicts=Predicts.NOISE, band_std=(1.0, 0.5, 0.5, 0.25)
    )
    net = awake(how)
    net.save_pretrained(tmp_path)
    again = Generator.from_pretrained(tmp_path, local_files_only=True)
    assert again.settings == how
    for name, t in net.state_dict().items():
        assert torch.equal(t, again.state_dict()[name])


def test_the_shipped_sizes_stay_small() -> None:
    with torch.device("meta"):
        millions = {
            name: sum(p.numel() for p in Generator(how.as_json()).parameters()) / 1e6
            for name, how in (("slices", SLICES), ("small", SMALL), ("full", FULL))
        }
    assert 2 < millions["slices"] < 3
    assert 2 < millions["small"] < 3
    assert millions["small"] < millions["full"] < 12  # 24 MiB in half precision


def test_settings_come_back_from_json_and_strange_ones_are_refused() -> None:
    for how in (SLICES, SMALL, FULL, TINY):
        assert GeneratorConfig.from_json(how.as_json()) == how
    for key, value, match in [
        ("space", 4, "2 or 3 axes"),
        ("channels", [8], "multiples of 16"),
        ("channels", [1 << 20], "multiples of 16"),
        ("channels", "abc", "numbers as settings"),
        ("contrasts", True, "numbers as settings"),
        ("contrasts", float("inf"), "numbers as settings"),
        ("widths", 99, "0 to 12 widths"),
        ("render_share", 1.0, "render's share"),
        ("band_std", [1.0], "4 positive deviations"),
        ("band_std", [1.0, 1.0, 1.0, float("nan")], "numbers as settings"),
        ("predicts", "everything", "settings of a generator"),
        ("embedded", 0, "1 to 256 channels"),
        ("spread", -0.1, "spread from 0 to 10"),
        ("predicts", "noise", "spread from 0 to 10"),
        ("code", "x", "expected settings"),
    ]:
        with pytest.raises(ValueError, match=match):
            GeneratorConfig.from_json({"spread": 1.0, key: value})
