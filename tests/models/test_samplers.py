"""Samplers against the flow of a Gaussian, which is known in closed form: x ~ N(mean, std²) has the velocity
below, and its paths end at mean + std * source."""

from collections.abc import Callable

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from models.generator import GeneratorConfig, Hints, build
from models.samplers import (
    Sampler,
    flow_dpm,
    flow_euler,
    flow_heun,
    guided,
    noise_ddim,
    noise_dpm,
    noise_euler,
    noise_heun,
    one_pass,
    shortcut,
)

MEAN, STD = 0.7, 0.4
ALPHAS = DDPMScheduler(1000).alphas_cumprod


def source() -> Tensor:
    return torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(0))


def hints(n: int = 4) -> Hints:
    return Hints(torch.ones(n, 2, 32, 32), torch.zeros(n, 1, 32, 32), torch.zeros(n, 1, 32, 32))


def per_sample(t: Tensor) -> Tensor:
    return t.reshape(-1, 1, 1, 1)


def moments(t: Tensor) -> tuple[Tensor, Tensor]:
    return (1 - t) * MEAN, ((1 - t) ** 2 * STD**2 + t**2).sqrt()


def velocity(x: Tensor, time: Tensor, width: Tensor, *_: Tensor) -> Tensor:
    """E[source - data | x], or the whole step of a width."""
    t, k = per_sample(time), per_sample(width)
    mean, std = moments(t)
    now = (t - (1 - t) * STD**2) / std**2 * (x - mean) - MEAN
    step = 2.0 ** (1 - k)
    next_mean, next_std = moments((t - step).clamp(min=0))
    whole = (x - next_mean - next_std / std * (x - mean)) / step
    return torch.where(k > 0, whole, now)


def noise(x: Tensor, time: Tensor, width: Tensor, *_: Tensor) -> Tensor:
    """E[noise | x] of a DDPM, between the steps of its schedule too."""
    at = (time * 1000).clamp(0, 999)
    low = at.floor().long().clamp(max=998)
    share = at - low
    log = ALPHAS.log()
    a = per_sample((log[low] + share * (log[low + 1] - log[low])).exp())
    return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)


@pytest.mark.parametrize(
    ("sampler", "n_steps", "net", "off"),
    [
        (flow_euler, 100, velocity, 0.02),
        (flow_heun, 20, velocity, 0.01),
        (flow_dpm, 20, velocity, 0.01),
        (shortcut, 1, velocity, 1e-5),
        (shortcut, 2, velocity, 1e-5),
        (shortcut, 4, velocity, 1e-5),
        (noise_ddim, 100, noise, 0.03),
        (noise_dpm, 25, noise, 0.02),
        (noise_euler, 100, noise, 0.03),
        (noise_heun, 30, noise, 0.03),
    ],
)
def test_every_sampler_lands_on_the_gaussian(
    sampler: Sampler, n_steps: int, net: Callable[..., Tensor], off: float
) -> None:
    drawn = sampler(net, source(), hints(), n_steps, 1.0)
    truth = MEAN + STD * source()
    assert float(drawn.mean()) == pytest.approx(float(truth.mean()), abs=off)
    assert float(drawn.std()) == pytest.approx(float(truth.std()), abs=off)
    assert float((drawn - truth).abs().max()) < 4 * off


def test_heun_and_dpm_solver_come_nearer_than_euler_at_equal_cost() -> None:
    truth = MEAN + STD * source()

    def error(sampler: Sampler, n_steps: int) -> float:
        return float((sampler(velocity, source(), hints(), n_steps, 1.0) - truth).abs().max())

    assert error(flow_heun, 5) < error(flow_euler, 9)
    assert error(flow_dpm, 9) < error(flow_euler, 9)


def test_one_step_of_euler_is_exact_on_a_straight_path() -> None:
    end = torch.linspace(-1, 1, 16).expand(4, 4, 16, 16)

    def straight(x: Tensor, time: Tensor, *_: Tensor) -> Tensor:
        return (x - end) / per_sample(time)

    torch.testing.assert_close(flow_euler(straight, source(), hints(), 1, 1.0), end)


@pytest.mark.parametrize(
    ("sampler", "n_steps", "times"),
    [
        (flow_euler, 4, [1, 0.75, 0.5, 0.25]),
        (flow_heun, 4, [1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25]),
        (flow_dpm, 4, [0.999, 0.74925, 0.4995, 0.24975]),
        (shortcut, 4, [1, 0.75, 0.5, 0.25]),
        (noise_ddim, 4, [0.999, 0.749, 0.499, 0.249]),
        (one_pass, 1, [1]),
    ],
)
def test_the_network_is_told_time_from_one_to_zero(
    sampler: Sampler, n_steps: int, times: list[float]
) -> None:
    seen: list[float] = []

    def net(x: Tensor, time: Tensor, *_: Tensor) -> Tensor:
        seen.append(float(time[0]))
        return torch.zeros_like(x)

    sampler(net, source(), hints(), n_steps, 1.0)
    assert seen == pytest.approx(times, abs=1e-6)


def test_shortcuts_are_told_the_width_of_their_step() -> None:
    seen: list[int] = []

    def net(x: Tensor, time: Tensor, width: Tensor, *_: Tensor) -> Tensor:
        seen.append(int(width[0]))
        return torch.zeros_like(x)

    for n_steps in (1, 2, 4):
        shortcut(net, source(), hints(), n_steps)
    assert seen == [1, 2, 2, 3, 3, 3, 3]


def told(x: Tensor, time: Tensor, width: Tensor, condition: Tensor, *_: Tensor) -> Tensor:
    return x * time.mean() + condition.mean(dim=(1, 2, 3)).reshape(-1, 1, 1, 1)


def test_guidance_of_one_is_none_and_more_goes_on_in_a_line() -> None:
    at, blank = source(), hints().unconditional()
    plain = guided(told, at, 0.5, 0, hints(), 1.0)
    times = torch.full((4,), 0.5)
    assert torch.equal(plain, told(at, times, torch.zeros(4, dtype=torch.long), *hints()))
    torch.testing.assert_close(guided(told, at, 0.5, 0, hints(), 3.0), plain + 2.0)
    torch.testing.assert_close(guided(told, at, 0.5, 0, hints(), 0.0), plain - 1.0)
    torch.testing.assert_close(guided(told, at, 0.5, 0, blank, 3.0), plain - 1.0)


def test_steps_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 1000 steps"):
        flow_euler(velocity, source(), hints(), 0)
    with pytest.raises(ValueError, match="1, 2, 4"):
        shortcut(velocity, source(), hints(), 3)
    with pytest.raises(ValueError, match="1 step"):
        one_pass(velocity, source(), hints(), 2)
    net = build(GeneratorConfig(classes=2, channels=(16, 16), blocks=1, widths=2))
    with pytest.raises(ValueError, match="2 widths"):
        shortcut(net, source(), hints(), 4)
