"""The gate of a node: what may be asked is let in, all else is refused, and every message is logged.

It knows no transport. What comes in is a kind of request, its words and weights; what goes out is weights,
counts and errors by names that were agreed on. A refusal that leaves the node is one of a few fixed codes:
sentences, which may tell of the machine, stay in its log.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from .approvals import approvals_of, beyond
from .audit import lines_of, note
from .compression import BITS, restored
from .learning import PACKED, Weights, packed, parted
from .node_file import NodeFile
from .privacy import within
from .stages import ASKS, GIVES, MASKED, fits
from .statistics import may_leave, names_of
from .study import Study, asker_of, study_of
from .tasks import cells_of, errors_of, network_of

WORDS: Mapping[str, type] = {"study": str, "signature": bytes, "round": int}
COUNTS = ("patients", "samples")
# An evaluation's errors follow from its task (:func:`app.federation.tasks.errors_of`).
ANSWERS = {"train": ("patients", "samples", "loss_first", "loss_last"), "evaluate": ("patients",)}


STATISTICS = "query.statistics"
NOTHING = {"patients": 0}  # what a site says of held-out patients that are too few to be told of
_NAMED = {STATISTICS: "statistics"}  # as a node's file has it


def answers_of(kind: str, study: Study) -> tuple[str, ...]:
    """Names of the figures of an answer; where privacy is asked for, losses of training patients stay."""
    if kind == STATISTICS:
        return names_of(cells_of(study))
    private = study.privacy != "none"
    if kind in ASKS and kind != MASKED:
        return ()
    if kind == "evaluate":
        return (*ANSWERS[kind], *errors_of(study))
    words = ANSWERS["train" if kind == MASKED else kind]
    return tuple(word for word in words if not (private and word.startswith("loss")))


class Refusal(StrEnum):
    """Why a node refused, as it tells others."""

    KIND = "this node answers no such request"
    WORDS = "the request does not have the words that it should"
    STUDY = "the request tells no study"
    ASKER = "nobody who may ask has signed the study"
    APPROVAL = "nobody here has approved the study"
    LIMITS = "the study exceeds what this node allows"
    VERSION = "another version of Spindose runs here"
    ROUND = "the round is not one of the study, or was answered too often"
    WEIGHTS = "the weights are not those of the study's network"
    FAILED = "the node could not do what was asked"
    OUTGOING = "the node holds its answer back"


class RefusedError(Exception):
    """A request was refused; ``code`` may leave the node, ``why`` stays."""

    def __init__(self, code: Refusal, why: str = "") -> None:
        super().__init__(code.value)
        self.code, self.why = code, why or code.value


@dataclass(frozen=True)
class Asked:
    """A request as it came, whoever carried it.

    Parameters
    ----------
    kind
        Such as ``train``.
    words
        ``study`` and ``signature`` (:mod:`app.federation.study`), and ``round``.
    weights
        Of the network, in a row (:func:`app.federation.learning.packed`).
    others
        Names of whatever else came; there may be none.
    node
        The number that whoever carries the request has for this site.
    """

    kind: str
    words: Mapping[str, Any]
    weights: Weights
    others: tuple[str, ...] = ()
    node: int = 0


@dataclass(frozen=True)
class Answer:
    """What leaves a node: weights, counts and errors.

    Parameters
    ----------
    weights
        In a row; none after an evaluation.
    figures
        Counts and mean errors by names of :func:`answers_of`.
    words
        What secure sums need (:data:`app.federation.stages.GIVES`).
    """

    weights: Weights
    figures: Mapping[str, float | int] = field(default_factory=dict)
    words: Mapping[str, bytes] = field(default_factory=dict)


def let_in(asked: Asked, node: NodeFile) -> tuple[Study, str]:
    """The study of a request that may be answered, and who asks; the log tells either way.

    Raises
    ------
    RefusedError
        If it may not.
    """
    size, digest = _measured(asked.weights, {k: _printable(v) for k, v in asked.words.items()})
    named = asked.kind in (*ASKS, STATISTICS) or (asked.kind.isidentifier() and len(asked.kind) < 32)
    kind = asked.kind if named else "unknown"
    told: dict[str, Any] = {"size": size, "sha256": digest}
    try:
        study, who = _looked_at(asked, node, told)
    except RefusedError as error:
        note(node.log, "in", kind, f"refused: {error.why}", **told)
        raise
    note(node.log, "in", kind, "allowed", **told)
    return study, who


def let_out(answer: Answer, asked: Asked, study: Study, node: NodeFile, who: str) -> None:
    """Logs an answer that may leave.

    Raises
    ------
    RefusedError
        If there is more in it than was agreed on, or a number that is none.
    """
    words = {k: _printable(v) for k, v in answer.words.items()}
    size, digest = _measured(answer.weights, {**answer.figures, **words})
    number = int(asked.words["round"])
    told: dict[str, Any] = {
        "study": study.digest,
        "number": number,
        "size": size,
        "sha256": digest,
        "who": who,
    }
    if not _agreed_on(answer, asked, study) or not _countable(answer.figures, asked.kind, study, node):
        note(node.log, "out", asked.kind, "refused: more, less or other than was agreed on", **told)
        raise RefusedError(Refusal.OUTGOING)
    note(node.log, "out", asked.kind, "sent", **told)


def _countable(figures: Mapping[str, float | int], kind: str, study: Study, node: NodeFile) -> bool:
    """Whether figures are those that were agreed on, and of enough patients."""
    if kind == "evaluate" and figures == NOTHING:
        return True
    if set(figures) != set(answers_of(kind, study)):
        return False
    if kind == STATISTICS:
        return may_leave(figures, node.limits.patients)
    return _numbers(figures) and (kind != "evaluate" or figures["patients"] >= node.limits.patients)


def _agreed_on(answer: Answer, asked: Asked, study: Study) -> bool:
    """Whether weights and words of an answer are those that its kind of request asks for."""
    if not fits(answer.words, GIVES.get(asked.kind, {})):
        return False
    if asked.kind == MASKED:
        row = answer.weights.get(PACKED)
        shape = asked.weights[PACKED].shape
        return len(answer.weights) == 1 and row is not None and (row.dtype, row.shape) == (torch.int64, shape)
    if asked.kind != "train":
        return answer.weights == {}
    if study.bits < max(BITS):
        try:
            return _fit({PACKED: restored(answer.weights, asked.weights[PACKED], study.bits)}, study)
        except ValueError:
            return False
    near = study.privacy != "central" or within(answer.weights[PACKED], asked.weights[PACKED], study.clip)
    return _fit(answer.weights, study) and near


def first_weights(study: Study) -> dict[str, Tensor]:
    """What a study begins with, in a row."""
    return packed(travelling(study))


def travelling(study: Study) -> dict[str, Tensor]:
    """The tensors of a study's network that travel: all of them, or all but those of normalisations."""
    with torch.random.fork_rng(devices=[]):
        net = network_of(study)
    state = net.state_dict()
    if study.norms == "shared":
        return state
    own = {name for name, module in net.named_modules() if is_norm(module)}
    return {name: t for name, t in state.items() if name.rpartition(".")[0] not in own}


