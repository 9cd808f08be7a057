"""The one training loop: steps or a budget of time, several networks, several processes, resumption.

Processes are Accelerate's: started with ``accelerate launch``, each sees its share of every batch, and the
gradients are averaged before each step, so that the batch means the same on one device as on eight.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.tracking import GeneralTracker
from accelerate.utils import broadcast, reduce
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from .checkpoint import Part, keep, kept_state, restore
from .muon import Muon

Batch = dict[str, Tensor]
Nets = Mapping[str, nn.Module]
# The parts of a batch's training, one after the other: whose optimiser steps, and on what loss.
Losses = Callable[[Nets, Batch, torch.Generator], Iterator[tuple[str, Tensor]]]
# Looks at the averaged networks after so many steps; what it finds is logged.
Watch = Callable[[Nets, int], Mapping[str, float]]

_PATIENCE = 20  # steps whose loss may be NaN before training is given up


@dataclass(frozen=True)
class Fit:
    """How networks are trained.

    Parameters
    ----------
    steps
        Optimiser steps; 0 for as many as the budget allows.
    budget_s
        Seconds of training in all, over every resumption; 0 for no limit.
    batch
        Samples in a step, over all processes.
    learning_rate, weight_decay, momentum
        Of AdamW (Loshchilov and Hutter, ICLR 2019); the momentum is its first beta.
    warmup
        Steps in which the rate rises; then it falls as a cosine to a hundredth.
    average
        Decay of the exponential moving average of the weights, which is what training gives.
    checkpoint_s
        Seconds between checkpoints.
    watch_s
        Seconds between looks at what the networks do.
    workers
        Processes that make samples; 0 makes them between steps.
    muon
        Whether kernels of convolutions step by :class:`models.muon.Muon`; by AdamW as all else otherwise.

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
    momentum: float = 0.9
    warmup: int = 40
    average: float = 0.99
    checkpoint_s: float = 120.0
    watch_s: float = 300.0
    workers: int = 0
    muon: bool = False

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 0 or self.batch < 1:
            raise ValueError("expected numbers of 0 or more and a batch of 1 or more")
        if self.steps == 0 and self.budget_s == 0:
            raise ValueError("expected a number of steps or a budget of time, got neither; set one")


# What may change between resumptions without making it another training.
_FREE = ("steps", "budget_s", "workers", "checkpoint_s", "watch_s")


@dataclass
class _Run:
    step: int = 0
    seconds: float = 0.0
    lost: int = 0


