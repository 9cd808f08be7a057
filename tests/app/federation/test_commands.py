"""What a hospital's administrator types, and what Flower's messages meet at a node."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from typer.testing import CliRunner

from app.cli import app
from app.federation.client import replied
from app.federation.gate import Refusal, first_weights
from app.federation.in_process import InProcessGrid
from app.federation.keys import lead_keys
from app.federation.node_file import read_node
from app.federation.records import request
from app.federation.study import read_study, signed
from app.report.sign import private_key

RUNNER = CliRunner()
STUDY = """name = "small"
task = "dose"
rounds = 1
steps = 1
warmup = 0
[model]
shape = [32, 32, 32]
[model.net]
features = [4, 4, 4, 4, 4, 4]
stages = 1
"""


@pytest.fixture
def home(tmp_path: Path, hospital: Path, made_ready: Path) -> Path:
    lead_keys(tmp_path, "lead")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ready").symlink_to(made_ready)
    (tmp_path / "study.toml").write_text(STUDY, encoding="utf-8")
    text = f'name = "north"\n[data]\ndose = ["{hospital}"]\nheld_out = 0.4\n[askers]\nlead = "lead.pem"\n'
    (tmp_path / "node.toml").write_text(text, encoding="utf-8")
    return tmp_path


def say(*words: object) -> str:
    done = RUNNER.invoke(app, ["federate", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.output


def message(home: Path, kind: str = "train", **more: ArrayRecord) -> Message:
    InProcessGrid({})  # a message is of a run
    study = read_study(home / "study.toml")
    arrays, config = request(
        first_weights(study), study.as_json(), signed(study, private_key(home / "lead.key"))
    )
    config["server-round"] = 1
    return Message(RecordDict({"arrays": arrays, "config": config, **more}), 7, kind)


def test_a_study_is_looked_at_approved_and_withdrawn(home: Path):
    node, study = home / "node.toml", home / "study.toml"
    assert "Approved: no" in say("inspect", node, study)
    assert "Approved: small" in say("approve", node, study, "--why", "ethics 2027-14", "--by", "Ada")
    assert "Approved: yes, by Ada" in say("inspect", node, study)
    assert replied(message(home), read_node(node)).has_content()
    say("withdraw", node, read_study(study).digest[:10])
    assert replied(message(home), read_node(node)).error.reason == Refusal.APPROVAL.value
    told = json.loads(say("audit", node, "--json"))["lines"]
    assert [line["kind"] for line in told] == ["approve", "train", "train", "withdraw", "train", "refusal"]
    assert all(line["size"] > 20_000 and len(line["sha256"]) == 64 for line in told[1:3])


@pytest.mark.parametrize("kind", ["query", "query.files", "train.other", "evaluate"])
def test_other_messages_of_flowers_are_refused_by_a_code_alone(home: Path, kind: str):
    node = read_node(home / "node.toml")
    reply = replied(message(home, kind), node)
    assert reply.error.reason in {Refusal.KIND.value, Refusal.APPROVAL.value}
    assert reply.error.code >= 1000


def test_messages_with_more_in_them_are_refused(home: Path):
    node = read_node(home / "node.toml")
    more = replied(message(home, more=ArrayRecord({"x": Array(torch.zeros(2).numpy())})), node)
    assert more.error.reason == Refusal.WORDS.value
    empty = Message(RecordDict({"config": ConfigRecord({"path": "/etc/passwd"})}), 7, "train")
    assert replied(empty, node).error.reason == Refusal.WORDS.value


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["keys", "OUT"], "expected --lead, --node or --host"),
        (["server", "OUT", "--certificates", "OUT"], "expected server.pem among the certificates"),
        (["node", "node.toml"], "expected address, certificate and key"),
        (["approve", "node.toml", "study.toml", "--why", " "], "who approves and why"),
        (["withdraw", "node.toml", "ab"], "of one approved study"),
        (["simulate", "study.toml", "--site", "north", "--out", "OUT"], "expected --site NAME=FOLDER"),
        (["inspect", "none.toml", "study.toml"], "none.toml"),
    ],
)
def test_bad_input_is_one_sentence(home: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], why: str):
    monkeypatch.chdir(home)
    done = RUNNER.invoke(app, ["federate", *words])
    assert done.exit_code == 2
    assert why in done.output
    assert "Traceback" not in done.output


def test_without_flower_a_node_of_fedns_still_has_its_commands(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(home)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "flwr" else found(name))
    assert "Nothing yet" in RUNNER.invoke(app, ["federate", "audit", "node.toml"]).output
    done = RUNNER.invoke(app, ["federate", "node", "node.toml"])
    assert done.exit_code == 2
    assert "install spindose[federated]" in done.output
