"""Convolutions whose gradients can be trusted on every processor.

oneDNN 3.x leaves the gradient of the weights unwritten when a three-dimensional convolution of 3×3×3 in
bfloat16 looks at a depth of exactly two places (torch 2.13 on an AMD EPYC): what memory held before is taken
for it, and a training loop that skips gradients which are not finite, or clips those that are huge, hardly
learns. In float32 they are right, and so few places cost nothing.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

_DEPTH = 2

Net = TypeVar("Net", bound=nn.Module)


class SoundConv3d(nn.Conv3d):
    """As its base, but in float32 on a processor where the depth is two."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 # the base's name
        """The convolution, ``(b, c, i, j, k)``."""
        if not self.exact(input):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())

    def exact(self, input: Tensor) -> bool:  # noqa: A002 # as above
        """Whether it takes float32."""
        return input.device.type == "cpu" and input.shape[-3] == _DEPTH


def sound(net: Net) -> Net:
    """The same network, every `Conv3d` of which is sound; names and values of weights stay."""
    for part in net.modules():
        if type(part) is nn.Conv3d:
            part.__class__ = SoundConv3d  # it adds no state, so nothing has to be copied
    return net
