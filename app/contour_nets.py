"""Networks that contour, read with the cards that say what they are."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from models.unet import UNetConfig, unet
from models.weights import load_weights, read_card
from planning.contour.classes import CONTRASTS, ORGANS, Classes
from planning.contour.nets import ORGAN_NET, ContourNet

from .ct_nets import on_device


def read_net(path: Path, of: ContourNet, device: str) -> tuple[nn.Module, ContourNet]:
    """A network and its config, whose classes must be those of ``of``.

    Raises
    ------
    ValueError
        If the file is missing, or is another network.
    """
    card = read_card(path)
    told = (tuple(card["config"].get("classes", ())), tuple(card["config"].get("contrasts", ())))
    if told != (of.classes.names, CONTRASTS):
        raise ValueError(
            f"expected weights of `spindose train contours` with the card that it writes as {path.name}, "
            "got others"
        )
    return _loaded(path, card, of, device)


def read_own(path: Path, device: str) -> tuple[nn.Module, ContourNet]:
    """A network of ``spindose train contours own``, whose classes its card tells.

    Raises
    ------
    ValueError
        If the file is missing, or is another network.
    """
    card = read_card(path)
    names, contrasts = (tuple(map(str, card["config"].get(of, ()))) for of in ("classes", "contrasts"))
    if names[:1] != ("none",) or names == ORGANS.names or contrasts != CONTRASTS:
        raise ValueError("expected weights of `spindose train contours own` with their card, got others")
    return _loaded(path, card, replace(ORGAN_NET, classes=Classes(names, {})), device)


def _loaded(path: Path, card: Mapping[str, Any], of: ContourNet, device: str) -> tuple[nn.Module, ContourNet]:
    config = UNetConfig.of(card["config"])
    net = unet(config)
    load_weights(net, path)
    return on_device(net.eval(), device), replace(of, net=config, spacing=float(card["config"]["spacing"]))
