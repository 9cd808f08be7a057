"""The server's rounds: Flower's strategies, kept after each, so that a restart goes on with the next one."""

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, FedTrimmedAvg, Krum
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from imaging.atomic import whole_file

from .compression import BITS, bytes_of, restored
from .gate import first_weights
from .learning import PACKED, Weights
from .privacy import of_mean
from .records import ARRAYS, METRICS, arrays_of, request, weights_of
from .screening import TOO_FEW, WEIGHT, Screened, screened
from .secure_rounds import summed
from .statistics_round import counted
from .study import Study

STATE = "rounds.safetensors"
_ATTEMPTS = 3  # at a round that too few sites answer
_MOMENTS = ("m_t", "v_t")  # of FedAdam


@dataclass(frozen=True)
class Round:
    """What happened in a round.

    Parameters
    ----------
    number
        Counted from 1.
    sites
        Whose replies counted, by node.
    refused
        Why others' did not.
    figures
        Means over the sites that counted.
    errors
        Means over the sites that scored the weights of this round; ``patients`` is their sum.
    by_site
        The same of each.
    sent, received
        Bytes of weights.
    seconds
        That it took.
    silent
        Sites that have too few held-out patients to tell of.
    attempts
        How often sites were asked to learn in it.
    """

    number: int
    sites: tuple[int, ...]
    refused: Mapping[str, str]
    figures: Mapping[str, float | int]
    errors: Mapping[str, float | int]
    by_site: Mapping[str, Mapping[str, float | int]]
    sent: int
    received: int
    seconds: float
    attempts: int = 1
    silent: int = 0


@dataclass(frozen=True)
class Trained:
    """Weights after the rounds so far, in a row, and what happened in each."""

    weights: Weights
    rounds: tuple[Round, ...]


def trained(
    grid: Grid,
    study: Study,
    signature: bytes,
    folder: Path,
    progress: Callable[[str, float], None],
    timeout: float = 3600.0,
) -> Trained:
    """A study's rounds, those in ``folder`` first.

    Parameters
    ----------
    grid
        Flower's way to the nodes.
    study
        What is learnt.
    signature
        Of the study, by who asks.
    folder
        Keeps weights, moments of the strategy and the history after each round; whole or as before.
    progress
        Called with what happens and the share that is done.
    timeout
        Seconds to wait for a round's replies.

    Raises
    ------
    ValueError
        If the folder holds another study's rounds, or too few sites answer.
    """
    strategy = strategy_of(study)
    if study.statistics:
        counted(grid, study, signature, folder, timeout)
    weights, rounds = _resumed(study, strategy, folder)
    for number in range(len(rounds) + 1, study.rounds + 1):
        weights, done = _round(grid, study, signature, strategy, weights, number, timeout)
        rounds.append(done)
        _keep(study, strategy, weights, rounds, folder)
        progress(f"Rounds, {len(done.sites)} sites", number / study.rounds)
    return Trained(weights, tuple(rounds))


def strategy_of(study: Study) -> FedAvg:
    """Flower's strategy for a study."""
    how = {
        "fraction_train": study.share,
        "fraction_evaluate": 1.0,
        "min_train_nodes": study.least_sites,
        "min_evaluate_nodes": study.least_sites,
        "min_available_nodes": study.least_sites,
        "weighted_by_key": WEIGHT,
    }
    if study.aggregation == "median":
        return FedMedian(**how)
    if study.aggregation == "trimmed":
        return FedTrimmedAvg(**how)
    if study.aggregation == "krum":
        return Krum(**how, num_malicious_nodes=study.most_bad)
    if study.strategy == "fedadam":
        return FedAdam(**how, eta=study.server_rate)
    # The study tells sites FedProx's weight themselves: no word of the strategy's own need travel.
    return FedAvg(**how)


def _round(
    grid: Grid,
    study: Study,
    signature: bytes,
    strategy: FedAvg,
    weights: Weights,
    number: int,
    timeout: float,
) -> tuple[dict[str, Tensor], Round]:
    """One round, again where too few answer."""
    began = time.monotonic()
    size = sum(t.numel() * t.element_size() for t in weights.values())
    attempts = 0
    for _ in range(_ATTEMPTS):
        attempts += 1
        arrays, config = request(weights, study.as_json(), signature)
        messages = list(strategy.configure_train(number, arrays, config, grid))
        nodes = [m.metadata.dst_node_id for m in messages]
        of = _learnt(grid, study, messages, weights, timeout)
        if len(of.kept) >= study.least_sites:
            break
    else:
        why = "; ".join(sorted(set(of.refused.values())))
        raise ValueError(f"expected {study.least_sites} sites to answer round {number}, got fewer: {why}")
    if isinstance(strategy, FedTrimmedAvg):  # which trims a share; the sliver is for rounding
        strategy.beta = (study.most_bad + 1e-6) / len(of.kept)
    found, figures = strategy.aggregate_train(number, _private(of.kept, weights, study))
    new = {name: t.to(weights[name].dtype) for name, t in weights_of(found).items()}
    errors, by_site, silent = _scored(grid, study, signature, strategy, new, number, timeout)
    done = Round(
        number,
        tuple(sorted(of.changes)),
        {str(node): why for node, why in sorted(of.refused.items())},
        {k: float(v) for k, v in figures.items()},
        errors,
        by_site,
        size * len(nodes),
        _bytes_of(study, weights) * len(of.kept),
        round(time.monotonic() - began, 3),
        attempts,
        silent,
    )
    return {name: new[name] for name in weights}, done


