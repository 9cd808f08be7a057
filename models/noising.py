"""Denoising diffusion with Gaussian noise added in a thousand steps, for comparison with flow matching.

Ho et al., "Denoising diffusion probabilistic models" (NeurIPS 2020), with their linear schedule.
"""

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from jaxtyping import Float, Integer
from torch import Tensor

from .flow import Net, weighted_error
from .generator import Hints

N_STEPS = 1000
BETA = 1e-4, 0.02  # of the first and the last step

Bands = Float[Tensor, "b k *h"]
Steps = Integer[Tensor, " b"]


def steps(n: int, generator: torch.Generator) -> Steps:
    """Steps of the chain, uniform from 0 to 999."""
    return torch.randint(N_STEPS, (n,), generator=generator, device=generator.device)


def noise_loss(
    net: Net, data: Bands, noise: Bands, step: Steps, hints: Hints, weight: Bands
) -> Float[Tensor, ""]:
    """Squared error of the noise that the network finds in ``sqrt(a) data + sqrt(1 - a) noise`` (eq. 14).

    Parameters
    ----------
    net
        Answers the noise; it is told the step as a time from 0 to 0.999.
    data, noise
        Bands, and standard normal ones.
    step
        Of each sample.
    hints, weight
        As in `models.flow.flow_loss`.
    """
    at = DDPMScheduler(N_STEPS, *BETA).add_noise(data, noise, step)
    width = torch.zeros_like(step)
    return weighted_error(net(at, step / N_STEPS, width, *hints), noise, weight)
