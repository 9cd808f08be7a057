"""The one training loop: steps or a budget of time, checkpoints, resumption, an average of the weights."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from .weights import replace_with

Batch = dict[str, Tensor]
Loss = Callable[[nn.Module, Batch], Tensor]

_TENSORS = "checkpoint.safetensors"
_PATIENCE = 20  # steps whose loss may be NaN before training is given up


@dataclass(frozen=True)
class Fit:
    """How a network is trained.

    Parameters
    ----------
    steps
        Optimiser steps; 0 for as many as the budget allows.
    budget_s
        Seconds of training in all, over every resumption; 0 for no limit.
    batch
        Samples in a step.
    learning_rate, weight_decay
        Of AdamW (Loshchilov and Hutter, ICLR 2019).
    warmup
        Steps in which the rate rises; then it falls as a cosine to a hundredth.
    average
        Decay of the exponential moving average of the weights, which is what training gives.
    checkpoint_s
        Seconds between checkpoints.
    workers
        Processes that make samples; 0 makes them between steps.

    Raises
    ------
    ValueError
        If there is neither a number of steps nor a budget, or a number is negative.
    """

    steps: int = 0
    budget_s: float = 0.0
    batch: int = 1
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-4
    warmup: int = 40
    average: float = 0.99
    checkpoint_s: float = 120.0
    workers: int = 0

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 0 or self.batch < 1:
            raise ValueError("expected numbers of 0 or more and a batch of 1 or more")
        if self.steps == 0 and self.budget_s == 0:
            raise ValueError("expected a number of steps or a budget of time, got neither; set one")


@dataclass
class _Run:
    step: int = 0
    seconds: float = 0.0
    lost: int = 0


def fit(
    net: nn.Module,
    samples: Dataset[Batch],
    loss: Loss,
    how: Fit,
    folder: Path,
    progress: Callable[[str, float], None],
) -> Mapping[str, Any]:
    """Trains ``net`` in place and leaves the average of its weights in it.

    Sample ``n`` of ``samples`` is seen once, at step ``n // batch``: a run that was killed goes on from its
    last checkpoint in ``folder`` with the sample that came next, and a run by steps ends with the same bits.

    Parameters
    ----------
    net
        The network, on the device that trains it.
    samples
        A map-style dataset, as long as training may need.
    loss
        Loss of a network on a batch.
    how
        Steps, budget, rates.
    folder
        Keeps ``checkpoint.safetensors`` and ``losses.jsonl``.
    progress
        Called with what happens and the share of training that is done.

    Returns
    -------
    Mapping
        ``steps``, ``seconds``, and the mean loss of the last fifty steps.

    Raises
    ------
    ValueError
        If the loss stays NaN, or a checkpoint belongs to another training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.AdamW(net.parameters(), how.learning_rate, weight_decay=how.weight_decay)
    average = {name: t.detach().clone() for name, t in net.state_dict().items()}
    run = _resumed(net, optimiser, average, how, folder)
    started, kept = time.monotonic() - run.seconds, time.monotonic()
    losses: list[float] = []
    net.train()
    for batch in _batches(samples, how, run, net):
        if _done(run, how):
            break
        rate = _rate(run, how)
        for group in optimiser.param_groups:
            group["lr"] = rate * how.learning_rate
        value = loss(net, batch)
        optimiser.zero_grad()
        if torch.isfinite(value):
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            run.lost = 0
        else:
            run.lost += 1
            if run.lost > _PATIENCE:
                raise ValueError(
                    f"expected a finite loss, got none for {_PATIENCE} steps; lower the learning rate"
                )
        run.step += 1
        _follow(average, net, min(how.average, run.step / (run.step + 10)))
        run.seconds = time.monotonic() - started
        losses.append(float(value.detach()))
        _note(folder, run, losses[-1], rate * how.learning_rate)
        progress(f"Training, loss {sum(losses[-50:]) / len(losses[-50:]):.3f}", min(_share(run, how), 1.0))
        if time.monotonic() - kept > how.checkpoint_s:
            _keep(net, optimiser, average, run, how, folder)
            kept = time.monotonic()
    _keep(net, optimiser, average, run, how, folder)
    net.load_state_dict(average)
    net.eval()
    return {"steps": run.step, "seconds": round(run.seconds, 1), "loss": _mean(losses[-50:])}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _batches(samples: Dataset[Batch], how: Fit, run: _Run, net: nn.Module) -> Iterator[Batch]:
    device = next(net.parameters()).device
    n_samples = len(samples)  # type: ignore[arg-type]
    rest = Subset(samples, range(run.step * how.batch, n_samples))
    loader = DataLoader(
        rest, how.batch, num_workers=how.workers, prefetch_factor=3 if how.workers else None, drop_last=True
    )
    for batch in loader:
        yield {name: t.to(device, non_blocking=True) for name, t in batch.items()}


def _share(run: _Run, how: Fit) -> float:
    by_step = run.step / how.steps if how.steps else 0.0
    return max(by_step, run.seconds / how.budget_s if how.budget_s else 0.0)


def _done(run: _Run, how: Fit) -> bool:
    return _share(run, how) >= 1


def _rate(run: _Run, how: Fit) -> float:
    warm = min(1.0, (run.step + 1) / max(how.warmup, 1))
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(_share(run, how), 1.0))))


def _follow(average: dict[str, Tensor], net: nn.Module, decay: float) -> None:
    for name, t in net.state_dict().items():
        if t.is_floating_point():
            average[name].lerp_(t.detach(), 1 - decay)
        else:
            average[name].copy_(t)


def _note(folder: Path, run: _Run, loss: float, rate: float) -> None:
    line = {"step": run.step, "seconds": round(run.seconds, 1), "loss": round(loss, 5), "rate": rate}
    with (folder / "losses.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _keep(
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: dict[str, Tensor],
    run: _Run,
    how: Fit,
    folder: Path,
) -> None:
    tensors = {f"net.{k}": v for k, v in net.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    for n, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{n}.{k}": v for k, v in state.items()}
    whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    run_state = {"step": run.step, "seconds": run.seconds, "fit": asdict(how)}
    # One file holds both, so that neither is ever older than the other.
    meta = {"state": json.dumps(run_state)}
    replace_with(folder / _TENSORS, lambda part: save_file(whole, part, metadata=meta))


def _resumed(
    net: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor], how: Fit, folder: Path
) -> _Run:
    path = folder / _TENSORS
    if not path.is_file():
        return _Run()
    tensors, state = load_file(path), _state_of(path)
    same = {
        k: v for k, v in state["fit"].items() if k not in ("steps", "budget_s", "workers", "checkpoint_s")
    }
    now = asdict(how)
    if any(now[k] != v for k, v in same.items()):
        raise ValueError(
            "expected the settings that the checkpoint was made with, got others; use a new folder"
        )
    try:
        net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
    except RuntimeError:
        raise ValueError("expected a checkpoint of this network, got another's; use a new folder") from None
    for name, t in average.items():
        t.copy_(tensors[f"average.{name}"])
    moments: dict[int, dict[str, Tensor]] = {}
    for key, t in tensors.items():
        if key.startswith("optimiser."):
            _, n, name = key.split(".", 2)
            moments.setdefault(int(n), {})[name] = t
    whole = optimiser.state_dict()
    whole["state"] = moments
    optimiser.load_state_dict(whole)
    return _Run(int(state["step"]), float(state["seconds"]))


def _state_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()["state"])
    return found
