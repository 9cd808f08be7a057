import pytest
import torch
from torch import Tensor

from models.flow import (
    flow_loss,
    in_bf16,
    large_steps,
    mixed,
    source,
    times,
    two_steps,
    weighted_error,
    weights,
)
from models.generator import GeneratorConfig, Hints, build
from models.noising import noise_loss, steps

MEAN, STD = -0.3, 0.6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hints(n: int, side: int = 32) -> Hints:
    return Hints(torch.ones(n, 2, side, side), torch.zeros(n, 1, side, side), torch.zeros(n, 1, side, side))


def column(t: Tensor) -> Tensor:
    return t.reshape(-1, 1, 1, 1)


def moments(t: Tensor) -> tuple[Tensor, Tensor]:
    return (1 - t) * MEAN, ((1 - t) ** 2 * STD**2 + t**2).sqrt()


def velocity(x: Tensor, time: Tensor, width: Tensor, *_: Tensor) -> Tensor:
    """Of N(MEAN, STD²) in closed form; a width gives the whole step, and half of the least is exact too."""
    t, k = column(time), column(width)
    step = torch.where(k > 0, 2.0 ** (1 - k), 2.0**-3)
    mean, std = moments(t)
    next_mean, next_std = moments((t - step).clamp(min=0))
    return (x - next_mean - next_std / std * (x - mean)) / step


def instant(x: Tensor, time: Tensor, *_: Tensor) -> Tensor:
    t = column(time)
    mean, std = moments(t)
    return (t - (1 - t) * STD**2) / std**2 * (x - mean) - MEAN


def test_paths_run_from_data_to_source() -> None:
    data, start = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 4, 4, 4)
    assert torch.equal(mixed(data, start, torch.zeros(2)), data)
    assert torch.equal(mixed(data, start, torch.ones(2)), start)


def test_a_source_with_a_render_keeps_its_variance() -> None:
    noise, render = (torch.randn(1, 4, 200, 200, generator=generator(n)) for n in (0, 1))
    assert source(noise, None, 0.0) is noise
    assert float(source(noise, render, 0.6).var()) == pytest.approx(1, rel=0.02)
    with pytest.raises(ValueError, match="render of the labels"):
        source(noise, None, 0.6)


