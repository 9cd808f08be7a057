"""Secure sums: exact where sites stay or are lost, nothing to see in what one site sends, refusals."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Message
from scipy.stats import chisquare

from app.federation.gate import Answer, answers_of, first_weights
from app.federation.in_process import InProcessGrid
from app.federation.learning import PACKED
from app.federation.records import asked_by, reply_with
from app.federation.rounds import Trained, trained
from app.federation.secure import (
    KEY,
    SHARE,
    Secrets,
    letters,
    masked,
    mean_of,
    opened,
    put_together,
    quantised,
    threshold,
    unmasked,
)
from app.federation.stages import ASKS, KEYS, MASKED, SHARES, UNMASK, Held, joined, parts_of
from app.federation.study import Study, signed, study_of

MODEL = {"shape": [32, 32, 32], "net": {"features": [4, 4, 4, 4, 4, 4], "stages": 1}}
STUDY = Study("small", "dose", MODEL, rounds=1, steps=1, least_sites=3, secure=True, reach=1.0)
FIRST = first_weights(STUDY)[PACKED]
N = 4096


def secrets_of(n: int) -> Secrets:
    """Three keys that are known."""
    a, b, c = (bytes([n, k]) * (KEY // 2) for k in range(3))
    return Secrets(a, b, c)


ALL = {n: secrets_of(n) for n in (3, 5, 8, 9)}
MASKS = {n: s.public()[0] for n, s in ALL.items()}
CHANNELS = {n: s.public()[1] for n, s in ALL.items()}


def shares() -> dict[int, dict[int, tuple[bytes, bytes]]]:
    """By holder, the shares of each site's seed and key of masks."""
    sent = {n: letters(n, s, CHANNELS) for n, s in ALL.items()}
    return {
        holder: {
            n: (sent[n][n][:SHARE], sent[n][n][SHARE:])
            if n == holder
            else opened(holder, ALL[holder], n, CHANNELS[n], sent[n][holder])
            for n in ALL
        }
        for holder in ALL
    }


@pytest.mark.parametrize("lost", [(), (5,), (9,)])
def test_masks_cancel_in_the_sum_of_those_who_answered(lost: tuple[int, ...]):
    numbers = {
        n: torch.randint(-(2**40), 2**40, (N,), generator=torch.Generator().manual_seed(n)) for n in ALL
    }
    stayed = [n for n in ALL if n not in lost]
    rows = {n: masked(numbers[n], n, ALL[n], MASKS, list(ALL)) for n in stayed}
    held = shares()
    seeds = {n: [held[h][n][0] for h in stayed] for n in stayed}
    keys = {n: [held[h][n][1] for h in stayed] for n in lost}
    found = unmasked(rows, MASKS, seeds, keys)
    assert torch.equal(found, torch.stack([numbers[n] for n in stayed]).sum(dim=0))


def test_what_one_site_sends_looks_like_chance():
    ramp = torch.arange(N) - N // 2
    row = masked(ramp, 3, ALL[3], MASKS, list(ALL))
    for byte in range(8):  # uniform in each of its bytes
        counts = np.bincount(row.numpy().view(np.uint8)[byte::8], minlength=256)
        assert chisquare(counts).pvalue > 1e-6
    assert abs(np.corrcoef(row.numpy().astype(float), ramp.numpy())[0, 1]) < 5 / N**0.5
    # Without the others' halves even its own seed does not uncover it.
    held = shares()
    alone = unmasked({3: row}, {3: MASKS[3]}, {3: [held[h][3][0] for h in ALL]}, {})
    assert not torch.equal(alone, ramp)


def test_fewer_shares_than_the_threshold_tell_nothing():
    assert [threshold(n) for n in (3, 4, 5, 9)] == [3, 3, 4, 7]
    of_seed = [held[3][0] for held in shares().values()]
    for three in itertools.combinations(of_seed, 3):
        assert put_together(three) == ALL[3].seed
    for two in itertools.combinations(of_seed, 2):
        assert put_together(two) != ALL[3].seed


def test_a_letter_opens_for_whom_it_was_written_alone():
    written = letters(3, ALL[3], CHANNELS)
    assert (
        opened(5, ALL[5], 3, CHANNELS[3], written[5])[0] != opened(8, ALL[8], 3, CHANNELS[3], written[8])[0]
    )
    with pytest.raises(ValueError, match="does not open"):
        opened(8, ALL[8], 3, CHANNELS[3], written[5])
    with pytest.raises(ValueError, match="does not open"):
        opened(5, ALL[5], 9, CHANNELS[9], written[5])


def test_whole_numbers_are_within_a_step_and_right_on_average():
    change = torch.full((200_000,), 0.1234567)
    numbers = quantised(change, 3, 2.0, torch.Generator().manual_seed(0))
    step = 2.0 / 2**23
    assert float((mean_of(numbers, 3, 2.0) - 0.1234567).abs().max()) <= step * 1.01
    # Rounded by chance: the error of the mean is that of 200 000 coins, half a step each at most.
    mean = float(numbers.double().mean()) * step / 3
    assert mean == pytest.approx(float(change[0]), abs=4 * step / 2 / 200_000**0.5)
    far = quantised(torch.tensor([5.0, -5.0]), 1, 2.0, torch.Generator().manual_seed(0))
    assert mean_of(far, 1, 2.0).tolist() == pytest.approx([2.0, -2.0], abs=1e-6)


def sites_that_wrote(folder: Path) -> dict[int, Held]:
    held = {n: Held(folder / f"{n}.json", 1) for n in (1, 2, 3)}
    keys = b"".join(h.begin(n) for n, h in held.items())
    sent = {n: parts_of(h.write(n, keys, 3), 2 * SHARE + 28) for n, h in held.items()}
    for n, h in held.items():
        h.receive(n, joined({m: of[n] for m, of in sent.items() if m != n}))
    return held


