"""Samplers: from a source to the bands of an image, with the solvers of diffusers.

All take the network, the source, the hints, a number of steps and the strength of guidance. Time goes from 1
at the source to 0 at the data, whatever a scheduler counts.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_heun_discrete import FlowMatchHeunDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from .flow import Net
from .generator import Generator, Hints
from .noising import BETA, N_STEPS

Bands = Float[Tensor, "b k *h"]
# diffusers' classes differ in the betas that they take for granted, and Heun's are not those of Ho et al.
_SCHEDULE: Mapping[str, Any] = {"beta_start": BETA[0], "beta_end": BETA[1], "timestep_spacing": "trailing"}

Sampler = Callable[[Net, Tensor, Hints, int, float], Tensor]


def guided(
    net: Net, at: Bands, time: float, width: int, hints: Hints, guidance: float
) -> Float[Tensor, "b k *h"]:
    """The network's answer, pushed away from the one without a condition (Ho and Salimans, 2022).

    ``guidance`` 1 is the plain answer; w gives ``without + w (with - without)``. What is known stays known
    in both.
    """
    n = at.shape[0]
    times = torch.full((n,), time, device=at.device)
    widths = torch.full((n,), width, dtype=torch.long, device=at.device)
    if guidance == 1 or hints.condition.shape[1] == 0:
        return net(at, times, widths, *hints)
    both = [torch.cat(pair) for pair in zip(hints, hints.unconditional(), strict=True)]
    answer = net(torch.cat([at, at]), times.repeat(2), widths.repeat(2), *both)
    told, blank = answer.chunk(2)
    return blank + guidance * (told - blank)


def along_flow(
    make: Callable[[], Any], net: Net, source: Bands, hints: Hints, n_steps: int, guidance: float = 1.0
) -> Float[Tensor, "b k *h"]:
    """Bands at the end of a flow, by a solver of diffusers with sigma as time.

    Left alone, diffusers' flow solvers put their last step from 0.001 to 0, which a sampler of few steps
    cannot spare; here all steps are of one size (before a shift).
    """
    _at_least_one(n_steps)
    with _old_arrays():
        solver = make()
        solver.sigma_min = 1 / n_steps
        solver.set_timesteps(n_steps, device=source.device)
    at = source
    for n, step in enumerate(solver.timesteps):
        answer = guided(net, at, float(solver.sigmas[n]), 0, hints, guidance)
        at = solver.step(answer, step, at, return_dict=False)[0]
    return at


def along_noise(
    make: Callable[[], Any], net: Net, source: Bands, hints: Hints, n_steps: int, guidance: float = 1.0
) -> Float[Tensor, "b k *h"]:
    """Bands at the end of a DDPM's chain, by a solver of diffusers that takes noise as the answer."""
    _at_least_one(n_steps)
    with _old_arrays():
        solver = make()
        solver.set_timesteps(n_steps, device=source.device)
    at = source * solver.init_noise_sigma
    for step in solver.timesteps:
        seen = solver.scale_model_input(at, step)
        answer = guided(net, seen, float(step) / N_STEPS, 0, hints, guidance)
        at = solver.step(answer, step, at, return_dict=False)[0]
    return at


def shortcut(
    net: Net, source: Bands, hints: Hints, n_steps: int, guidance: float = 1.0
) -> Float[Tensor, "b k *h"]:
    """Bands after 1, 2, 4, ... steps of a shortcut model, each told its width.

    Raises
    ------
    ValueError
        If the number of steps is no power of two, or the network has not learnt so small a step.
    """
    _at_least_one(n_steps)
    width = round(math.log2(n_steps)) + 1
    if 2 ** (width - 1) != n_steps:
        raise ValueError(f"expected 1, 2, 4, 8, ... steps of a shortcut model, got {n_steps}")
    if isinstance(net, Generator) and width > net.settings.widths:
        raise ValueError(
            f"expected steps that the network learnt at once, {net.settings.widths} widths, got {n_steps} "
            "steps; take fewer, or another sampler"
        )
    at = source
    for n in range(n_steps):
        at = at - guided(net, at, 1 - n / n_steps, width, hints, guidance) / n_steps
    return at


def one_pass(
    net: Net, source: Bands, hints: Hints, n_steps: int, guidance: float = 1.0
) -> Float[Tensor, "b k *h"]:
    """Bands that a network answers at once, as a GAN's generator does: the shortcut of one step.

    Raises
    ------
    ValueError
        If more than one step is asked for.
    """
    if n_steps != 1:
        raise ValueError(f"expected 1 step of a generator in one pass, got {n_steps}")
    return shortcut(net, source, hints, 1, guidance)


@contextmanager
def _old_arrays() -> Iterator[None]:
    """Diffusers makes arrays of tensors in a way that NumPy 2 warns of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        yield


def _at_least_one(n_steps: int) -> None:
    if not 1 <= n_steps <= N_STEPS:
        raise ValueError(f"expected 1 to {N_STEPS} steps, got {n_steps}")


# Flow matching: Euler; Heun, 2 n - 1 answers of the network; DPM-Solver++ of second order (Lu et al., 2022).
flow_euler = partial(along_flow, FlowMatchEulerDiscreteScheduler)
flow_heun = partial(along_flow, FlowMatchHeunDiscreteScheduler)
flow_dpm = partial(
    along_flow,
    partial(DPMSolverMultistepScheduler, use_flow_sigmas=True, prediction_type="flow_prediction"),
)

# DDPM: DDIM (Song et al., ICLR 2021), DPM-Solver++, Euler and Heun (Karras et al., NeurIPS 2022). Bands are
# not bounded, so nothing is clipped.
noise_ddim = partial(along_noise, partial(DDIMScheduler, clip_sample=False, **_SCHEDULE))
noise_dpm = partial(along_noise, partial(DPMSolverMultistepScheduler, **_SCHEDULE))
noise_euler = partial(along_noise, partial(EulerDiscreteScheduler, **_SCHEDULE))
noise_heun = partial(along_noise, partial(HeunDiscreteScheduler, **_SCHEDULE))
