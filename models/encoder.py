"""A compact encoder of slices: what an image shows as a row of numbers, for distances between images.

A residual network (He et al., CVPR 2016), with group norm (Wu and He, ECCV 2018), so that the features of an
image never depend on the others of its batch.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from monai.networks.nets.resnet import ResNetBlock
from torch import Tensor, nn

from .weights import load_weights, read_card, save_weights

_GROUPS = 8
_MOST = 1024  # channels of a level: a card is a file of somebody's, and must not ask for any memory it likes
_MOST_BLOCKS = 16

Images = Float[Tensor, "b c rows columns"]
Features = Float[Tensor, "b d"]


@dataclass(frozen=True)
class EncoderConfig:
    """Size of an encoder.

    Parameters
    ----------
    inputs
        Channels of an image.
    channels
        Of the four levels, each a half of the former's rows and columns; the last is the number of features.
    blocks
        Residual blocks of each level.

    Raises
    ------
    ValueError
        If there are not four levels, or their channels are not whole groups of eight within 1024.
    """

    inputs: int = 1
    channels: tuple[int, int, int, int] = (32, 64, 96, 128)
    blocks: tuple[int, int, int, int] = (2, 2, 2, 2)

    def __post_init__(self) -> None:
        fits = len(self.channels) == len(self.blocks) == 4 and 1 <= self.inputs <= _MOST
        fits = fits and all(0 < c <= _MOST and c % _GROUPS == 0 for c in self.channels)
        if not fits or not all(1 <= n <= _MOST_BLOCKS for n in self.blocks):
            raise ValueError(
                f"expected four levels of channels in groups of {_GROUPS} and blocks, and an input, got "
                f"{self.channels}, {self.blocks} and {self.inputs}"
            )

    @property
    def features(self) -> int:
        """How many numbers an image becomes."""
        return self.channels[-1]


class Encoder(nn.Module):
    """Images of about -1 to 1 to features: ``(b, inputs, rows, columns)`` to ``(b, features)``, float32."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels[0]
        levels = [
            nn.Sequential(_conv(config.inputs, width, 5, 2), _norm(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        ]
        for level, (planes, n) in enumerate(zip(config.channels, config.blocks, strict=True)):
            levels.append(_level(width, planes, n, stride=1 if level == 0 else 2))
            width = planes
        net = nn.Sequential(*levels, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        # Several times faster in bf16 on a CPU.
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Images) -> Features:
        """Features; training may run it in bfloat16."""
        return self.net[-2:](self.places(images)).float()

    def places(self, images: Images) -> Float[Tensor, "b d places others"]:
        """Features of each place of 32 × 32 pixels, whose mean they are."""
        return self.net[:-2](images.contiguous(memory_format=torch.channels_last))


def _level(inputs: int, planes: int, n: int, stride: int) -> nn.Sequential:
    """Residual blocks of one level; MONAI's whole ResNet gives its ``norm`` to the first layer alone."""
    norm = ("group", {"num_groups": _GROUPS})
    shortcut = nn.Sequential(_conv(inputs, planes, 1, stride), _norm(planes)) if stride > 1 else None
    first = ResNetBlock(inputs, planes, 2, stride, shortcut, norm=norm)
    return nn.Sequential(first, *(ResNetBlock(planes, planes, 2, norm=norm) for _ in range(n - 1)))


def _conv(inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_GROUPS, channels)


@torch.no_grad()
def embed(net: nn.Module, images: Images, chunk: int = 64) -> Features:
    """Features of images, in float32 and without training, so that equal images give equal features.

    Parameters
    ----------
    net
        Takes images ``(b, c, rows, columns)`` and gives features ``(b, d)``.
    images
        Of about -1 to 1.
    chunk
        Images at once.
    """
    net.eval()
    return torch.cat([net(part.float()) for part in torch.split(images, chunk)])


def save_encoder(net: Encoder, card: Mapping[str, Any], path: Path) -> None:
    """Weights of an encoder at ``path``, its card with the config beside them; see `models.weights`."""
    save_weights(net.state_dict(), {**card, "config": asdict(net.config)}, path)


def load_encoder(path: Path) -> tuple[Encoder, Mapping[str, Any]]:
    """An encoder as it was saved, and its card.

    Raises
    ------
    ValueError
        If weights or card are missing, or are not those of an encoder.
    """
    config = read_card(path).get("config")
    try:
        net = Encoder(_config(config))
    except (TypeError, KeyError, ValueError):
        raise ValueError(
            f"expected the card of an encoder of slices beside {path.name}, got another's; name its weights"
        ) from None
    card = load_weights(net, path)
    return net.eval(), card


def _config(found: Any) -> EncoderConfig:
    a, b, c, d = (int(n) for n in found["channels"])
    e, f, g, h = (int(n) for n in found["blocks"])
    return EncoderConfig(int(found["inputs"]), (a, b, c, d), (e, f, g, h))


def weights_hash(path: Path) -> str:
    """SHA-256 of weights on disk: with the extractor's name it says which features were compared."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
