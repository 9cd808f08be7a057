"""Convolutions with standardised weights: networks without normalisation that still learn.

A layer that normalises its answers forgets how large they were, and absolute dose is told by how large they
are. Kernels of mean 0 and of a set size keep signals in bounds instead (Brock et al., "Characterizing signal
propagation to close the performance gap in unnormalized ResNets", ICLR 2021), and cost nothing.
"""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from .sound import SoundConv3d

_SLOPE = 0.1  # of the leaky rectifier that follows
_GAIN = math.sqrt(2 / (1 + _SLOPE**2))  # what it takes from a signal's size (He et al., ICCV 2015)
_EPS = 1e-6

Net = TypeVar("Net", bound=nn.Module)


class StandardConv3d(SoundConv3d):
    """A convolution whose kernels have mean 0 and a variance of 1 over their inputs, times a learnt gain."""

    gain: nn.Parameter

    def standard(self) -> Tensor:
        """The weights that convolve, ``(out, in, i, j, k)``."""
        weight = self.weight
        variance, mean = torch.var_mean(weight, dim=(1, 2, 3, 4), keepdim=True, correction=0)
        n = weight[0].numel()
        size = self.gain.view(-1, 1, 1, 1, 1) * (_GAIN / math.sqrt(n))
        return (weight - mean) * (variance + _EPS).rsqrt() * size

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 # the base's name
        """The convolution, ``(b, c, i, j, k)``."""
        if self.exact(input):
            with torch.autocast("cpu", enabled=False):
                return self._conv_forward(input.float(), self.standard(), self.bias)
        return self._conv_forward(input, self.standard(), self.bias)


def standardised(net: Net) -> Net:
    """The same network, every `Conv3d` that sees neighbours standardised; their weights stay."""
    for part in net.modules():
        if isinstance(part, nn.Conv3d) and max(part.kernel_size) > 1:
            part.__class__ = StandardConv3d
            part.register_parameter("gain", nn.Parameter(torch.ones(part.out_channels)))
    return net
