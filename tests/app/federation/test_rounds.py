"""Rounds of Flower's strategies over nodes of known behaviour: exact means, garbage, absence, restarts."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Error, Message, RecordDict

from app.federation.gate import Answer, first_weights
from app.federation.in_process import InProcessGrid
from app.federation.records import ARRAYS, asked_by, reply_with
from app.federation.rounds import STATE, Trained, trained
from app.federation.study import Study, signed

MODEL = {"shape": [32, 32, 32], "net": {"features": [4, 4, 4, 4, 4, 4], "stages": 1}}
STUDY = Study("small", "dose", MODEL, rounds=2, steps=1, least_sites=2)
SIGNATURE = signed(STUDY, Ed25519PrivateKey.generate())
FIRST = first_weights(STUDY)


def moved(by: float, patients: int = 1, answers: list[int] | None = None) -> Callable[[Message], Message]:
    """A node that adds a constant to all weights, and whose errors are that constant's size."""

    def reply(message: Message) -> Message:
        asked = asked_by(message)
        if answers is not None and asked.kind == "train":
            answers.append(asked.words["round"])
        if asked.kind == "evaluate":
            errors = dict.fromkeys(("dose_gy", "histogram_gy", "counted_gy"), abs(by))
            return reply_with(Answer({}, {"patients": patients, **errors}), message)
        figures = {"patients": patients, "samples": 1, "loss_first": 2.0, "loss_last": abs(by)}
        return reply_with(Answer({k: t + by for k, t in asked.weights.items()}, figures), message)

    return reply


def spoilt(spoil: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Message], Message]:
    """A node that sends something else than weights."""

    def reply(message: Message) -> Message:
        asked = asked_by(message)
        if asked.kind == "evaluate":
            return moved(1.0)(message)
        weights = {k: t.clone() for k, t in asked.weights.items()}
        figures = {"patients": 1, "samples": 1, "loss_first": 1.0, "loss_last": 1.0}
        return reply_with(Answer(spoil(weights) or weights, figures), message)

    return reply


def train(nodes, folder: Path, study: Study = STUDY) -> Trained:
    return trained(InProcessGrid(nodes), study, SIGNATURE, folder, lambda _, __: None, timeout=5.0)


def shift(found: Trained) -> float:
    """The one constant by which all weights have moved."""
    moves = torch.cat([(found.weights[k] - FIRST[k]).flatten() for k in FIRST])
    assert float(moves.max() - moves.min()) < 1e-5
    return float(moves.mean())


def test_fedavg_is_the_mean_weighted_by_patients(tmp_path: Path):
    found = train({1: moved(0.1, 3), 2: moved(0.5, 1)}, tmp_path)
    assert shift(found) == pytest.approx(2 * (3 * 0.1 + 0.5) / 4, abs=1e-5)
    assert found.rounds[0].figures["loss_last"] == pytest.approx(0.2)
    assert found.rounds[0].errors == {
        "dose_gy": pytest.approx(0.2),
        "histogram_gy": pytest.approx(0.2),
        "counted_gy": pytest.approx(0.2),
        "patients": 4,
    }
    assert found.rounds[1].by_site["2"]["dose_gy"] == pytest.approx(0.5)
    size = sum(4 * t.numel() for t in FIRST.values())
    assert (found.rounds[0].sent, found.rounds[0].received) == (2 * size, 2 * size)


def test_equal_weighting_is_the_plain_mean(tmp_path: Path):
    found = train({1: moved(0.1, 3), 2: moved(0.5, 1)}, tmp_path, replace(STUDY, weighting="equal"))
    assert shift(found) == pytest.approx(2 * 0.3, abs=1e-5)


def test_the_first_step_of_fedadam_is_adams(tmp_path: Path):
    # With one difference d everywhere m = 0.1 d, v = 0.01 d^2: the step is eta_1 m / (sqrt v + tau).
    study = replace(STUDY, strategy="fedadam", server_rate=0.02, rounds=1)
    found = train({1: moved(0.1), 2: moved(0.3)}, tmp_path, study)
    d = 0.2
    eta = 0.02 * math.sqrt(1 - 0.99**2) / (1 - 0.9**2)
    assert shift(found) == pytest.approx(eta * 0.1 * d / (math.sqrt(0.01 * d**2) + 1e-3), abs=1e-5)


