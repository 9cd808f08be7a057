"""Weights on disk: safetensors in half precision, and a JSON card that says what they are."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_LARGEST = 16 * 2**20  # bytes of one shipped file
# What a card must say before weights may be kept (Mitchell et al., "Model cards", FAT* 2019).
CARD = ("name", "does", "config", "data", "licence", "split", "budget", "metrics", "limits")


def save_weights(state: Mapping[str, Tensor], card: Mapping[str, Any], path: Path) -> None:
    """Weights as fp16 safetensors at ``path``, their card beside it as ``.json``.

    Raises
    ------
    ValueError
        If the card leaves something out, a value is not finite, or the file would exceed 16 MiB.
    """
    missing = [key for key in CARD if key not in card]
    if missing:
        raise ValueError(f"expected a model card with {', '.join(CARD)}; got none for {', '.join(missing)}")
    half = {name: t.detach().cpu().half().contiguous() for name, t in state.items()}
    bad = [name for name, t in half.items() if not torch.isfinite(t).all()]
    if bad:
        raise ValueError(f"expected finite weights, got NaN or infinity in {bad[0]}; go back to a checkpoint")
    expect_small(half)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_with(path, lambda part: save_file(half, part))
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    replace_with(path.with_suffix(".json"), lambda part: part.write_text(text, encoding="utf-8"))


def expect_small(state: Mapping[str, Tensor]) -> None:
    """Refuses weights whose file would be too large; before they are trained, this costs nothing.

    Raises
    ------
    ValueError
        If the file would exceed 16 MiB.
    """
    if sum(t.numel() * 2 for t in state.values()) > _LARGEST:
        raise ValueError("expected weights of at most 16 MiB, got more; take fewer features")


def load_weights(net: nn.Module, path: Path) -> Mapping[str, Any]:
    """Fills a network with saved weights and gives their card.

    Raises
    ------
    ValueError
        If the file is not there, or does not fit the network.
    """
    card = read_card(path)
    state = {name: t.float() for name, t in load_file(path).items()}
    try:
        net.load_state_dict(state)
    except RuntimeError:
        raise ValueError(
            "expected weights that fit the network, got others; check the card's config"
        ) from None
    return card


def start_from(net: nn.Module, path: Path, *, partly: bool = False) -> Mapping[str, Any]:
    """Fills a network with the weights of one that saw fewer channels, and gives their card.

    A convolution that takes so many times more channels sees each of them as the other saw its own, and
    their mean in the end.

    Parameters
    ----------
    net
        Filled in place.
    path
        Weights with their card.
    partly
        Whether layers of another shape, up to half of them, may keep the weights that they have: networks
        that answer another question share what they see.

    Raises
    ------
    ValueError
        If the file is not there, or is of another kind of network.
    """
    card = read_card(path)
    state = {name: t.float() for name, t in load_file(path).items()}
    for name, own in net.state_dict().items():
        given = state.get(name)
        if given is not None and given.ndim > 1 and given.shape != own.shape:
            times = own.shape[1] // given.shape[1]
            state[name] = given.repeat(1, times, *[1] * (given.ndim - 2)) / max(times, 1)
    if partly:
        own = net.state_dict()
        fits = {name: t for name, t in state.items() if name in own and own[name].shape == t.shape}
        state = own | fits if 2 * len(fits) >= len(own) else {}
    try:
        net.load_state_dict(state)
    except RuntimeError:
        raise ValueError("expected weights of a network like this one to start from, got others") from None
    return card


def mix_with(net: nn.Module, path: Path, share: float) -> None:
    """Moves a network's weights towards saved ones: ``(1 - share) net + share saved``, in place.

    The mean of a network before and after it was trained on can err less on data of another kind (Wortsman et
    al., "Robust fine-tuning of zero-shot models", CVPR 2022).

    Raises
    ------
    ValueError
        If the file is not there, or is of another network.
    """
    trained = {name: t.clone() for name, t in net.state_dict().items()}
    load_weights(net, path)
    net.load_state_dict({name: trained[name].lerp(t, share) for name, t in net.state_dict().items()})


def read_card(path: Path) -> Mapping[str, Any]:
    """The card of weights at ``path``.

    Raises
    ------
    ValueError
        If weights or card are missing.
    """
    card = path.with_suffix(".json")
    if not path.is_file() or not card.is_file():
        raise ValueError(
            f"expected weights {path.name} with a card {card.name} beside them, got none; train them"
        )
    found: Mapping[str, Any] = json.loads(card.read_text(encoding="utf-8"))
    return found


def replace_with(path: Path, write: Any) -> None:
    """Lets ``write(part)`` fill a file that takes the place of ``path`` once it is whole."""
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