def is_norm(module: torch.nn.Module) -> bool:
    """Whether a part of a network is a normalisation."""
    norms = (torch.nn.modules.batchnorm._NormBase, torch.nn.GroupNorm, torch.nn.LayerNorm)  # noqa: SLF001
    return isinstance(module, norms)


def _looked_at(asked: Asked, node: NodeFile, told: dict[str, Any]) -> tuple[Study, str]:
    """One check after the other; ``told`` gets what is known by then, for the log."""
    if ("train" if asked.kind in ASKS else _NAMED.get(asked.kind, asked.kind)) not in node.kinds:
        raise RefusedError(Refusal.KIND)
    more = {word: value for word, value in asked.words.items() if word not in WORDS}
    if asked.others or not WORDS.keys() <= asked.words.keys() or not fits(more, ASKS.get(asked.kind, {})):
        raise RefusedError(Refusal.WORDS)
    if any(type(asked.words[word]) is not of for word, of in WORDS.items()):
        raise RefusedError(Refusal.WORDS)
    told["number"] = asked.words["round"]
    who = asker_of(asked.words["study"], asked.words["signature"], node.askers)
    if who is None:
        raise RefusedError(Refusal.ASKER)
    told["who"] = who
    try:
        study = study_of(asked.words["study"])
        told["study"] = study.digest
        exceeds = beyond(node, study)
    except ValueError as error:
        raise RefusedError(Refusal.STUDY, str(error)) from None
    _expect_runnable(asked, study, node, exceeds)
    return study, who


def _expect_runnable(asked: Asked, study: Study, node: NodeFile, exceeds: str) -> None:
    """Approved, within limits, of this version, of a round that is due, with weights that fit."""
    if study.digest not in approvals_of(node.approvals):
        raise RefusedError(Refusal.APPROVAL)
    if exceeds:
        raise RefusedError(Refusal.LIMITS, exceeds)
    if study.version != Study.version:
        raise RefusedError(Refusal.VERSION)
    most = study.rounds + node.limits.repeats
    if not 1 <= asked.words["round"] <= study.rounds or _answered(node, asked.kind, study) >= most:
        raise RefusedError(Refusal.ROUND)
    if asked.kind not in ("evaluate", STATISTICS) and (asked.kind in ASKS) != study.secure:
        raise RefusedError(Refusal.KIND)
    if asked.kind == STATISTICS and not study.statistics:
        raise RefusedError(Refusal.KIND)
    wanted = asked.kind in (*ANSWERS, MASKED)
    if not (_fit(asked.weights, study) if wanted else asked.weights == {}):
        raise RefusedError(Refusal.WEIGHTS)


def _answered(node: NodeFile, kind: str, study: Study) -> int:
    sent = [x for x in lines_of(node.log) if x.way == "out" and x.verdict == "sent"]
    return sum(x.kind == kind and x.study == study.digest for x in sent)


def _fit(row: Weights, study: Study) -> bool:
    """Whether it is the row of the study's network, of finite numbers."""
    try:
        weights = parted(row, travelling(study))
    except ValueError:
        return False
    return all(bool(torch.isfinite(t).all()) for t in weights.values())


def _numbers(figures: Mapping[str, float | int]) -> bool:
    whole = all(isinstance(figures[k], int) and figures[k] >= 0 for k in COUNTS if k in figures)
    return whole and all(math.isfinite(value) for value in figures.values())


def _measured(weights: Weights, words: Mapping[str, Any]) -> tuple[int, str]:
    """Bytes and SHA-256 of what a message holds, as safetensors."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(t.numpy())) for name, t in weights.items()}
    content = save(tensors, {"words": json.dumps(words, sort_keys=True)})
    return len(content), hashlib.sha256(content).hexdigest()


def _printable(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else repr(value)