def test_only_a_share_of_the_sites_is_asked(tmp_path: Path):
    answers: list[int] = []
    nodes = {n: moved(0.1, answers=answers) for n in range(1, 7)}
    found = train(nodes, tmp_path, replace(STUDY, share=0.5, rounds=4))
    assert sorted(answers) == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert all(len(r.sites) == 3 for r in found.rounds)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda w: w.update({k: t * math.nan for k, t in w.items()}),
        lambda w: {k: t[None] for k, t in w.items()},
        lambda w: {k: t.double() for k, t in w.items()},
        lambda w: {k: t[1:] for k, t in w.items()},
        lambda w: {**w, "pixels": torch.zeros(9)},
        lambda w: {k: t + 1e6 for k, t in w.items()},
    ],
    ids=["nan", "shape", "kind", "missing", "more", "huge"],
)
def test_garbage_does_not_count(tmp_path: Path, spoil):
    study = replace(STUDY, rounds=1)
    found = train({1: moved(0.1), 2: moved(0.3), 3: moved(0.2), 9: spoilt(spoil)}, tmp_path, study)
    assert shift(found) == pytest.approx(0.2, abs=1e-5)
    assert found.rounds[0].sites == (1, 2, 3)
    assert list(found.rounds[0].refused) == ["9"]


def test_figures_beyond_those_agreed_on_do_not_count(tmp_path: Path):
    def vain(message: Message) -> Message:
        return moved(5.0, patients=10**9)(message)

    def silent(message: Message) -> Message:
        return Message(RecordDict({}), reply_to=message)

    def failing(message: Message) -> Message:
        return Message(Error(0, "out of disk"), reply_to=message)

    nodes = {1: moved(0.1), 2: moved(0.3), 3: vain, 4: silent, 5: failing, 6: lambda _: None}
    found = train(nodes, tmp_path, replace(STUDY, rounds=1))
    assert shift(found) == pytest.approx(0.2, abs=1e-5)
    assert found.rounds[0].refused["5"] == "out of disk"
    assert found.rounds[0].refused["6"] == "no reply in time"
    assert found.rounds[0].errors["patients"] == 2


@pytest.mark.parametrize(("aggregation", "within"), [("median", 0.1), ("trimmed", 0.1), ("krum", 0.1)])
def test_a_poisoned_site_does_not_move_a_robust_mean(tmp_path: Path, aggregation: str, within: float):
    # Four honest sites near 0.2; the poisoned one stays below what counts as huge, and pulls the mean to 0.
    bad = 0 if aggregation == "median" else 1
    study = replace(STUDY, rounds=1, aggregation=aggregation, most_bad=bad, least_sites=5)
    honest = {1: moved(0.18), 2: moved(0.2), 3: moved(0.2), 4: moved(0.22)}
    poisoned = {**honest, 5: moved(-1.5, patients=1000)}
    assert shift(train(poisoned, tmp_path / "robust", study)) == pytest.approx(0.2, abs=within / 2)
    mean = replace(STUDY, rounds=1)
    assert shift(train(poisoned, tmp_path / "mean", mean)) < -1


def test_a_node_may_die_and_another_join(tmp_path: Path):
    nodes = {1: moved(0.1), 2: moved(0.3), 3: moved(0.2)}
    rounds: list[tuple[int, ...]] = []

    def progress(_: str, share: float) -> None:
        nodes.pop(1, None)
        nodes[4] = moved(0.2)

    found = trained(InProcessGrid(nodes), replace(STUDY, rounds=2), SIGNATURE, tmp_path, progress, 5.0)
    rounds = [r.sites for r in found.rounds]
    assert rounds == [(1, 2, 3), (2, 3, 4)]


def test_too_few_replies_are_no_round(tmp_path: Path):
    with pytest.raises(ValueError, match="expected 2 sites to answer round 1"):
        train({1: moved(0.1), 2: lambda _: None}, tmp_path)
    assert not (tmp_path / STATE).exists()


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam"])
def test_a_restarted_server_goes_on_with_the_next_round_to_the_same_bits(tmp_path: Path, strategy: str):
    study = replace(STUDY, rounds=4, strategy=strategy)
    whole = train({1: moved(0.1, 2), 2: moved(0.3)}, tmp_path / "whole", study)
    answers: list[int] = []
    nodes = {1: moved(0.1, 2, answers), 2: moved(0.3)}

    def killed(_: str, share: float) -> None:
        if share == 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(InProcessGrid(nodes), study, SIGNATURE, tmp_path / "killed", killed, 5.0)
    again = train(nodes, tmp_path / "killed", study)
    assert answers == [1, 2, 3, 4]  # nothing is asked, or counted, twice
    assert all(torch.equal(t, again.weights[k]) for k, t in whole.weights.items())
    assert [r.number for r in again.rounds] == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="got those of another"):
        train(nodes, tmp_path / "killed", replace(study, seed=1))


def test_arrays_that_hide_objects_are_refused(tmp_path: Path):
    def sly(message: Message) -> Message:
        reply = moved(0.1)(message)
        if ARRAYS in reply.content:
            name = next(iter(reply.content[ARRAYS]))
            reply.content[ARRAYS][name].data = b"\x80\x04\x95 a pickle"
        return reply

    found = train({1: moved(0.1), 2: moved(0.3), 3: sly}, tmp_path, replace(STUDY, rounds=1))
    assert found.rounds[0].refused == {"3": "weights of another network, or not finite"}