def fit(
    nets: Nets,
    samples: Dataset[Batch],
    losses: Losses,
    how: Fit,
    folder: Path,
    progress: Callable[[str, float], None],
    seed: int = 0,
    watch: Watch | None = None,
    trackers: Sequence[GeneralTracker] = (),
    paces: Mapping[str, float] | None = None,
) -> Mapping[str, Any]:
    """Trains networks in place and leaves the averages of their weights in them.

    Sample ``n`` of ``samples`` is seen once, at step ``n // batch``: a run that was killed goes on from its
    last checkpoint in ``folder`` with the sample that came next, and a run by steps ends with the same bits.

    Parameters
    ----------
    nets
        By name, on the device that trains them, with the same first weights in every process.
    samples
        A map-style dataset, as long as training may need.
    losses
        Yields, for a batch and a generator of this step's randomness, a network's name and its loss; that
        network's weights step before the next is asked for.
    how
        Steps, budget, rates.
    folder
        Keeps ``checkpoint.safetensors`` and ``losses.jsonl``; written by the first process.
    progress
        Called with what happens and the share of training that is done.
    seed
        Of the randomness that losses draw on.
    watch
        Called every ``how.watch_s`` seconds and at the end with the averaged networks and the step; what it
        finds goes to ``watch.jsonl``.
    trackers
        Accelerate's, such as its TensorBoardTracker: they are told the same.
    paces
        How many times faster than ``how`` says a network of that name learns; 1 for those left out.

    Returns
    -------
    Mapping
        ``steps``, ``seconds``, and the mean of each step's summed losses over the last fifty.

    Raises
    ------
    ValueError
        If the loss stays NaN, a checkpoint belongs to another training, or the batch can't be shared.
    """
    here = PartialState()
    if how.batch % here.num_processes:
        raise ValueError(
            f"expected a batch that {here.num_processes} processes can share evenly, got {how.batch}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: _part(net, how) for name, net in nets.items()}
    run = _resumed(parts, how, folder)
    started, kept, watched = time.monotonic() - run.seconds, time.monotonic(), time.monotonic()
    noted: list[float] = []
    _mode(nets, train=True)
    for batch in _batches(samples, how, run, next(iter(parts.values())), here):
        if _done(run, how):
            break
        values = _step(parts, batch, losses, how, run, _generator(seed, run.step, here, batch), paces or {})
        run.step += 1
        run.seconds = _agreed(time.monotonic() - started, here)
        noted.append(sum(values.values()))
        title = f"Training, loss {sum(noted[-50:]) / len(noted[-50:]):.3f}"
        progress(title, min(_share(run, how), 1.0))
        if here.is_main_process:
            more = values if len(values) > 1 else {}
            _note(folder / "losses.jsonl", run, {"loss": noted[-1], **more}, trackers)
            if watch and time.monotonic() - watched > how.watch_s:
                _note(folder / "watch.jsonl", run, _watched(parts, watch, run), trackers)
                watched = time.monotonic()
            if time.monotonic() - kept > how.checkpoint_s:
                _keep(parts, run, how, folder)
                kept = time.monotonic()
    if here.is_main_process:
        _keep(parts, run, how, folder)
    for part in parts.values():
        part.average.copy_to(part.weights())
    _mode(nets, train=False)
    if watch and here.is_main_process:
        _note(folder / "watch.jsonl", run, watch(nets, run.step), trackers)
    here.wait_for_everyone()
    return {"steps": run.step, "seconds": round(run.seconds, 1), "loss": _mean(noted[-50:])}


def _part(net: nn.Module, how: Fit) -> Part:
    betas = (how.momentum, 0.999)
    weights = list(net.parameters())
    optimiser: torch.optim.Optimizer
    if how.muon:
        optimiser = Muon(weights, how.learning_rate, betas, how.weight_decay)
    else:
        optimiser = torch.optim.AdamW(
            weights, how.learning_rate, betas, weight_decay=how.weight_decay, fused=True
        )
    return Part(net, optimiser, EMAModel(weights, decay=how.average))


def _step(
    parts: Mapping[str, Part],
    batch: Batch,
    losses: Losses,
    how: Fit,
    run: _Run,
    generator: torch.Generator,
    paces: Mapping[str, float],
) -> dict[str, float]:
    """One step of every part that the losses name; the value of each loss."""
    rate = _rate(run, how) * how.learning_rate
    values: dict[str, float] = {}
    for name, value in losses({k: p.net for k, p in parts.items()}, batch, generator):
        part = parts[name]
        for group in part.optimiser.param_groups:
            group["lr"] = rate * paces.get(name, 1.0)
        part.optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        _average_gradients(part)
        size = nn.utils.clip_grad_norm_(part.net.parameters(), 1.0)
        if torch.isfinite(size):
            part.optimiser.step()
            part.average.step(part.weights())
        values[name] = float(value.detach())
    run.lost = 0 if all(math.isfinite(v) for v in values.values()) else run.lost + 1
    if run.lost > _PATIENCE:
        raise ValueError(f"expected a finite loss, got none for {_PATIENCE} steps; lower the learning rate")
    return values


def _average_gradients(part: Part) -> None:
    """The mean over all processes; a weight that had no part in this loss has no gradient in any of them."""
    if PartialState().num_processes == 1:
        return
    there = [p.grad for p in part.weights() if p.grad is not None]
    mean = reduce(torch.cat([g.flatten() for g in there]), "mean")
    for grad, own in zip(there, mean.split([g.numel() for g in there]), strict=True):
        grad.copy_(own.view_as(grad))


def _agreed(seconds: float, here: PartialState) -> float:
    """The first process's clock, so that all stop at the same step."""
    if here.num_processes == 1:
        return seconds
    return float(broadcast(torch.tensor([seconds], dtype=torch.float64, device=here.device)))


def _generator(seed: int, step: int, here: PartialState, batch: Batch) -> torch.Generator:
    """This step's randomness: another for every process, the same after a resumption."""
    device = next(iter(batch.values())).device
    mixed = (seed * 0x9E3779B97F4A7C15 + (step + 1) * 0xBF58476D1CE4E5B9 + here.process_index) & (2**63 - 1)
    return torch.Generator(device).manual_seed(mixed)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _mode(nets: Nets, train: bool) -> None:
    for net in nets.values():
        net.train(train)


def _batches(samples: Dataset[Batch], how: Fit, run: _Run, part: Part, here: PartialState) -> Iterator[Batch]:
    device = part.weights()[0].device
    n_samples = len(samples)  # type: ignore[arg-type]
    own = range(run.step * how.batch + here.process_index, n_samples, here.num_processes)
    loader = DataLoader(
        Subset(samples, own),
        how.batch // here.num_processes,
        num_workers=how.workers,
        prefetch_factor=3 if how.workers else None,
        drop_last=True,
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


def _note(
    path: Path, run: _Run, values: Mapping[str, float], trackers: Sequence[GeneralTracker] = ()
) -> None:
    line: dict[str, Any] = {"step": run.step, "seconds": round(run.seconds, 1)}
    line |= {name: round(value, 5) for name, value in values.items()}
    _append(path, line)
    for tracker in trackers:
        tracker.log(dict(values), step=run.step)


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _watched(parts: Mapping[str, Part], watch: Watch, run: _Run) -> Mapping[str, float]:
    """What ``watch`` finds in the averaged networks; those in training are as before afterwards."""
    nets = {name: part.net for name, part in parts.items()}
    for part in parts.values():
        part.average.store(part.weights())
        part.average.copy_to(part.weights())
    _mode(nets, train=False)
    try:
        return watch(nets, run.step)
    finally:
        for part in parts.values():
            part.average.restore(part.weights())
        _mode(nets, train=True)


def _keep(parts: Mapping[str, Part], run: _Run, how: Fit, folder: Path) -> None:
    keep(parts, {"step": run.step, "seconds": run.seconds, "fit": asdict(how)}, folder)


def _resumed(parts: Mapping[str, Part], how: Fit, folder: Path) -> _Run:
    state = kept_state(folder)
    if state is None:
        return _Run()
    now = asdict(how)
    if any(now.get(k) != v for k, v in state["fit"].items() if k not in _FREE):
        raise ValueError(
            "expected the settings that the checkpoint was made with, got others; use a new folder"
        )
    restore(parts, state, folder)
    return _Run(int(state["step"]), float(state["seconds"]))
