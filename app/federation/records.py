"""Weights and words as Flower's records, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from .gate import Answer, Asked, Refusal
from .learning import Weights

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
_REFUSED = 1000  # codes of refusals begin here; Flower's own are below


def arrays_of(weights: Weights) -> ArrayRecord:
    """Weights as Flower carries them."""
    return ArrayRecord({name: Array(t.detach().cpu().numpy()) for name, t in weights.items()})


def weights_of(arrays: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Weights that Flower carried; arrays of numbers alone, nothing is unpickled.

    Raises
    ------
    ValueError
        If an array is none, or not of numbers.
    """
    out = {}
    for name, array in arrays.items():
        try:
            out[name] = torch.from_numpy(np.ascontiguousarray(array.numpy()))
        except (TypeError, ValueError, EOFError, OSError, MemoryError):
            raise ValueError("expected arrays of numbers, got something else") from None
    return out


def asked_by(message: Message) -> Asked:
    """What a message asks for; whatever it holds beyond weights and words is named among the others."""
    content = message.content if message.has_content() else RecordDict()
    words = dict(content.config_records.get(CONFIG, {}))
    if "server-round" in words:  # what Flower's strategies call it
        words["round"] = words.pop("server-round")
    others = tuple(name for name in content if name not in (ARRAYS, CONFIG))
    try:
        weights = weights_of(content.array_records.get(ARRAYS, {}))
    except ValueError:
        weights, others = {}, (*others, "arrays that are none")
    return Asked(message.metadata.message_type, words, weights, others, message.metadata.dst_node_id)


def reply_with(answer: Answer, message: Message) -> Message:
    """An answer as the reply to a message."""
    content = RecordDict({METRICS: MetricRecord(dict(answer.figures))})
    if answer.words:
        content[CONFIG] = ConfigRecord(dict(answer.words))
    if answer.weights:
        content[ARRAYS] = arrays_of(answer.weights)
    return Message(content, reply_to=message)


def refuse(code: Refusal, message: Message) -> Message:
    """A refusal as the reply to a message: its code, and nothing of why."""
    number = _REFUSED + list(Refusal).index(code)
    return Message(Error(number, code.value), reply_to=message)


def request(weights: Weights, study: str, signature: bytes) -> tuple[ArrayRecord, ConfigRecord]:
    """What a server's strategy sends; it adds the round itself."""
    return arrays_of(weights), ConfigRecord({"study": study, "signature": signature})
