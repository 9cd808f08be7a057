"""State of a training on disk: one safetensors file, so that nothing in it is older than the rest."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .weights import replace_with

CHECKPOINT = "checkpoint.safetensors"


@runtime_checkable
class Average(Protocol):
    """The moving average of a network's weights: diffusers' ``EMAModel``, which takes seconds to import."""

    shadow_params: list[Tensor]
    optimization_step: int

    def step(self, parameters: Iterable[nn.Parameter]) -> None:
        """Takes one more step of the weights into account."""

    def copy_to(self, parameters: Iterable[nn.Parameter]) -> None:
        """Leaves the average in the weights."""

    def store(self, parameters: Iterable[nn.Parameter]) -> None:
        """Keeps the weights aside."""

    def restore(self, parameters: Iterable[nn.Parameter]) -> None:
        """Puts back what was kept aside."""


def averaged(weights: Sequence[nn.Parameter], decay: float) -> Average:
    """The average of weights, beginning with what they are."""
    # Whoever only predicts need not wait for it.
    from diffusers.training_utils import EMAModel  # noqa: PLC0415

    found: Average = EMAModel(weights, decay=decay)
    return found


class Part:
    """A network in training, with its optimiser, the average of its weights, and the best there was of it."""

    def __init__(self, net: nn.Module, optimiser: torch.optim.Optimizer, average: Average) -> None:
        self.net, self.optimiser, self.average = net, optimiser, average
        self.best: list[Tensor] | None = None

    def weights(self) -> list[nn.Parameter]:
        """Its parameters, in order."""
        return list(self.net.parameters())


def keep(parts: Mapping[str, Part], state: Mapping[str, Any], folder: Path) -> None:
    """Writes ``checkpoint.safetensors`` whole: networks, optimisers, averages, and ``state`` as JSON."""
    tensors: dict[str, Tensor] = {}
    for name, part in parts.items():
        tensors |= {f"{name}/net/{k}": v for k, v in part.net.state_dict().items()}
        tensors |= {f"{name}/average/{n}": v for n, v in enumerate(part.average.shadow_params)}
        tensors |= {f"{name}/best/{n}": v for n, v in enumerate(part.best or ())}
        for n, moments in part.optimiser.state_dict()["state"].items():
            tensors |= {f"{name}/optimiser/{n}/{k}": v for k, v in moments.items()}
    whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    steps = {name: part.average.optimization_step for name, part in parts.items()}
    meta = {"state": json.dumps({**state, "averaged": steps})}
    replace_with(folder / CHECKPOINT, lambda file: save_file(whole, file, metadata=meta))


def kept_state(folder: Path) -> Mapping[str, Any] | None:
    """What was kept beside the tensors; None where there is no checkpoint."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        found: Mapping[str, Any] = json.loads(file.metadata()["state"])
    return found


def restore(parts: Mapping[str, Part], state: Mapping[str, Any], folder: Path) -> None:
    """Fills the parts with the checkpoint's tensors.

    Raises
    ------
    ValueError
        If it is a checkpoint of other networks.
    """
    tensors = load_file(folder / CHECKPOINT)
    by_part: dict[str, dict[str, Tensor]] = {name: {} for name in parts}
    for key, t in tensors.items():
        name, rest = key.split("/", 1)
        by_part.setdefault(name, {})[rest] = t
    try:
        for name, found in by_part.items():
            _fill(parts[name], found)
            parts[name].average.optimization_step = int(state["averaged"][name])
    except (RuntimeError, KeyError):
        raise ValueError("expected a checkpoint of this network, got another's; use a new folder") from None


def _fill(part: Part, found: Mapping[str, Tensor]) -> None:
    part.net.load_state_dict({k.removeprefix("net/"): v for k, v in found.items() if k.startswith("net/")})
    for number, shadow in enumerate(part.average.shadow_params):
        shadow.copy_(found[f"average/{number}"])
    if "best/0" in found:
        like = part.average.shadow_params
        part.best = [found[f"best/{n}"].to(shadow.device) for n, shadow in enumerate(like)]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, t in found.items():
        if key.startswith("optimiser/"):
            _, n, name = key.split("/", 2)
            moments.setdefault(int(n), {})[name] = _as_laid_out(t, part.weights()[int(n)])
    whole = part.optimiser.state_dict()
    whole["state"] = moments
    part.optimiser.load_state_dict(whole)


def _as_laid_out(kept: Tensor, weight: Tensor) -> Tensor:
    """In the weight's own order in memory, which a fused optimiser takes for granted."""
    return torch.empty_like(weight).copy_(kept) if kept.shape == weight.shape else kept
