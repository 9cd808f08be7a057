"""One site's share of a training: weights in, weights out, free of any transport.

Nothing is left behind: no file, no state of a generator, no memory of an earlier call. Whoever carries
weights between sites (Flower, FEDn, a loop in a test) calls the same function and gets the same bits.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.fit import Batch, Fit, fit

Weights = Mapping[str, Tensor]
PACKED = "weights"
_FAR = 1e9  # seconds between checkpoints: there are none


@runtime_checkable
class Task(Protocol):
    """What a site can learn from its own patients; knows its data, and no weights."""

    @property
    def n_training(self) -> int:
        """Patients to learn from."""

    @property
    def n_held_out(self) -> int:
        """Patients to validate on."""

    def network(self) -> nn.Module:
        """A new network of first weights, the same ones at every site."""

    def samples(self, seed: int) -> Dataset[Batch]:
        """An endless supply; sample ``n`` depends on the seed and ``n`` alone."""

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """What is learnt from, a scalar."""

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Patients, all of them, by the cells of some histograms."""

    def score(self, net: nn.Module) -> Mapping[str, float]:
        """Mean errors of the patients to validate on."""


@dataclass(frozen=True)
class Budget:
    """How much a site learns before its weights are asked for.

    Parameters
    ----------
    fit
        Steps, batch and rates, and the part of the whole training's cosine that this is.
    proximal
        Weight mu of FedProx's term, mu / 2 times the squared distance from the weights that came (Li et al.,
        "Federated optimization in heterogeneous networks", MLSys 2020, eq. 2); 0 for none.

    Raises
    ------
    ValueError
        If there is no number of steps, for time would make another training of the same seed, or the weight
        is negative.
    """

    fit: Fit
    proximal: float = 0.0

    def __post_init__(self) -> None:
        if self.fit.steps < 1 or self.fit.budget_s:
            raise ValueError(
                "expected a number of steps and no budget of time for a site's share, got others"
            )
        if self.proximal < 0:
            raise ValueError(f"expected a proximal weight of 0 or more, got {self.proximal}")


@dataclass(frozen=True)
class Learnt:
    """What a site's share of a training gives.

    Parameters
    ----------
    weights
        By name, on the CPU.
    patients
        That were learnt from.
    samples
        That were seen.
    losses
        First and last mean, over up to a fifth of the steps each.
    """

    weights: Weights
    patients: int
    samples: int
    losses: tuple[float, float]


@dataclass(frozen=True)
class Scored:
    """Errors of weights at a site, and the number of patients that they are means of."""

    errors: Mapping[str, float]
    patients: int


def learn(weights: Weights, task: Task, budget: Budget, seed: int, device: str = "cpu") -> Learnt:
    """Weights after a site's share of a training; the same for the same arguments.

    Parameters
    ----------
    weights
        To start from; left as they are.
    task
        Network, samples and loss.
    budget
        Steps and rates.
    seed
        Of samples and of what the loss draws.
    device
        Where it learns.

    Raises
    ------
    ValueError
        If the weights are of another network, or the loss stays NaN.
    """
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        net = filled(task.network(), weights).to(device)
        start = [p.detach().clone() for p in net.parameters()]

        def parts(
            nets: Mapping[str, nn.Module], batch: Batch, _: torch.Generator
        ) -> Iterator[tuple[str, Tensor]]:
            loss = task.loss(nets["net"], batch)
            losses.append(float(loss.detach()))
            yield "net", loss + _pulled(nets["net"], start, budget.proximal)

        # Weights are averaged between sites, so none are averaged over steps.
        how = replace(budget.fit, average=0.0, checkpoint_s=_FAR, watch_s=_FAR, patience=0)
        fit({"net": net}, task.samples(seed), parts, how, Path(folder), _quiet, seed)
    found = {name: t.detach().cpu().clone() for name, t in net.state_dict().items()}
    few = max(len(losses) // 5, 1)
    first, last = sum(losses[:few]) / few, sum(losses[-few:]) / few
    return Learnt(found, task.n_training, len(losses) * budget.fit.batch, (first, last))


def score(weights: Weights, task: Task, device: str = "cpu") -> Scored:
    """Errors of weights on the patients that a site validates on.

    Raises
    ------
    ValueError
        If the weights are of another network.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        net = filled(task.network(), weights).to(device).eval()
        return Scored(dict(task.score(net)), task.n_held_out)


def filled(net: nn.Module, weights: Weights) -> nn.Module:
    """The network with other weights, as float32.

    Raises
    ------
    ValueError
        If they are of another network.
    """
    own = net.state_dict()
    fits = own.keys() == weights.keys() and all(own[k].shape == weights[k].shape for k in own)
    if not fits:
        raise ValueError("expected the weights of the network that was agreed on, got those of another")
    net.load_state_dict({name: t.to(own[name].dtype) for name, t in weights.items()})
    return net


def packed(weights: Weights) -> dict[str, Tensor]:
    """Weights as one row of float32: a message of one array is one request, not one for each of a hundred."""
    rows = [t.detach().cpu().float().flatten() for t in weights.values()]
    return {PACKED: torch.cat(rows) if rows else torch.zeros(0)}


def parted(row: Weights, like: Weights) -> dict[str, Tensor]:
    """What :func:`packed` put in a row, with the names and shapes of others.

    Raises
    ------
    ValueError
        If it is no row of as many numbers.
    """
    sizes = [t.numel() for t in like.values()]
    whole = row.get(PACKED)
    if len(row) != 1 or whole is None or whole.dtype != torch.float32 or whole.shape != (sum(sizes),):
        raise ValueError("expected the weights of the network that was agreed on, got those of another")
    parts = torch.split(whole, sizes)
    return {name: part.view(t.shape).to(t.dtype) for (name, t), part in zip(like.items(), parts, strict=True)}


def _pulled(net: nn.Module, start: list[Tensor], proximal: float) -> Tensor:
    """FedProx's term."""
    if proximal == 0:
        return torch.zeros((), device=start[0].device)
    far = [((p - at) ** 2).sum() for p, at in zip(net.parameters(), start, strict=True)]
    return proximal / 2 * torch.stack(far).sum()


def _quiet(_: str, __: float) -> None: ...
