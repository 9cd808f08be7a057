"""What a server makes of replies before any counts: one of each site that was asked, whole and sane."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from flwr.app import Message, MetricRecord

from .gate import NOTHING, answers_of
from .learning import Weights
from .records import ARRAYS, METRICS, arrays_of, weights_of
from .study import Study

_HUGE = 10.0  # times the median change of the others
_MOST_PATIENTS = 100_000
TOO_FEW = "too few held-out patients to tell of"
WEIGHT = "weight"  # the figure that Flower's strategies weigh by


@dataclass(frozen=True)
class Screened:
    """Replies of a round.

    Parameters
    ----------
    kept
        Those that count, in the order of their nodes' numbers.
    refused
        Why others do not, by node.
    changes
        How far (Euclidean) each of the kept moved the weights.
    """

    kept: tuple[Message, ...]
    refused: Mapping[int, str]
    changes: Mapping[int, float]


def screened(
    replies: Sequence[Message], sent: Weights, asked: Sequence[int], kind: str, study: Study
) -> Screened:
    """Replies that count, each with the figure :data:`WEIGHT` that it counts by.

    Parameters
    ----------
    replies
        That came.
    sent
        Weights that sites began with; they answer with all of them.
    asked
        Nodes that were.
    kind
        ``train`` or ``evaluate``.
    study
        That they are of: errors are weighed by patients, weights as it says.
    """
    weighting = study.weighting if kind == "train" else "patients"
    refused: dict[int, str] = {}
    found: dict[int, Message] = {}
    changes: dict[int, float] = {}
    for reply in replies:
        node = reply.metadata.src_node_id
        records = {ARRAYS, METRICS} if kind == "train" else {METRICS}
        if why := against(reply, node, asked, found, answers_of(kind, study), records):
            refused.setdefault(node, why)
            continue
        if kind == "train":
            change = _change(reply, sent)
            if change is None:
                refused[node] = "weights of another network, or not finite"
                continue
            changes[node] = change
        found[node] = reply
    for node in _outlying(changes):
        refused[node] = "weights far beyond what others changed"
        changes.pop(node)
        found.pop(node)
    refused |= {node: "no reply in time" for node in asked if node not in found and node not in refused}
    kept = tuple(weighed(found[node], weighting) for node in sorted(found))
    return Screened(kept, refused, changes)


def against(
    reply: Message,
    node: int,
    asked: Sequence[int],
    found: Mapping[int, Message],
    figures: Sequence[str],
    records: set[str],
) -> str:
    """Why a reply does not count, before its weights are looked at; empty where it may.

    Parameters
    ----------
    reply, node
        What came, and from where.
    asked, found
        Nodes that were asked, and what came before by node.
    figures, records
        Names of its figures and of its records.
    """
    if node not in asked:
        return "was not asked"
    if node in found:
        return "answered twice"
    if reply.has_error():
        return str(reply.error.reason or "an error")[:100]
    return _against_figures(reply, figures, records)


def _against_figures(reply: Message, words: Sequence[str], records: set[str]) -> str:
    if set(reply.content) != records or not isinstance(reply.content[METRICS], MetricRecord):
        return "more or less than was asked"
    figures = reply.content[METRICS]
    if dict(figures) == NOTHING:
        return TOO_FEW
    if set(figures) != set(words) or not all(_number(value) for value in figures.values()):
        return "figures other than were asked"
    if "patients" in words and not 1 <= figures["patients"] <= _MOST_PATIENTS:
        return "a number of patients that cannot be"
    return ""


def _number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _change(reply: Message, sent: Weights) -> float | None:
    """How far the weights moved; None where they are no such weights."""
    try:
        weights = weights_of(reply.content[ARRAYS])
    except ValueError:
        return None
    if weights.keys() != sent.keys():
        return None
    if any(weights[k].shape != sent[k].shape or weights[k].dtype != sent[k].dtype for k in sent):
        return None
    far = torch.stack([(weights[k].double() - sent[k].double()).square().sum() for k in sent]).sum().sqrt()
    return float(far) if math.isfinite(far) else None


def _outlying(changes: Mapping[int, float]) -> list[int]:
    """Nodes whose change is many times the median one; two alone cannot be told apart."""
    if len(changes) < 3:
        return []
    median = sorted(changes.values())[(len(changes) - 1) // 2]
    return [node for node, change in changes.items() if change > _HUGE * max(median, 1e-12)]


def weighed(reply: Message, weighting: str) -> Message:
    """The reply with what it counts by: ``patients``, or all ``equal``; arrays ordered by their names."""
    figures = dict(reply.content[METRICS])
    weight = float(figures["patients"]) if weighting == "patients" else 1.0
    reply.content[METRICS] = MetricRecord({**figures, WEIGHT: weight})
    if ARRAYS in reply.content:
        arrays = reply.content[ARRAYS]
        reply.content[ARRAYS] = arrays_of(weights_of({name: arrays[name] for name in sorted(arrays)}))
    return reply
