"""What turns images into features when a synthetic set is judged: a network, its name and its hash."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

import models
from models.encoder import embed, load_encoder, weights_hash
from models.unet import MULTIPLE, CellUNet, UNetConfig, to_cells, unet
from models.weights import load_weights, read_card

_ZOO = Path(next(iter(models.__path__))) / "zoo"
SLICES, VOLUMES = "encoder-slices.safetensors", "tissues.safetensors"
_AT_ONCE = 4  # volumes
_LEVELS = ("conv_0", "down_1", "down_2", "down_3", "down_4")
_LEAST = 2 * MULTIPLE  # voxels a side: instance norm needs more than one place at the bottom
_MOST = 1024  # channels: a card is a file of somebody's, and must not ask for any memory it likes
_SIGNAL = 0.75  # of the brightness scale that an image's unit is (app.volume_examples)


@dataclass(frozen=True)
class Extractor:
    """Images to features, by a network that is named.

    Parameters
    ----------
    name
        From its card.
    sha256
        Of its weights.
    what
        What the features are, in words.
    embed
        Images ``(b, c, *space)`` of -1 to 1 to features ``(b, d)``.
    """

    name: str
    sha256: str
    what: str
    embed: Callable[[Tensor], Tensor]


def slice_extractor(given: Path | None = None) -> Extractor:
    """The encoder of slices: the shipped one, or that of a folder or file.

    Raises
    ------
    ValueError
        If there are no such weights, or they are of another network.
    """
    path = _weights(given, SLICES)
    net, card = load_encoder(path)
    if net.config.inputs != 1:
        raise ValueError(f"expected an encoder of slices of one channel, got one of {net.config.inputs}")
    what = f"{net.config.features} features of a contrastive encoder of slices"
    return Extractor(str(card["name"]), weights_hash(path), what, lambda images: embed(net, images))


def volume_extractor(spacing: float, given: Path | None = None) -> Extractor:
    """The deepest level of the tissue network, averaged over the head, of each contrast for itself.

    Parameters
    ----------
    spacing
        Size of the images' voxels (mm).
    given
        Folder or file of the weights; the shipped ones otherwise.

    Raises
    ------
    ValueError
        If there are no such weights, or they are of another network.
    """
    path = _weights(given, VOLUMES)
    config = read_card(path).get("config")
    try:
        net, own = unet(_unet_config(config)), float(config["spacing"])  # type: ignore[index]
    except (TypeError, KeyError, ValueError):
        raise ValueError(
            f"expected the card of a tissue network of one contrast beside {path.name}, got another's"
        ) from None
    card = load_weights(net, path)
    net.eval()
    what = "means over the head of the deepest level of a tissue network, each contrast for itself"

    def features(images: Tensor) -> Tensor:
        each = [
            bottleneck(net, at_spacing(images[:, c : c + 1], spacing, own)) for c in range(images.shape[1])
        ]
        return torch.cat(each, dim=1)

    return Extractor(str(card["name"]), weights_hash(path), what, features)


@torch.no_grad()
def bottleneck(net: CellUNet, signal: Tensor) -> Tensor:
    """Means of the deepest level's channels, ``(b, 1, i, j, k)`` to ``(b, d)``; see `models.unet`."""
    x = to_cells(signal).contiguous(memory_format=torch.channels_last_3d)
    for level in _LEVELS:
        x = net.inner.get_submodule(level)(x)
    return x.float().mean(dim=(2, 3, 4))


def at_spacing(images: Tensor, spacing: float, wanted: float) -> Tensor:
    """Images of -1 to 1 as signal of 0 to 1.5 on voxels of another size, with air up to whole multiples.

    Parameters
    ----------
    images
        Shape ``(b, 1, i, j, k)``.
    spacing, wanted
        Sizes of the voxels (mm), before and after.
    """
    sides = [max(round(n * spacing / wanted), 1) for n in images.shape[2:]]
    signal = interpolate((images.float() + 1) * _SIGNAL, size=sides, mode="trilinear", align_corners=False)
    whole = [max(-(-n // MULTIPLE) * MULTIPLE, _LEAST) for n in sides]
    return pad(signal, [m for n, w in zip(reversed(sides), reversed(whole), strict=True) for m in (0, w - n)])


def _unet_config(found: Any) -> UNetConfig:
    features = tuple(int(n) for n in found["features"])
    if (
        int(found["inputs"]) != 1
        or len(features) != 6
        or max(features) > 1024
        or int(found["outputs"]) > 1024
    ):
        raise ValueError
    return UNetConfig(1, int(found["outputs"]), features)


def _weights(given: Path | None, name: str) -> Path:
    if given is None:
        return _ZOO / name
    return given / name if given.is_dir() else given
