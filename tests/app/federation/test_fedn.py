"""FEDn's callbacks give what the gate lets through, and weights as its own helper has them."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.federation.approvals import approve
from app.federation.fedn import Callbacks, read, seed_model, serve, server_functions, written
from app.federation.gate import first_weights
from app.federation.learning import PACKED, learn, packed
from app.federation.node import seed_of
from app.federation.node_file import NodeFile
from app.federation.study import Study, signed
from app.federation.tasks import network_of, task_of

MODEL = {"shape": [32, 32, 32], "net": {"features": [4, 4, 4, 4, 4, 4], "stages": 1}}
STUDY = Study("small", "dose", MODEL, rounds=2, steps=1, warmup=0)
LEAD = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SETTINGS = {"study": STUDY.as_json(), "signature": signed(STUDY, LEAD).hex()}


@pytest.fixture
def node(tmp_path: Path, hospital: Path, made_ready: Path) -> NodeFile:
    (tmp_path / "ready").symlink_to(made_ready)
    one = NodeFile("north", tmp_path, {"dose": (hospital,)}, {"lead": LEAD.public_key()}, held_out=0.4)
    return replace(one, limits=replace(one.limits, patients=1))


def test_two_rounds_give_what_learning_gives(node: NodeFile):
    approve(node, STUDY, "physicist", "looked at it")
    calls, model = Callbacks(node), seed_model(STUDY)
    task = task_of(STUDY, node.data["dose"], node.state / "ready", node.held_out, lambda _, __: None)
    own = network_of(STUDY).state_dict()
    for number in (1, 2):
        model, told = calls.train(model, SETTINGS)
        own = learn(own, task, STUDY.budget(number), seed_of(STUDY, node, number)).weights
        assert told["training_metadata"]["num_examples"] == 2
        errors = calls.validate(model)
        assert errors is not None
        assert errors["dose_gy"] > 0
    assert torch.equal(read(model, 10.0)[PACKED], packed(own)[PACKED])
    _, told = calls.train(model, SETTINGS)  # no third round
    assert told["training_metadata"]["num_examples"] == 0


def test_sites_that_count_equal_have_one_weight(node: NodeFile):
    study = replace(STUDY, weighting="equal")
    approve(node, study, "physicist", "looked at it")
    settings = {"study": study.as_json(), "signature": signed(study, LEAD).hex()}
    _, told = Callbacks(node).train(seed_model(study), settings)
    assert told["training_metadata"]["num_examples"] == 1


@pytest.mark.parametrize(
    "settings",
    [{}, {**SETTINGS, "signature": "00"}, {**SETTINGS, "signature": "no"}, {**SETTINGS, "study": "{}"}],
)
def test_what_nobody_approved_gives_back_what_came_with_no_weight(node: NodeFile, settings: dict):
    approve(node, STUDY, "physicist", "looked at it")
    calls, model = Callbacks(node), seed_model(STUDY)
    same, told = calls.train(model, settings)
    assert same.getvalue() == model.getvalue()
    assert told["training_metadata"]["num_examples"] == 0
    assert told["training_metadata"]["refused"]
    assert calls.validate(model) is None


def test_weights_are_as_numpys_own_archive_has_them():
    row = first_weights(STUDY)
    with np.load(written(row)) as found:  # FEDn's helper counts arrays from "0"
        assert found.files == ["0"]
        assert np.array_equal(found["0"], row[PACKED].numpy())
    doubles = io.BytesIO()
    np.savez(doubles, **{"0": row[PACKED].double().numpy()})
    assert torch.equal(read(doubles, 10.0)[PACKED], row[PACKED])


def test_other_archives_and_those_too_large_are_no_weights():
    row = first_weights(STUDY)
    objects = io.BytesIO()
    np.savez(objects, **{"0": np.array([{"a": 1}], dtype=object)})
    two = io.BytesIO()
    np.savez(two, **{"0": row[PACKED].numpy(), "1": np.zeros(2)})
    for wrong in (io.BytesIO(b"no archive"), objects, two):
        assert read(wrong, 10.0) == {}
    assert read(written(row), 1e-3) == {}


def test_without_fedn_one_sentence_says_what_to_do(node: NodeFile):
    with pytest.raises(ValueError, match="environment without Flower"):
        serve(node, "http://127.0.0.1:1/")


def test_server_functions_tell_nodes_of_the_study_and_nothing_else():
    study = replace(STUDY, name="quoted", model={**MODEL, "site": 'it\'s "quoted"'})
    names = {"ServerFunctionsBase": object}
    exec(server_functions(study, b"\x01\x02"), names)  # noqa: S102 # as FEDn does
    told = names["ServerFunctions"]().client_settings([])
    assert told == {"study": study.as_json(), "signature": "0102"}


@pytest.mark.parametrize(
    "words",
    [
        {"strategy": "fedadam"},
        {"aggregation": "median"},
        {"bits": 8},
        {"secure": True, "reach": 1.0, "least_sites": 3},
        {"statistics": True},
        {"privacy": "central", "clip": 1.0, "noise": 1.0, "weighting": "equal"},
    ],
)
def test_what_fedns_server_does_not_do_is_refused(words: dict):
    with pytest.raises(ValueError, match="of a study for FEDn"):
        server_functions(replace(STUDY, **words), b"")
