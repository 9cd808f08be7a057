"""Networks that make CTs of MRI, those that ship or a user's own, with what was calibrated for them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import models
from models.unet import MOST, UNetConfig, unet
from models.weights import load_weights, read_card
from mr2ct.calibration import Calibration, read_calibration
from mr2ct.regression import N_OUTPUTS, RegressionNet

ZOO = Path(next(iter(models.__path__))) / "zoo"
INTERVALS = "mr2ct-intervals.json"


def calibration_of(weights: Sequence[Path], intervals: Path | None = None) -> Calibration | None:
    """What was calibrated for an ensemble: the file that is named, that of the networks that ship, or none.

    Parameters
    ----------
    weights
        As :func:`read_nets` takes them.
    intervals
        A file of ``spindose train intervals``.

    Raises
    ------
    ValueError
        If the file cannot be read.
    """
    if intervals is None and (weights or not (ZOO / INTERVALS).is_file()):
        return None
    return read_calibration(intervals or ZOO / INTERVALS)


def shipped() -> list[Path]:
    """Weights of the networks that ship."""
    return sorted(ZOO.glob("mr2ct-*.safetensors"))


def read_nets(weights: Sequence[Path] = (), device: str = "cpu") -> tuple[list[nn.Module], RegressionNet]:
    """Networks of one ensemble and what they were trained with: given ones, or those that ship.

    Raises
    ------
    ValueError
        If there are none, one is of another kind, or they differ in their configuration.
    """
    paths = list(weights) or shipped()
    if not paths:
        raise ValueError(
            "expected networks to make a CT with, got none; train them with `spindose train mr2ct`"
        )
    configs = [_config(read_card(path)) for path in paths]
    if any(config != configs[0] for config in configs):
        raise ValueError("expected networks of one configuration as an ensemble, got different ones")
    nets = []
    for path in paths:
        net = unet(configs[0].net)
        load_weights(net, path)
        nets.append(on_device(net.eval(), device))
    return nets, configs[0]


def on_device(net: nn.Module, device: str) -> nn.Module:
    """A network on a device; a ValueError where there is none such."""
    try:
        return net.to(torch.device(device))
    except (RuntimeError, AssertionError):
        raise ValueError(f"expected --device such as cpu or cuda, got {device!r} and none such") from None


def _config(card: Mapping[str, Any]) -> RegressionNet:
    """What a card says its network is."""
    try:
        told = dict(card["config"])
        spacing = float(told.pop("spacing"))
        i, j, k = (int(n) for n in told.pop("shape"))
        a, b, c = (int(n) for n in told.pop("window"))
        net = UNetConfig(**{**told, "features": tuple(told["features"])})
        most = max(net.inputs, *net.features, net.sharp, a, b, c)
        if card["name"] != "mr2ct" or most > MOST or net.outputs != N_OUTPUTS:
            raise ValueError  # noqa: TRY301
        return replace(RegressionNet(), spacing=spacing, shape=(i, j, k), net=net, window=(a, b, c))
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            "expected weights of `spindose train mr2ct` with the card that it writes, got others"
        ) from None
