"""What nodes refuse, what rounds survive, and how they scale, all really done in this process."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Message

from app.federation.approvals import approve
from app.federation.gate import Answer, Asked, RefusedError, answers_of, first_weights
from app.federation.in_process import InProcessGrid, Node
from app.federation.learning import PACKED
from app.federation.node import answered
from app.federation.node_file import NodeFile
from app.federation.records import asked_by, reply_with
from app.federation.rounds import Trained, trained
from app.federation.secure import masked, quantised
from app.federation.stages import KEYS, MASKED, SHARES, UNMASK, Held, parts_of
from app.federation.study import Study, signed, study_of

_N_NODES = (2, 4, 8, 16, 32)


def refused_requests(folder: Path, patients: Path, study: Study, lead: Ed25519PrivateKey) -> dict[str, Any]:
    """Requests that no node may answer, sent to one: how many it refused, of how many."""
    folder.mkdir(parents=True, exist_ok=True)
    node = NodeFile("north", folder, {"dose": (patients,)}, {"lead": lead.public_key()})
    approve(node, study, "benchmark", "a trial in one process")
    row, stranger = first_weights(study), Ed25519PrivateKey.generate()
    good = Asked("train", {"study": study.as_json(), "signature": signed(study, lead), "round": 1}, row)
    longer = replace(study, steps=study.steps + 1)
    wrong: dict[str, Asked] = {
        "another kind": replace(good, kind="query"),
        "code": replace(good, kind="get_fab"),
        "a path": replace(good, kind="../patients"),
        "more words": replace(good, words={**good.words, "path": "/"}),
        "fewer words": replace(good, words={k: v for k, v in good.words.items() if k != "round"}),
        "more records": replace(good, others=("pixels",)),
        "a stranger": replace(good, words={**good.words, "signature": signed(study, stranger)}),
        "not approved": replace(
            good, words={**good.words, "study": longer.as_json(), "signature": signed(longer, lead)}
        ),
        "altered": replace(good, words={**good.words, "study": longer.as_json()}),
        "no study": replace(good, words={**good.words, "study": "{}"}),
        "a round too many": replace(good, words={**good.words, "round": study.rounds + 1}),
        "other weights": replace(good, weights={PACKED: row[PACKED][1:]}),
        "weights not finite": replace(good, weights={PACKED: row[PACKED] * math.nan}),
        "a stage of secure sums": replace(good, kind=KEYS, weights={}),
    }
    refused = []
    for name, request in wrong.items():
        try:
            answered(request, node)
        except RefusedError:
            refused.append(name)
    return {"refused_requests": len(refused), "requests_to_refuse": len(wrong)}


def survived_faults(folder: Path, study: Study) -> dict[str, Any]:
    """Faults of sites and of the server: after how many the weights are those of the sound sites alone."""
    short = replace(study, rounds=2, least_sites=2)
    row = first_weights(short)[PACKED]

    def moved(found: Trained) -> float:
        return float((found.weights[PACKED] - row).mean())

    def run(name: str, bad: Node, **words: Any) -> bool:
        asked = replace(short, **words)
        good: dict[int, Node] = {n: _instant(0.1 * n, asked, folder) for n in (1, 2, 3)}
        found = _rounds({**good, 9: bad}, asked, folder / name)
        return abs(moved(found) - 0.4) < 1e-4 and all(r.sites == (1, 2, 3) for r in found.rounds)

    def answering(change: Callable[[torch.Tensor], torch.Tensor]) -> Node:
        return _instant(0.2, short, folder, change)

    found = {
        "dies": run("dies", lambda _: None),
        "not finite": run("nan", answering(lambda t: t * math.nan)),
        "another shape": run("shape", answering(lambda t: t[1:])),
        "another kind of numbers": run("kind", answering(lambda t: t.double())),
        "huge": run("huge", answering(lambda t: t + 1e6)),
        "server restarted": _restarted(short, folder / "restart", folder),
        "joins late": _joins(short, folder / "late", folder),
        "poisoned": _poisoned(
            replace(short, aggregation="median", least_sites=5), folder / "poison", folder, moved
        ),
    }
    return {"faults_survived": sum(found.values()), "faults": found}


def scaling(folder: Path, study: Study) -> dict[str, Any]:
    """Seconds of the server and bytes for a round of so many sites that answer at once."""
    out: dict[str, Any] = {}
    ways: dict[str, dict[str, Any]] = {"plain": {}, "secure": {"secure": True, "reach": 1.0}}
    for name, words in ways.items():
        for n in _N_NODES:
            if name == "secure" and n < 3:
                continue
            asked = replace(study, rounds=1, least_sites=min(n, 3), **words)
            home = folder / f"{name}{n}{time.monotonic_ns()}"
            nodes: dict[int, Node] = {k: _instant(0.01, asked, home / "nodes") for k in range(1, n + 1)}
            done = _rounds(nodes, asked, home).rounds[0]
            out[f"{name}, {n} sites"] = {
                "seconds": done.seconds,
                "megabytes": (done.sent + done.received) / 1e6,
            }
    return out


def _rounds(nodes: dict[int, Node], study: Study, folder: Path) -> Trained:
    signature = signed(study, Ed25519PrivateKey.generate())
    return trained(InProcessGrid(nodes), study, signature, folder, lambda _, __: None, 5.0)


def _restarted(study: Study, home: Path, folder: Path) -> bool:
    nodes: dict[int, Node] = {n: _instant(0.1 * n, study, folder) for n in (1, 2, 3)}
    signature = signed(study, Ed25519PrivateKey.generate())

    def killed(_: str, share: float) -> None:
        if share < 1:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        trained(InProcessGrid(nodes), study, signature, home, killed, 5.0)
    found = _rounds(nodes, study, home)
    return [r.number for r in found.rounds] == [1, 2]


def _joins(study: Study, home: Path, folder: Path) -> bool:
    nodes: dict[int, Node] = {n: _instant(0.1, study, folder) for n in (1, 2)}
    signature = signed(study, Ed25519PrivateKey.generate())

    def joins(_: str, __: float) -> None:
        nodes[3] = _instant(0.1, study, folder)

    found = trained(InProcessGrid(nodes), study, signature, home, joins, 5.0)
    return [r.sites for r in found.rounds] == [(1, 2), (1, 2, 3)]


def _poisoned(study: Study, home: Path, folder: Path, moved: Callable[[Trained], float]) -> bool:
    nodes: dict[int, Node] = {n: _instant(0.2, study, folder) for n in (1, 2, 3, 4)}
    found = _rounds({**nodes, 5: _instant(-1.5, study, folder)}, study, home)
    return abs(moved(found) - 0.4) < 1e-4


def _instant(
    by: float, study: Study, folder: Path, change: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> Node:
    """A site that has learnt in no time: it adds a constant to all weights."""

    def reply(message: Message) -> Message | None:
        asked = asked_by(message)
        if asked.kind == "evaluate":
            errors = dict.fromkeys(answers_of("evaluate", study), 1.0) | {"patients": 1}
            return reply_with(Answer({}, errors), message)
        held, words = Held(folder / f"{asked.node}.json", asked.words["round"]), asked.words
        if asked.kind == KEYS:
            return reply_with(Answer({}, words={"keys": held.begin(asked.node)}), message)
        if asked.kind == SHARES:
            told = {"letters": held.write(asked.node, words["keys"], study_of(words["study"]).least_sites)}
            return reply_with(Answer({}, words=told), message)
        if asked.kind == UNMASK:
            lists = [list(parts_of(words[word], 0)) for word in ("answered", "lost")]
            return reply_with(Answer({}, words={"shares": held.reveal(*lists)}), message)
        row = asked.weights[PACKED] + by
        if asked.kind == MASKED:
            secrets, masks, peers = held.receive(asked.node, words["letters"])
            numbers = quantised(row - asked.weights[PACKED], 1, study.reach, torch.Generator().manual_seed(0))
            row = masked(numbers, asked.node, secrets, masks, peers)
        figures = dict.fromkeys(answers_of(asked.kind, study), 1.0) | {"patients": 1, "samples": 1}
        return reply_with(Answer({PACKED: change(row) if change else row}, figures), message)

    return reply