def _bytes_of(study: Study, weights: Weights) -> int:
    """Bytes of the weights that a site sends; numbers behind masks have eight each."""
    n = sum(t.numel() for t in weights.values())
    return 8 * n if study.secure else bytes_of(n, study.bits)


def _learnt(
    grid: Grid, study: Study, messages: Sequence[Message], weights: Weights, timeout: float
) -> Screened:
    """What sites answer that were asked to learn."""
    if study.secure:
        return summed(messages, weights, study, lambda ask: _exchanged(grid, ask, timeout)[0])
    replies, nodes = _exchanged(grid, messages, timeout)
    if study.bits < max(BITS):
        for reply in replies:
            _restore(reply, weights, study)
    return screened(replies, weights, nodes, "train", study)


def _restore(reply: Message, sent: Weights, study: Study) -> None:
    """Weights in place of their compressed changes; what cannot be restored is left for the screening."""
    if not reply.has_error() and ARRAYS in reply.content:
        with contextlib.suppress(ValueError):
            row = restored(weights_of(reply.content[ARRAYS]), sent[PACKED], study.bits)
            reply.content[ARRAYS] = arrays_of({PACKED: row})


def _private(kept: Sequence[Message], sent: Weights, study: Study) -> list[Message]:
    """Replies whose mean is as private as a study asks of its server."""
    if study.privacy != "central" or study.secure:  # whose sum is noisy already
        return list(kept)
    rows = [weights_of(reply.content[ARRAYS])[PACKED] for reply in kept]
    near = of_mean(rows, sent[PACKED], study.clip, study.noise)
    for reply, row in zip(kept, near, strict=True):
        reply.content[ARRAYS] = arrays_of({PACKED: row})
    return list(kept)


def _scored(
    grid: Grid,
    study: Study,
    signature: bytes,
    strategy: FedAvg,
    weights: Weights,
    number: int,
    timeout: float,
) -> tuple[dict[str, float | int], dict[str, dict[str, float | int]], int]:
    """Errors pooled over patients without pooling them, those of each site, and how many tell none."""
    arrays, config = request(weights, study.as_json(), signature)
    messages = list(strategy.configure_evaluate(number, arrays, config, grid))
    replies, nodes = _exchanged(grid, messages, timeout)
    of = screened(replies, weights, nodes, "evaluate", study)
    kept, silent = of.kept, sum(why == TOO_FEW for why in of.refused.values())
    by_site = {str(r.metadata.src_node_id): dict(r.content[METRICS]) for r in kept}
    for figures in by_site.values():
        figures.pop(WEIGHT)
    pooled = dict((strategy.aggregate_evaluate(number, kept) if kept else None) or {})
    total = sum(int(figures["patients"]) for figures in by_site.values())
    return {**{k: float(v) for k, v in pooled.items()}, "patients": total}, by_site, silent


def _exchanged(grid: Grid, messages: Sequence[Message], timeout: float) -> tuple[list[Message], list[int]]:
    """Replies in time, and the nodes that were asked; what comes later is no answer to a later round."""
    for message in messages:
        message.metadata.ttl = timeout
    nodes = [m.metadata.dst_node_id for m in messages]
    return list(grid.send_and_receive(messages, timeout=timeout)), nodes


def _keep(study: Study, strategy: FedAvg, weights: Weights, rounds: Sequence[Round], folder: Path) -> None:
    tensors = {f"weights/{k}": t.contiguous() for k, t in weights.items()}
    for word in _MOMENTS:
        for name, moment in (getattr(strategy, word, None) or {}).items():
            tensors[f"{word}/{name}"] = torch.from_numpy(np.ascontiguousarray(moment))
    meta = {"study": study.digest, "rounds": json.dumps([asdict(r) for r in rounds])}
    with whole_file(folder / STATE) as part:
        save_file(tensors, part, metadata=meta)


def _resumed(study: Study, strategy: FedAvg, folder: Path) -> tuple[dict[str, Tensor], list[Round]]:
    path = folder / STATE
    if not path.is_file():
        return first_weights(study), []
    with safe_open(path, framework="pt") as file:
        meta: dict[str, Any] = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
    if meta.get("study") != study.digest:
        raise ValueError("expected the rounds of this study, got those of another; use a new folder")
    for word in _MOMENTS:
        if hasattr(strategy, word):
            setattr(strategy, word, {k: t.numpy() for k, t in _under(tensors, word).items()} or None)
    rounds = [Round(**{**told, "sites": tuple(told["sites"])}) for told in json.loads(meta["rounds"])]
    return _under(tensors, "weights"), rounds


def _under(tensors: Mapping[str, Tensor], word: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{word}/"): t for name, t in tensors.items() if name.startswith(f"{word}/")}