def test_a_site_never_reveals_both_of_a_site_nor_twice(tmp_path: Path):
    held = sites_that_wrote(tmp_path)
    with pytest.raises(ValueError, match="as one that answered or was lost"):
        held[1].reveal([1, 2, 3], [2])
    with pytest.raises(ValueError, match="two thirds of answers"):
        held[1].reveal([1, 2], [3])
    assert len(parts_of(held[1].reveal([1, 2, 3], []), SHARE)) == 3
    with pytest.raises(ValueError, match="one after the other"):
        held[1].reveal([1, 2, 3], [])
    assert not held[1].path.exists()


def test_what_a_site_keeps_is_its_users_alone_and_of_one_round_in_order(tmp_path: Path):
    held = Held(tmp_path / "secure" / "a.json", 1)
    keys = held.begin(1)
    assert held.path.stat().st_mode & 0o077 == 0
    with pytest.raises(ValueError, match="another order"):
        held.receive(1, b"")
    with pytest.raises(ValueError, match="keys of 3 sites or more, got those of 1"):
        held.write(1, keys, 3)
    with pytest.raises(ValueError, match="another order"):
        Held(held.path, 2).write(1, keys, 1)


def hiding(by: float, patients: int, folder: Path, dies_at: str = "") -> Callable[[Message], Message | None]:
    """A node that adds a constant to all weights and hides it, down to a stage at which it dies."""

    def reply(message: Message) -> Message | None:
        asked = asked_by(message)
        if asked.kind == dies_at:
            return None
        if asked.kind == "evaluate":
            errors = dict.fromkeys(("dose_gy", "histogram_gy", "counted_gy"), 1.0)
            return reply_with(Answer({}, {"patients": patients, **errors}), message)
        held, words = Held(folder / f"{asked.node}.json", asked.words["round"]), asked.words
        if asked.kind == KEYS:
            return reply_with(Answer({}, words={"keys": held.begin(asked.node)}), message)
        if asked.kind == SHARES:
            return reply_with(
                Answer({}, words={"letters": held.write(asked.node, words["keys"], 3)}), message
            )
        if asked.kind == UNMASK:
            lists = (list(parts_of(words[word], 0)) for word in ASKS[UNMASK])
            return reply_with(Answer({}, words={"shares": held.reveal(*lists)}), message)
        assert asked.kind == MASKED
        secrets, masks, peers = held.receive(asked.node, words["letters"])
        numbers = quantised(torch.full_like(FIRST, by), patients, 1.0, torch.Generator().manual_seed(1))
        row = masked(numbers, asked.node, secrets, masks, peers)
        told = answers_of(MASKED, study_of(words["study"]))
        figures = {"patients": patients, "samples": 1, "loss_first": 2.0, "loss_last": 1.0}
        figures = {word: figures[word] for word in told}
        return reply_with(Answer({PACKED: row}, figures), message)

    return reply


def train(nodes, folder: Path, study: Study = STUDY) -> Trained:
    signature = signed(study, Ed25519PrivateKey.generate())
    return trained(InProcessGrid(nodes), study, signature, folder / "server", lambda _, __: None, 5.0)


def test_a_secure_round_is_the_weighted_mean(tmp_path: Path):
    nodes = {n: hiding(0.1 * n, n, tmp_path) for n in (1, 2, 3, 4)}
    found = train(nodes, tmp_path)
    change = found.weights[PACKED] - FIRST
    assert float((change - (0.1 * 30 / 10)).abs().max()) < 2 / 2**23 + 1e-6
    assert found.rounds[0].sites == (1, 2, 3, 4)
    assert found.rounds[0].figures["loss_last"] == 1.0


@pytest.mark.parametrize("stage", [KEYS, SHARES, MASKED])
def test_a_site_that_is_lost_on_the_way_is_left_out_of_the_sum(tmp_path: Path, stage: str):
    nodes = {n: hiding(0.1 * n, 1, tmp_path, stage if n == 3 else "") for n in (1, 2, 3, 4)}
    found = train(nodes, tmp_path)
    assert float((found.weights[PACKED] - FIRST).mean()) == pytest.approx(0.7 / 3, abs=1e-6)
    assert found.rounds[0].sites == (1, 2, 4)
    assert found.rounds[0].refused == {"3": "no reply in time"}


def test_a_site_that_is_lost_at_the_end_counts(tmp_path: Path):
    nodes = {n: hiding(0.1 * n, 1, tmp_path, UNMASK if n == 3 else "") for n in (1, 2, 3, 4)}
    assert train(nodes, tmp_path).rounds[0].sites == (1, 2, 3, 4)


def test_too_few_that_stay_are_no_round(tmp_path: Path):
    nodes = {n: hiding(0.1, 1, tmp_path, MASKED if n > 2 else "") for n in (1, 2, 3, 4)}
    with pytest.raises(ValueError, match="expected 3 sites to answer round 1, got fewer"):
        train(nodes, tmp_path)


def test_noise_of_a_server_is_of_the_mean(tmp_path: Path):
    private = replace(STUDY, weighting="equal", privacy="central", clip=1.0, noise=0.3)
    nodes = {n: hiding(0.1, 1, tmp_path) for n in (1, 2, 3)}
    change = train(nodes, tmp_path, private).weights[PACKED] - FIRST
    assert float(change.std()) == pytest.approx(0.1, rel=0.05)
    assert float(change.mean()) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    "words", [{"reach": 0.0}, {"secure": False}, {"least_sites": 2}, {"aggregation": "median"}]
)
def test_words_that_give_no_secure_sum_are_refused(words: dict):
    with pytest.raises(ValueError, match="secure sums"):
        replace(STUDY, **words)
