"""The one training loop: steps or a budget of time, several networks, several processes, resumption.

Processes are Accelerate's: started with ``accelerate launch``, each sees its share of every batch, and the
gradients are averaged before each step, so that the batch means the same on one device as on eight.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.tracking import GeneralTracker
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from .checkpoint import Part, averaged, keep, kept_state, restore
from .muon import Muon
from .processes import agreed, average_gradients
from .watch import LOSS, Looks, Nets, Watch, give_best, keep_best, mode, note, watched

__all__ = ["Batch", "Fit", "Losses", "Nets", "Watch", "fit"]

Batch = dict[str, Tensor]
# The parts of a batch's training, one after the other: whose optimiser steps, and on what loss.
Losses = Callable[[Nets, Batch, torch.Generator], Iterator[tuple[str, Tensor]]]

_LOSSES = "losses.jsonl"
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
    watch_steps
        Steps between them instead; 0 to go by seconds.
    patience
        Looks in a row whose loss is no less than the least one before training stops early and gives the
        weights that had it (Prechelt, "Early stopping - but when?", 1998); 0 to train to the end.
    workers
        Processes that make samples; 0 makes them between steps.
    muon
        Whether kernels of convolutions step by :class:`models.muon.Muon`; by AdamW as all else otherwise.
    part
        Which part of a longer training this is, from where to where of its cosine, 0..1.

    Raises
    ------
    ValueError
        If there is neither a number of steps nor a budget, or a number cannot be.
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
    watch_steps: int = 0
    patience: int = 0
    workers: int = 0
    muon: bool = False
    part: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        numbers = [v for v in asdict(self).values() if not isinstance(v, tuple)]
        if min(numbers) < 0 or self.batch < 1 or not 0 <= self.part[0] < self.part[1] <= 1:
            raise ValueError("expected numbers of 0 or more, a batch of 1 or more, a part between 0 and 1")
        if self.steps == 0 and self.budget_s == 0:
            raise ValueError("expected a number of steps or a budget of time, got neither; set one")


# What may change between resumptions without making it another training.
_FREE = ("steps", "budget_s", "workers", "checkpoint_s", "watch_s", "watch_steps", "patience")


@dataclass
class _Run:
    step: int = 0
    seconds: float = 0.0
    lost: int = 0
    looks: Looks = field(default_factory=Looks)


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
        ``steps``, ``seconds``, and the mean of each step's summed losses over the last fifty; with patience
        the ``best_watched_loss``, which is that of the weights that are left in the networks.

    Raises
    ------
    ValueError
        If the loss stays NaN, a checkpoint belongs to another training, the batch can't be shared, or a
        training that may stop early has nothing to be stopped by.
    """
    here = PartialState()
    _expect_fair(how, watch, here)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: _part(net, how) for name, net in nets.items()}
    run = _resumed(parts, how, folder)
    started, kept, looked = time.monotonic() - run.seconds, time.monotonic(), time.monotonic()
    noted: list[float] = []
    mode(nets, train=True)
    for batch in _batches(samples, how, run, next(iter(parts.values())), here):
        if _done(run, how, here):
            break
        values = _step(parts, batch, losses, how, run, _generator(seed, run.step, here, batch), paces or {})
        run.step += 1
        run.seconds = agreed(time.monotonic() - started, here)
        noted.append(sum(values.values()))
        title = f"Training, loss {sum(noted[-50:]) / len(noted[-50:]):.3f}"
        progress(title, min(_share(run, how), 1.0))
        if here.is_main_process:
            more = values if len(values) > 1 else {}
            note(folder / _LOSSES, run.step, run.seconds, {LOSS: noted[-1], **more}, trackers)
            if watch and _due(how, run, looked):
                _look(parts, run, how, watched(parts, watch, run.step), folder, trackers)
                looked = time.monotonic()
            if time.monotonic() - kept > how.checkpoint_s:
                _keep(parts, run, how, folder)
                kept = time.monotonic()
    if here.is_main_process:
        _keep(parts, run, how, folder)
    _give(parts, run, how, watch, folder, trackers)
    took = {"steps": run.step, "seconds": round(run.seconds, 1), "loss": _mean(noted[-50:])}
    return took | ({"best_watched_loss": run.looks.best} if how.patience else {})


