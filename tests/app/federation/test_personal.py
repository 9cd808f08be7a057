"""A site teaches a global model on, for itself: no worse by what it watches, and told whose child it is."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from app.catalogue import Spec, import_files
from app.cli import app
from app.federation.dose_task import DoseTask
from app.federation.gate import first_weights
from app.federation.keys import lead_keys
from app.federation.learning import score
from app.federation.personal import Personal, chosen, taught
from app.federation.result import weights_at, write_result
from app.federation.rounds import Round, Trained
from app.federation.study import Study, read_study
from app.federation.tasks import loss_of
from models.unet import UNetConfig, unet

NET = {"features": [4, 4, 4, 4, 4, 4], "stages": 1, "norm": "instance"}
STUDY = Study("small", "dose", {"shape": [32, 32, 32], "net": NET}, rounds=1, steps=1, warmup=0)
TOML = """name = "small"
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


def quiet(_: str, __: float) -> None: ...


def small(site, numbers: list[int]) -> DoseTask:
    task = site(numbers)
    return replace(task, run=replace(task.run, net={**task.run.net, "features": (4,) * 6}))


def test_teaching_on_is_a_function_and_errs_less_on_those_who_are_watched(site):
    task = small(site, [0, 1, 2])
    start = dict(task.network().state_dict())
    kept = {k: t.clone() for k, t in start.items()}
    how = Personal(steps=30, look=10, patience=3, learning_rate=3e-3)
    one, again = (taught(start, task, how, STUDY, 1, quiet) for _ in range(2))
    assert all(torch.equal(one.weights[k], again.weights[k]) for k in start)
    assert all(torch.equal(start[k], kept[k]) for k in start)
    assert one.before == score(start, task).errors
    assert one.after == score(one.weights, task).errors
    assert loss_of(STUDY, one.after) < 0.9 * loss_of(STUDY, one.before)
    assert (one.patients, one.held_out) == (2, 1)


def test_what_does_not_help_is_not_kept_and_ends_early(site):
    task = small(site, [0, 1])
    start = dict(task.network().state_dict())
    how = Personal(steps=40, look=1, patience=2, learning_rate=1e-30)
    found = taught(start, task, how, STUDY, 1, quiet)
    assert found.steps <= 4
    assert all(torch.equal(found.weights[k], start[k]) for k in start)
    assert found.after == found.before


def test_only_the_layers_that_were_chosen_move(site):
    task = small(site, [0, 1])
    start = dict(task.network().state_dict())
    how = Personal(steps=10, look=10, patience=1, layers="last", learning_rate=1e-2)
    found = taught(start, task, how, STUDY, 1, quiet)
    moved = {name for name in start if not torch.equal(found.weights[name], start[name])}
    assert moved
    assert moved <= chosen(task.network(), "last") < set(start)


def test_layers_are_those_of_the_network_and_none_is_refused():
    net = unet(UNetConfig(1, 2, (4,) * 6, sharp=4))
    norms = chosen(net, "norms")
    assert norms
    assert all(dict(net.named_parameters())[name].ndim == 1 for name in norms)  # scales and shifts
    assert chosen(net, "all") == {name for name, _ in net.named_parameters()}
    with pytest.raises(ValueError, match="expected a network with layers of norms"):
        chosen(unet(UNetConfig(1, 2, (4,) * 6, norm="none")), "norms")
    with pytest.raises(ValueError, match="expected layers to be one of all, last, norms"):
        Personal(layers="first")


@pytest.fixture
def home(tmp_path: Path, hospital: Path, made_ready: Path) -> Path:
    """A node, a study and what it gave."""
    lead_keys(tmp_path, "lead")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ready").symlink_to(made_ready)
    (tmp_path / "study.toml").write_text(TOML, encoding="utf-8")
    text = f'name = "north"\n[data]\ndose = ["{hospital}"]\nheld_out = 0.4\n[askers]\nlead = "lead.pem"\n'
    (tmp_path / "node.toml").write_text(text, encoding="utf-8")
    study = read_study(tmp_path / "study.toml")
    one = Round(1, (1, 2), {}, {}, {"patients": 4, "dose_gy": 9.0}, {}, 0, 0, 1.0)
    write_result(Trained(first_weights(study), (one,)), study, {1: "north", 2: "south"}, tmp_path)
    return tmp_path


def test_a_sites_own_model_is_registered_as_a_child_of_the_global_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SPINDOSE_MODELS", str(home / "models"))
    study = read_study(home / "study.toml")
    parent = weights_at(home, study)
    words = [home / "node.toml", home / "study.toml", parent, "--out", home / "ours", "--steps", 4]
    more = ["--look", 2, "--layers", "last", "--json"]
    done = CliRunner().invoke(app, ["federate", "personalise", *map(str, [*words, *more])])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert loss_of(study, told["after"]) <= loss_of(study, told["before"])
    path = home / "ours" / "dose.safetensors"
    assert load_file(path).keys() == load_file(parent).keys()
    files = sorted((home / "ours").iterdir())
    assert [f.name for f in files] == ["dose.json", "dose.safetensors"]
    model = import_files(Spec("ours", "north", "Foretells doses", "head", "CT"), files, "Ada", "ours")
    assert model is not None
    digest = hashlib.sha256(parent.read_bytes()).hexdigest()
    assert model.card["parent"]["dose.safetensors"]["sha256"] == digest
    assert model.card["federation"]["dose.safetensors"]["study"] == study.digest
    assert "hospital" not in (home / "ours" / "dose.json").read_text(encoding="utf-8")


def test_weights_of_another_study_are_refused_and_leave_nothing(home: Path):
    parent = weights_at(home, read_study(home / "study.toml"))
    (home / "other.toml").write_text(TOML.replace("steps = 1", "steps = 2"), encoding="utf-8")
    words = [home / "node.toml", home / "other.toml", parent, "--out", home / "ours"]
    done = CliRunner().invoke(app, ["federate", "personalise", *map(str, words)])
    assert done.exit_code == 2
    assert "expected weights that this study gave" in " ".join(done.output.split())
    assert not (home / "ours").exists()
