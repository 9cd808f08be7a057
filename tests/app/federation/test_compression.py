"""Updates in few bits: no change off by more than a step, right on average, as many bytes as told."""

from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Message

from app.federation.compression import bytes_of, compressed, restored
from app.federation.gate import Answer, first_weights
from app.federation.in_process import InProcessGrid
from app.federation.learning import PACKED
from app.federation.records import asked_by, reply_with
from app.federation.rounds import trained
from app.federation.study import Study, signed

SENT = torch.linspace(-2, 2, 5000)
CHANGE = 0.01 * torch.randn(5000, generator=torch.Generator().manual_seed(1))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("bits", [8, 4])
def test_no_change_is_off_by_more_than_a_step_of_its_block(bits: int):
    parts = compressed(SENT + CHANGE, SENT, bits, generator(0))
    off = (restored(parts, SENT, bits) - SENT - CHANGE).abs()
    for k in range(0, 5000, 1024):
        step = CHANGE[k : k + 1024].abs().max() / (2 ** (bits - 1) - 1)
        assert float(off[k : k + 1024].max()) <= float(step) * 1.001 + 1e-6
    assert sum(t.numel() * t.element_size() for t in parts.values()) == bytes_of(5000, bits)


@pytest.mark.parametrize("bits", [8, 4])
def test_it_is_right_on_average(bits: int):
    many = [restored(compressed(CHANGE, 0 * SENT, bits, generator(n)), 0 * SENT, bits) for n in range(400)]
    step = float(CHANGE.abs().max()) / (2 ** (bits - 1) - 1)
    # Each is off by less than a step: so is the mean of 400 by no more than five standard errors.
    assert float((torch.stack(many).mean(dim=0) - CHANGE).abs().max()) < 5 * step / 2 / 20


def test_what_did_not_change_stays_and_whole_bits_cost_four_bytes():
    assert torch.equal(restored(compressed(SENT, SENT, 8, generator(0)), SENT, 8), SENT)
    assert bytes_of(5000, 32) == 20_000


def test_parts_of_other_weights_are_refused():
    parts = compressed(SENT + CHANGE, SENT, 8, generator(0))
    for wrong in (
        {**parts, "more": SENT},
        {"levels": parts["levels"]},
        {**parts, "levels": parts["levels"][1:]},
        {**parts, "scales": parts["scales"] * float("nan")},
        {**parts, "levels": parts["levels"].float()},
    ):
        with pytest.raises(ValueError, match="expected levels and scales"):
            restored(wrong, SENT, 8)


def test_rounds_count_compressed_updates_and_refuse_broken_ones(tmp_path: Path):
    model = {"shape": [32, 32, 32], "net": {"features": [4, 4, 4, 4, 4, 4], "stages": 1}}
    study = Study("small", "dose", model, rounds=1, steps=1, bits=8)
    first = first_weights(study)[PACKED]

    def node(by: float, cut: int = 0):
        def reply(message: Message) -> Message:
            asked = asked_by(message)
            if asked.kind == "evaluate":
                errors = dict.fromkeys(("dose_gy", "histogram_gy", "counted_gy"), 1.0)
                return reply_with(Answer({}, {"patients": 1, **errors}), message)
            parts = compressed(first + by, asked.weights[PACKED], 8, generator(0))
            parts = {name: t[cut:] for name, t in parts.items()}
            figures = {"patients": 1, "samples": 1, "loss_first": 1.0, "loss_last": 1.0}
            return reply_with(Answer(parts, figures), message)

        return reply

    signature = signed(study, Ed25519PrivateKey.generate())
    nodes = {1: node(0.1), 2: node(0.3), 3: node(0.2, cut=1)}
    found = trained(InProcessGrid(nodes), study, signature, tmp_path, lambda _, __: None, 5.0)
    # One change for all: the greatest of its block, which the steps have exactly.
    assert float((found.weights[PACKED] - first - 0.2).abs().max()) < 1e-5
    assert found.rounds[0].received == 2 * bytes_of(len(first), 8)
    assert list(found.rounds[0].refused) == ["3"]
