"""A node that runs out of disk, memory or time refuses, says nothing of why, and answers again afterwards."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Message, RecordDict

from app.federation import worker
from app.federation.approvals import approve
from app.federation.audit import lines_of, note
from app.federation.gate import Refusal, first_weights
from app.federation.in_process import InProcessGrid
from app.federation.node_file import Limits, NodeFile
from app.federation.records import request
from app.federation.study import Study, signed

MODEL = {"shape": [32, 32, 32], "net": {"features": [4, 4, 4, 4, 4, 4], "stages": 1}}
STUDY = Study("small", "dose", MODEL, rounds=2, steps=1, warmup=0)
LEAD = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    home = tmp_path / "small"
    home.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(home)]
    if os.geteuid() or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield home
    subprocess.run(["umount", "--lazy", str(home)], check=True)


def node_of(state: Path, hospital: Path, made_ready: Path) -> NodeFile:
    (state / "ready").symlink_to(made_ready)
    limits = Limits(patients=1, disk_gb=0.0)
    return NodeFile("north", state, {"dose": (hospital,)}, {"lead": LEAD.public_key()}, limits=limits)


def message() -> Message:
    InProcessGrid({})  # whose run messages are of
    arrays, config = request(first_weights(STUDY), STUDY.as_json(), signed(STUDY, LEAD))
    config["server-round"] = 1
    return Message(RecordDict({"arrays": arrays, "config": config}), 7, "train")


def fill(log: Path) -> None:
    for n in range(1, 1000):
        note(log, "here", "fill", "allowed", number=n)


def test_a_full_disk_refuses_and_leaves_the_log_whole(small_disk: Path, hospital: Path, made_ready: Path):
    node = node_of(small_disk, hospital, made_ready)
    approve(node, STUDY, "physicist", "looked at it")
    before = node.log.read_bytes()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 512)
            except OSError:
                break
    with pytest.raises(OSError, match="No space left"):  # once the last page of the log is used up
        fill(node.log)
    n = len(lines_of(node.log))
    assert [x.number for x in lines_of(node.log)] == list(range(n))
    whole = node.log.read_bytes()
    assert whole.startswith(before)
    assert worker._reply(message(), node, 1, "").error.reason == Refusal.FAILED.value
    assert node.log.read_bytes() == whole
    filler.unlink()
    assert worker._reply(message(), node, 1, "").has_content()
    assert [x.verdict for x in lines_of(node.log)][-1] == "sent"


def test_a_line_that_was_cut_off_as_it_was_written_is_none(tmp_path: Path):
    log = tmp_path / "audit.jsonl"
    note(log, "in", "train", "allowed")
    second = note(log, "out", "train", "sent")
    with log.open("ab") as file:
        file.write(b'{"at": "2026-11-23T19:0')
    assert [x.verdict for x in lines_of(log)] == ["allowed", "sent"]
    third = note(log, "in", "evaluate", "allowed")
    assert third.previous == second.hash
    assert [x.verdict for x in lines_of(log)] == ["allowed", "sent", "allowed"]


def test_lines_of_several_processes_are_one_chain(tmp_path: Path):
    log = tmp_path / "audit.jsonl"
    code = "import sys; from pathlib import Path; from app.federation.audit import note\n"
    code += "for n in range(50): note(Path(sys.argv[1]), 'in', 'train', sys.argv[2], number=n)"
    each = [subprocess.Popen([sys.executable, "-c", code, str(log), name]) for name in "abc"]
    assert [process.wait(60) for process in each] == [0, 0, 0]
    found = [(x.verdict, x.number) for x in lines_of(log)]
    assert sorted(found) == [(name, n) for name in "abc" for n in range(50)]


def test_what_takes_too_long_is_refused_even_within_a_library(
    tmp_path: Path, hospital: Path, made_ready: Path, monkeypatch: pytest.MonkeyPatch
):
    tmp_path.joinpath("state").mkdir()
    node = node_of(tmp_path / "state", hospital, made_ready)
    node = replace(node, limits=replace(node.limits, seconds=0.3))
    approve(node, STUDY, "physicist", "looked at it")

    def endless(*_: object) -> None:
        while True:
            torch.ones(64, 64) @ torch.ones(64, 64)

    monkeypatch.setattr("app.federation.node.learn", endless)
    reply = worker._reply(message(), node, 1, "")
    assert reply.error.reason == Refusal.FAILED.value
    assert not any(x.verdict == "sent" for x in lines_of(node.log))


def test_what_needs_too_much_memory_is_an_error_and_not_the_end(tmp_path: Path):
    code = """
from app.federation.node_file import Limits, NodeFile
from app.federation.worker import _limit
from pathlib import Path
import torch
_limit(NodeFile("north", Path(), {}, {}, limits=Limits(memory_gb=2.0)))
try:
    torch.ones(10**9)
except RuntimeError:
    print("refused", float(torch.ones(1000).sum()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["refused", "1000.0"], done.stderr
