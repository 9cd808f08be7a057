"""Looks at networks while they learn: what is found is noted, and training stops when nothing gets better."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.tracking import GeneralTracker
from accelerate.utils import broadcast
from torch import nn

from .checkpoint import Part

Nets = Mapping[str, nn.Module]
# Looks at the averaged networks after so many steps; what it finds is logged.
Watch = Callable[[Nets, int], Mapping[str, float]]

LOSS = "loss"  # of what a watch finds: the less the better


@dataclass
class Looks:
    """The least watched loss so far, and how many looks have found no less since.

    The weights that had it are kept as each part's ``best``.

    Parameters
    ----------
    best
        The least loss; None before the first look.
    since
        Looks without improvement.
    """

    best: float | None = None
    since: int = 0

    def improved(self, found: Mapping[str, float]) -> bool:
        """Counts a look, and says whether it was the best.

        Raises
        ------
        ValueError
            If it found no loss.
        """
        if LOSS not in found:
            raise ValueError(
                "expected a watch that finds a loss, to stop early by, got none; leave out patience"
            )
        better = math.isfinite(found[LOSS]) and (self.best is None or found[LOSS] < self.best)
        self.best, self.since = (found[LOSS], 0) if better else (self.best, self.since + 1)
        return better


def watched(parts: Mapping[str, Part], watch: Watch, step: int) -> Mapping[str, float]:
    """What ``watch`` finds in the averaged networks; those in training are as before afterwards."""
    nets = {name: part.net for name, part in parts.items()}
    for part in parts.values():
        part.average.store(part.weights())
        part.average.copy_to(part.weights())
    mode(nets, train=False)
    try:
        return watch(nets, step)
    finally:
        for part in parts.values():
            part.average.restore(part.weights())
        mode(nets, train=True)


def keep_best(parts: Mapping[str, Part]) -> None:
    """Remembers the averaged weights of now as the best."""
    for part in parts.values():
        part.best = [t.detach().clone() for t in part.average.shadow_params]


def give_best(parts: Mapping[str, Part], here: PartialState) -> None:
    """Leaves the best weights in the networks, where any were remembered, in every process."""
    for part in parts.values():
        for n, weight in enumerate(part.weights()):
            if part.best is not None:
                weight.data.copy_(part.best[n])
            if here.num_processes > 1:
                weight.data.copy_(broadcast(weight.data))


def mode(nets: Nets, train: bool) -> None:
    """Networks as they learn, or as they are used."""
    for net in nets.values():
        net.train(train)


def note(
    path: Path,
    step: int,
    seconds: float,
    values: Mapping[str, float],
    trackers: Sequence[GeneralTracker] = (),
    prefix: str = "",
) -> None:
    """A line of JSON at the end of a file, and the same to trackers, names there with a prefix."""
    line: dict[str, Any] = {"step": step, "seconds": round(seconds, 1)}
    line |= {name: round(value, 5) for name, value in values.items()}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    for tracker in trackers:
        tracker.log({f"{prefix}{name}": value for name, value in values.items()}, step=step)