def _expect_fair(how: Fit, watch: Watch | None, here: PartialState) -> None:
    if how.batch % here.num_processes:
        raise ValueError(
            f"expected a batch that {here.num_processes} processes can share evenly, got {how.batch}"
        )
    if how.patience and watch is None:
        raise ValueError("expected something to watch for training to stop early by, got nothing")


def _give(
    parts: Mapping[str, Part],
    run: _Run,
    how: Fit,
    watch: Watch | None,
    folder: Path,
    trackers: Sequence[GeneralTracker],
) -> None:
    """Leaves the averaged weights in the networks, or the best of them where there is patience."""
    here, nets = PartialState(), {name: part.net for name, part in parts.items()}
    for part in parts.values():
        part.average.copy_to(part.weights())
    mode(nets, train=False)
    if watch and here.is_main_process:
        _look(parts, run, how, watch(nets, run.step), folder, trackers)
    if how.patience:
        give_best(parts, here)
    here.wait_for_everyone()


def _due(how: Fit, run: _Run, looked: float) -> bool:
    if how.watch_steps:
        return run.step % how.watch_steps == 0
    return time.monotonic() - looked > how.watch_s


def _look(
    parts: Mapping[str, Part],
    run: _Run,
    how: Fit,
    found: Mapping[str, float],
    folder: Path,
    trackers: Sequence[GeneralTracker],
) -> None:
    """Notes what a look found, and remembers the weights if none were better."""
    note(folder / "watch.jsonl", run.step, run.seconds, found, trackers, "watch/")
    if how.patience and run.looks.improved(found):
        keep_best(parts)


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
    return Part(net, optimiser, averaged(weights, how.average))


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
        average_gradients(part)
        size = nn.utils.clip_grad_norm_(part.net.parameters(), 1.0)
        if torch.isfinite(size):
            part.optimiser.step()
            part.average.step(part.weights())
        values[name] = float(value.detach())
    run.lost = 0 if all(math.isfinite(v) for v in values.values()) else run.lost + 1
    if run.lost > _PATIENCE:
        raise ValueError(f"expected a finite loss, got none for {_PATIENCE} steps; lower the learning rate")
    return values


def _generator(seed: int, step: int, here: PartialState, batch: Batch) -> torch.Generator:
    """This step's randomness: another for every process, the same after a resumption."""
    device = next(iter(batch.values())).device
    mixed = (seed * 0x9E3779B97F4A7C15 + (step + 1) * 0xBF58476D1CE4E5B9 + here.process_index) & (2**63 - 1)
    return torch.Generator(device).manual_seed(mixed)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


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


def _done(run: _Run, how: Fit, here: PartialState) -> bool:
    # Only the first process looks: it tells the others when to stop.
    lost_patience = how.patience > 0 and agreed(float(run.looks.since), here) >= how.patience
    return lost_patience or _share(run, how) >= 1


def _rate(run: _Run, how: Fit) -> float:
    warm = min(1.0, (run.step + 1) / max(how.warmup, 1))
    done = how.part[0] + (how.part[1] - how.part[0]) * min(_share(run, how), 1.0)
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def _keep(parts: Mapping[str, Part], run: _Run, how: Fit, folder: Path) -> None:
    state = {"step": run.step, "seconds": run.seconds, "fit": asdict(how), "looks": asdict(run.looks)}
    keep(parts, state, folder)


def _resumed(parts: Mapping[str, Part], how: Fit, folder: Path) -> _Run:
    state = kept_state(folder)
    if state is None:
        return _Run()
    now = json.loads(json.dumps(asdict(how)))
    if any(now.get(k) != v for k, v in state["fit"].items() if k not in _FREE):
        raise ValueError(
            "expected the settings that the checkpoint was made with, got others; use a new folder"
        )
    restore(parts, state, folder)
    return _Run(int(state["step"]), float(state["seconds"]), looks=Looks(**state.get("looks", {})))