def test_times_are_logit_normal_or_even() -> None:
    drawn = times(40_000, 0.5, 1.2, generator())
    logit = torch.logit(drawn)
    assert float(logit.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(logit.std()) == pytest.approx(1.2, abs=0.03)
    even = times(40_000, 0.5, 0.0, generator())
    assert float(even.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(even.var()) == pytest.approx(1 / 12, abs=0.002)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_exact_velocity_leaves_the_conditional_variance(t: float) -> None:
    # Var(source - data | x) = 1 + s² - (t - (1 - t) s²)² / ((1 - t)² s² + t²) of jointly normal variables
    n = 16
    noise = torch.randn(n, 4, 32, 32, generator=generator())
    data = MEAN + STD * torch.randn(n, 4, 32, 32, generator=generator(1))
    width = torch.zeros(n, dtype=torch.long)
    left = flow_loss(instant, data, noise, torch.full((n,), t), width, hints(n, 64), torch.ones_like(data), 0)
    var = (1 - t) ** 2 * STD**2 + t**2
    assert float(left) == pytest.approx(1 + STD**2 - (t - (1 - t) * STD**2) ** 2 / var, rel=0.02)


def test_the_exact_noise_leaves_the_conditional_variance() -> None:
    # Var(noise | x) = a s² / (a s² + 1 - a)
    a = 0.07772  # of step 499 of the linear schedule of Ho et al.: prod(1 - beta), beta from 1e-4 to 0.02
    n = 16
    noise = torch.randn(n, 4, 32, 32, generator=generator())
    data = MEAN + STD * torch.randn(n, 4, 32, 32, generator=generator(1))
    seen: list[float] = []

    def exact(x: Tensor, time: Tensor, width: Tensor, *_: Tensor) -> Tensor:
        seen.append(float(time[0]))
        return (1 - a) ** 0.5 * (x - a**0.5 * MEAN) / (a * STD**2 + 1 - a)

    step = torch.full((n,), 499)
    left = noise_loss(exact, data, noise, step, hints(n, 64), torch.ones_like(data))
    assert float(left) == pytest.approx(a * STD**2 / (a * STD**2 + 1 - a), rel=0.03)
    assert seen == pytest.approx([0.499])


def test_steps_of_the_chain_are_even() -> None:
    drawn = steps(20_000, generator())
    assert int(drawn.min()) == 0
    assert int(drawn.max()) == 999
    assert float(drawn.float().mean()) == pytest.approx(499.5, abs=6)


def test_large_steps_begin_where_such_a_step_may() -> None:
    time, width = large_steps(4000, 0.25, 3, generator())
    assert float((width > 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    for k, allowed in {1: {1.0}, 2: {0.5, 1.0}, 3: {0.25, 0.5, 0.75, 1.0}}.items():
        assert set(time[width == k].tolist()) == allowed
    assert set(width.tolist()) == {0, 1, 2, 3}
    assert not large_steps(9, 1.0, 0, generator())[1].any()


def test_two_steps_of_an_exact_network_are_one_of_twice_the_width() -> None:
    time, width = large_steps(64, 1.0, 3, generator())
    at = torch.randn(64, 4, 8, 8, generator=generator())
    both = two_steps(velocity, at, time, width, hints(64, 16), 3)
    torch.testing.assert_close(both, velocity(at, time, width), atol=1e-4, rtol=1e-4)
    assert not both.requires_grad


def test_what_is_known_counts_its_floor_and_what_is_absent_nothing() -> None:
    known = torch.zeros(2, 2, 4, 4)
    known[0, 0] = 1
    known[1, :, :2] = 1
    known[1, :, 2:, :1] = 1  # half of each cell there
    weight = weights(known, torch.tensor([[1.0, 1.0], [1.0, 0.0]]), (1.0,) * 8, 1.0, 0.1)
    assert weight.shape == (2, 8, 2, 2)
    torch.testing.assert_close(weight[0, 0::2], torch.full((4, 2, 2), 0.1))
    torch.testing.assert_close(weight[0, 1::2], torch.ones(4, 2, 2))
    torch.testing.assert_close(weight[1, 0], torch.tensor([[0.1, 0.1], [0.5, 1.0]]))
    assert not weight[1, 1::2].any()


def test_a_power_of_two_weighs_bands_as_the_image_does() -> None:
    std = (4.0, 2.0, 1.0, 1.0)
    weight = weights(torch.zeros(1, 1, 4, 4), torch.ones(1, 1), std, 2.0, 0.0)
    torch.testing.assert_close(weight[0, :, 0, 0] * 22 / 4, torch.tensor(std) ** 2)


def test_samples_count_alike_however_much_of_them_is_known() -> None:
    target = torch.zeros(2, 1, 4, 4)
    answer = torch.cat([torch.ones(1, 1, 4, 4), torch.full((1, 1, 4, 4), 3.0)])
    weight = torch.cat([torch.full((1, 1, 4, 4), 0.01), torch.ones(1, 1, 4, 4)])
    assert float(weighted_error(answer, target, weight)) == pytest.approx((1 + 9) / 2)
    weight[1] = 0
    assert float(weighted_error(answer, target, weight)) == pytest.approx(1)


def test_every_weight_learns_from_large_steps_in_half_precision() -> None:
    # Autocast would hand the weights that it cast without a gradient to the pass that needs one.
    net = build(GeneratorConfig(classes=2, channels=(16, 16), blocks=1, widths=2))
    torch.nn.init.normal_(net.net.out[2].conv.weight, std=0.1, generator=generator())
    data, start = (torch.randn(4, 4, 8, 8, generator=generator(n)) for n in (0, 1))
    time, width = torch.tensor([1.0, 1.0, 0.5, 0.3]), torch.tensor([1, 2, 2, 0])
    loss = flow_loss(
        in_bf16(net), data, start, time, width, hints(4, 16), torch.ones_like(data), net.settings.widths
    )
    assert loss.dtype == torch.float32
    loss.backward()
    without = [name for name, p in net.named_parameters() if p.grad is None]
    assert without == []
    assert float(net.net.conv_in.conv.weight.grad.abs().sum()) > 0
