"""What a federated training leaves is a model like others, whose card names the sites as they chose."""

import json
from pathlib import Path

import pytest
from flwr.app import Message

from app.catalogue import Spec, import_files
from app.federation.gate import Answer
from app.federation.in_process import InProcessGrid
from app.federation.records import asked_by, reply_with
from app.federation.result import REPORT, weights_at, write_result
from app.federation.rounds import trained
from app.federation.study import Study

MODEL = {"shape": [32, 32, 32], "net": {"features": [4, 4, 4, 4, 4, 4], "stages": 1}}
STUDY = Study("small", "dose", MODEL, rounds=2, steps=1, strategy="fedadam")


def still(message: Message) -> Message:
    """A node that learns nothing."""
    asked = asked_by(message)
    if asked.kind == "evaluate":
        errors = dict.fromkeys(("dose_gy", "histogram_gy", "counted_gy"), 2.5)
        return reply_with(Answer({}, {"patients": 3, **errors}), message)
    figures = {"patients": 5, "samples": 1, "loss_first": 2.0, "loss_last": 1.0}
    return reply_with(Answer(asked.weights, figures), message)


def test_a_federated_model_is_registered_with_sites_rounds_and_strategy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SPINDOSE_MODELS", str(tmp_path / "models"))
    found = trained(InProcessGrid({1: still, 2: still}), STUDY, b"", tmp_path, lambda _, __: None)
    write_result(found, STUDY, {1: "north", 2: ""}, tmp_path)
    report = json.loads((tmp_path / REPORT).read_text(encoding="utf-8"))
    assert report["sites"] == ["north", "site 2"]
    assert report["rounds"][-1]["errors"]["patients"] == 6
    files = sorted(weights_at(tmp_path, STUDY).parent.iterdir())
    assert [path.name for path in files] == ["dose.json", "dose.safetensors"]
    spec = Spec("dose-together", "consortium", "Foretells doses", "head", "CT")
    model = import_files(spec, files, "Ada", "trained by two sites")
    assert model is not None
    assert model.card["federation"]["dose.safetensors"] == {
        "sites": ["north", "site 2"],
        "study": STUDY.digest,
        "strategy": "fedadam",
        "aggregation": "mean",
        "rounds": 2,
        "privacy": "none",
    }
    assert model.card["metrics"]["dose.safetensors"]["held_out"]["dose_gy"] == pytest.approx(2.5)
