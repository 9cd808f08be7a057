"""A node that answers: through the gate, learning or scoring, and through the gate again."""

import hashlib
import json
import os
import shutil
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from imaging.atomic import whole_file

from .audit import note
from .compression import BITS, compressed
from .gate import (
    NOTHING,
    STATISTICS,
    Answer,
    Asked,
    Refusal,
    RefusedError,
    answers_of,
    let_in,
    let_out,
    travelling,
)
from .learning import PACKED, Task, Weights, learn, packed, parted, score
from .node_file import NodeFile
from .privacy import Row, clipped, noisy
from .secure import Masked, masked, quantised
from .stages import ASKS, KEYS, MASKED, SHARES, Held, parts_of
from .statistics import flat, suppressed
from .study import Study, study_of
from .tasks import network_of, task_of


def answered(asked: Asked, node: NodeFile) -> Answer:
    """The answer to a request, if it may be given.

    Parameters
    ----------
    asked
        What came.
    node
        The hospital's settings.

    Raises
    ------
    RefusedError
        If it is refused, or what was asked fails; nothing of why leaves but its code.
    """
    try:
        study, who = let_in(asked, node)
        answer = _tried(asked, study, node)
        let_out(answer, asked, study, node, who)
    except RefusedError as error:
        note(node.log, "out", "refusal", f"{error.code.value}: {error.why}", size=len(error.code.value))
        raise
    return answer


def seed_of(study: Study, node: NodeFile, number: int) -> int:
    """The seed of a site's samples in a round; sites of other names draw others."""
    told = json.dumps([study.digest, node.name, number])
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:6])


def _tried(asked: Asked, study: Study, node: NodeFile) -> Answer:
    """What was asked, or that it failed."""
    try:
        return _done(asked, study, node)
    except Exception as error:  # noqa: BLE001 # whatever it is, it must not travel
        # Our own sentences name no patient; those of libraries may name files.
        why = str(error) if type(error) is ValueError else type(error).__name__
        raise RefusedError(Refusal.FAILED, why) from None


def _done(asked: Asked, study: Study, node: NodeFile) -> Answer:
    if shutil.disk_usage(_there(node.state)).free < node.limits.disk_gb * 1e9:
        raise ValueError("expected free space on the disk, got less than disk_gb of the node's file")
    torch.set_num_threads(max(node.limits.threads, 1))
    held = Held(node.state / "secure" / f"{study.digest[:24]}.json", int(asked.words["round"]))
    if asked.kind in ASKS and asked.kind != MASKED:
        return Answer({}, words=_exchanged(asked, study, held))
    task = _task(study.as_json(), node.data[study.task], node.state / "ready", node.held_out)
    if asked.kind == STATISTICS:
        return Answer({}, _statistics(task, study, node))
    weights = {**own_norms(study, node), **parted(asked.weights, travelling(study))}
    number = int(asked.words["round"])
    if asked.kind == "evaluate":
        if task.n_held_out < node.limits.patients:
            return Answer({}, NOTHING)
        found = score(weights, task)
        return Answer({}, {"patients": found.patients, **found.errors})
    took = learn(weights, task, study.budget(number), seed_of(study, node, number))
    leaving = travelling(study)
    _keep_norms(study, node, {k: t for k, t in took.weights.items() if k not in leaving})
    row = packed({k: took.weights[k] for k in leaving})[PACKED]
    figures = {
        "patients": took.patients,
        "samples": took.samples,
        "loss_first": took.losses[0],
        "loss_last": took.losses[1],
    }
    row = _private(row, asked.weights[PACKED], study)
    weights = {PACKED: row}
    if study.secure:
        weights = {PACKED: _hidden(row - asked.weights[PACKED], asked, study, held, took.patients)}
    elif study.bits < max(BITS):
        weights = compressed(row, asked.weights[PACKED], study.bits, _chance())
    return Answer(weights, {word: figures[word] for word in answers_of("train", study)})


def _exchanged(asked: Asked, study: Study, held: Held) -> dict[str, bytes]:
    """What a stage of secure sums asks for beside learning."""
    words = asked.words
    if asked.kind == KEYS:
        return {"keys": held.begin(asked.node)}
    if asked.kind == SHARES:
        return {"letters": held.write(asked.node, words["keys"], study.least_sites)}
    return {"shares": held.reveal(list(parts_of(words["answered"], 0)), list(parts_of(words["lost"], 0)))}


def _hidden(change: Row, asked: Asked, study: Study, held: Held, patients: int) -> Masked:
    """A site's weighted change behind its masks."""
    secrets, masks, peers = held.receive(asked.node, asked.words["letters"])
    weight = patients if study.weighting == "patients" else 1
    numbers = quantised(change, weight, study.reach, _chance())
    return masked(numbers, asked.node, secrets, masks, peers)


def _chance() -> torch.Generator:
    """Chance that nobody can foretell, for rounding."""
    return torch.Generator().manual_seed(int.from_bytes(os.urandom(7)))


def _private(row: Row, sent: Row, study: Study) -> Row:
    """Weights as they may leave: near enough to those that came, and noisy where the site adds the noise."""
    if study.privacy == "none":
        return row
    near = clipped(row, sent, study.clip)
    return noisy(near, study.noise * study.clip) if study.privacy == "local" else near


def _statistics(task: Task, study: Study, node: NodeFile) -> dict[str, int]:
    """Counts without those of few patients; asked again the same, or what changed between would tell."""
    path = node.state / "statistics" / f"{study.digest[:24]}.json"
    if not path.is_file():
        counts = suppressed(task.counts(), node.limits.patients)
        _there(path.parent)
        with whole_file(path) as part:
            part.write_text(json.dumps(flat(counts)), encoding="utf-8")
    return dict(json.loads(path.read_text(encoding="utf-8")))


@lru_cache(maxsize=4)  # a study goes on with the patients that it began with, as long as the node is up
def _task(study: str, data: tuple[Path, ...], ready: Path, held_out: float) -> Task:
    return task_of(study_of(study), data, ready, held_out, _quiet)


def own_norms(study: Study, node: NodeFile) -> Weights:
    """What this site keeps of a network to itself: of its last round, or as it began."""
    kept = _norms(study, node)
    if kept.is_file():
        return load_file(kept)
    leaving = travelling(study)
    return {k: t for k, t in network_of(study).state_dict().items() if k not in leaving}


def _keep_norms(study: Study, node: NodeFile, own: Weights) -> None:
    if own:
        with whole_file(_norms(study, node)) as part:
            save_file(dict(own), part)


def _norms(study: Study, node: NodeFile) -> Path:
    return node.state / "norms" / f"{study.digest[:24]}.safetensors"


def _there(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _quiet(_: str, __: float) -> None: ...
