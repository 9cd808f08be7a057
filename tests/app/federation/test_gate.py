"""A node answers what its hospital approved, asked by whom it trusts, and refuses everything else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.federation import secure
from app.federation.approvals import approve, inspected, withdraw
from app.federation.audit import lines_of
from app.federation.compression import restored
from app.federation.gate import (
    STATISTICS,
    Answer,
    Asked,
    Refusal,
    RefusedError,
    first_weights,
    let_out,
    travelling,
)
from app.federation.learning import PACKED, learn, packed, parted
from app.federation.node import answered, seed_of
from app.federation.node_file import NodeFile, read_node
from app.federation.stages import joined, parts_of
from app.federation.statistics import unflat
from app.federation.study import Study, made, read_study, signed, study_of
from app.federation.tasks import network_of, task_of

MODEL = {"shape": [32, 32, 32], "net": {"features": [4, 4, 4, 4, 4, 4], "stages": 1}}
STUDY = Study("small", "dose", MODEL, rounds=2, steps=1, warmup=0)
LEAD = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = LEAD.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


@pytest.fixture
def node(tmp_path: Path, hospital: Path, made_ready: Path) -> NodeFile:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ready").symlink_to(made_ready)
    (tmp_path / "lead.pem").write_bytes(PUBLIC)
    text = f'name = "north"\n[data]\ndose = ["{hospital}"]\nheld_out = 0.4\n[limits]\npatients = 1\n'
    text += '[askers]\nlead = "lead.pem"\n'
    (tmp_path / "node.toml").write_text(text, encoding="utf-8")
    return read_node(tmp_path / "node.toml")


@pytest.fixture
def asking(node: NodeFile) -> NodeFile:
    approve(node, STUDY, "physicist", "looked at it")
    return node


def asked(of: Study = STUDY, kind: str = "train", number: int = 1, key=LEAD, **words) -> Asked:
    told = {"study": of.as_json(), "signature": signed(of, key), "round": number} | words
    return Asked(kind, told, first_weights(of))


def refusal(request: Asked, node: NodeFile) -> Refusal:
    with pytest.raises(RefusedError) as found:
        answered(request, node)
    assert str(found.value) == found.value.code.value  # what leaves is the code alone
    return found.value.code


def test_what_was_approved_is_learnt_and_scored(asking: NodeFile):
    answer = answered(asked(), asking)
    assert parted(answer.weights, network_of(STUDY).state_dict()).keys() == travelling(STUDY).keys()
    assert set(answer.figures) == {"patients", "samples", "loss_first", "loss_last"}
    assert answer.figures["patients"] == 2
    scored = answered(asked(kind="evaluate"), asking)
    assert scored.weights == {}
    assert set(scored.figures) == {"patients", "dose_gy", "histogram_gy", "counted_gy"}
    assert [(x.way, x.kind, x.verdict) for x in lines_of(asking.log)] == [
        ("here", "approve", "allowed"),
        ("in", "train", "allowed"),
        ("out", "train", "sent"),
        ("in", "evaluate", "allowed"),
        ("out", "evaluate", "sent"),
    ]


def test_a_node_with_its_state_gone_answers_the_same(asking: NodeFile):
    one, again = answered(asked(), asking), answered(asked(), asking)
    assert all(torch.equal(t, again.weights[k]) for k, t in one.weights.items())
    assert seed_of(STUDY, asking, 1) != seed_of(STUDY, replace(asking, name="south"), 1)


COUNTED = replace(STUDY, statistics=True)


def test_a_node_tells_counts_where_its_file_and_the_study_say_so(node: NodeFile):
    approve(node, COUNTED, "physicist", "looked at it")
    request = replace(asked(COUNTED, STATISTICS), weights={})
    assert refusal(request, node) is Refusal.KIND  # its file does not
    open_node = replace(node, kinds=("train", "evaluate", "statistics"))
    counts = unflat(answered(request, open_node).figures)
    assert counts["patients"] == {"all": 3}
    assert counts["levels of prescription"] == {"0": 0, "1": 3, "2": 0, "3": 0}
    # A ball of 14 mm is 11 cm³. The organ's ball of 10 mm lies in the target, across its edge, and 1 mm away.
    assert counts["volume of PTV70 (cm3)"]["below 25"] == 3
    organ = {cell: n for cell, n in counts["mean dose of LeftParotid (Gy)"].items() if n}
    assert organ.keys() <= {"60 and above", "50 to 60", "40 to 50", "30 to 40"}
    assert (organ["60 and above"], organ["30 to 40"]) == (1, 1)
    assert counts["volume of PTV56 (cm3)"]["none"] == 3
    few = replace(open_node, state=open_node.state / "few", limits=replace(node.limits, patients=5))
    few.state.mkdir()
    (few.state / "ready").symlink_to(node.state / "ready")
    approve(few, COUNTED, "physicist", "looked at it")
    assert set(answered(request, few).figures.values()) == {-1}
    approve(open_node, STUDY, "physicist", "looked at it")
    assert refusal(replace(asked(STUDY, STATISTICS), weights={}), open_node) is Refusal.KIND


def test_a_node_asked_for_counts_again_says_the_same(node: NodeFile):
    few = replace(node, kinds=("statistics",), limits=replace(node.limits, patients=5))
    approve(few, COUNTED, "physicist", "looked at it")
    request = replace(asked(COUNTED, STATISTICS), weights={})
    first = answered(request, few).figures
    assert set(first.values()) == {-1}
    assert answered(request, replace(few, limits=replace(node.limits, patients=1))).figures == first


def test_errors_of_few_patients_stay(asking: NodeFile):
    careful = replace(asking, limits=replace(asking.limits, patients=2))
    assert answered(asked(kind="evaluate"), careful).figures == {"patients": 0}
    told = Answer({}, {"patients": 1, "dose_gy": 1.0, "histogram_gy": 1.0, "counted_gy": 1.0})
    with pytest.raises(RefusedError):
        let_out(told, asked(kind="evaluate"), STUDY, careful, "lead")


SECURE = replace(STUDY, least_sites=3, secure=True, reach=1.0)


def test_nodes_of_a_secure_study_give_nothing_that_is_not_behind_masks(node: NodeFile):
    approve(node, SECURE, "physicist", "looked at it")
    assert refusal(asked(SECURE), node) is Refusal.KIND  # no plain training
    row = first_weights(SECURE)
    sites = {n: replace(node, name=f"site{n}", state=node.state / str(n)) for n in (1, 2, 3)}
    for site in sites.values():
        site.state.mkdir()
        (site.state / "ready").symlink_to(node.state / "ready")
        approve(site, SECURE, "physicist", "looked at it")

    def ask(n: int, kind: str, **words: bytes) -> Answer:
        weights = row if kind == "train.masked" else {}
        return answered(replace(asked(SECURE, kind, **words), weights=weights, node=n), sites[n])

    keys = b"".join(ask(n, "train.keys").words["keys"] for n in sites)
    size = secure.SEALED
    wrote = {n: parts_of(ask(n, "train.shares", keys=keys).words["letters"], size) for n in sites}
    rows = {}
    for n in sites:
        answer = ask(n, "train.masked", letters=joined({m: of[n] for m, of in wrote.items() if m != n}))
        assert set(answer.figures) == {"patients", "samples", "loss_first", "loss_last"}
        rows[n] = answer.weights[PACKED]
    told = {"answered": joined(dict.fromkeys(sites, b"")), "lost": b""}
    shares = {n: parts_of(ask(n, "train.unmask", **told).words["shares"], secure.SHARE) for n in sites}
    masks = {n: key[: secure.KEY] for n, key in parts_of(keys, 2 * secure.KEY).items()}
    of = {n: [held[n] for held in shares.values()] for n in sites}
    mean = secure.mean_of(secure.unmasked(rows, masks, of, of), 6, SECURE.reach)
    # What sites of other names learn in a plain study of the same seed and rounds is the same on average.
    learnt = []
    for site in sites.values():
        task = task_of(SECURE, node.data["dose"], site.state / "ready", site.held_out, lambda _, __: None)
        weights = parted(row, network_of(SECURE).state_dict())
        found = learn(weights, task, SECURE.budget(1), seed_of(SECURE, site, 1))
        learnt.append(packed(found.weights)[PACKED] - row[PACKED])
        assert float((learnt[-1] - mean).abs().max()) > 1e-4  # no site's own
    assert float((torch.stack(learnt).mean(dim=0) - mean).abs().max()) < 1e-5


@pytest.mark.parametrize("words", [{}, {"keys": b"short"}, {"keys": b"", "name": b"x"}, {"letters": b""}])
def test_stages_with_other_words_are_refused(node: NodeFile, words: dict):
    approve(node, SECURE, "physicist", "looked at it")
    request = replace(asked(SECURE, "train.shares", **words), weights={})
    assert refusal(request, node) is Refusal.WORDS


def test_an_update_leaves_in_as_many_bits_as_was_agreed_on(node: NodeFile):
    few = replace(STUDY, bits=8)
    for study in (STUDY, few):
        approve(node, study, "physicist", "looked at it")
    answer = answered(asked(few), node)
    assert {name: t.dtype for name, t in answer.weights.items()} == {
        "levels": torch.uint8,
        "scales": torch.float32,
    }
    sent = first_weights(few)[PACKED]
    assert float((restored(answer.weights, sent, 8) - sent).abs().max()) > 0
    with pytest.raises(RefusedError):
        let_out(replace(answer, weights={PACKED: sent}), asked(few), few, node, "lead")


PRIVATE = replace(STUDY, weighting="equal", privacy="central", clip=0.01, noise=1.0)


def test_an_update_leaves_clipped_where_the_server_adds_the_noise(node: NodeFile):
    approve(node, PRIVATE, "physicist", "looked at it")
    answer = answered(asked(PRIVATE), node)
    change = answer.weights[PACKED] - first_weights(PRIVATE)[PACKED]
    assert float(change.double().norm()) == pytest.approx(0.01, rel=1e-3)
    assert set(answer.figures) == {"patients", "samples"}  # losses tell of patients
    farther = Answer({PACKED: answer.weights[PACKED] + change}, answer.figures)
    with pytest.raises(RefusedError) as found:
        let_out(farther, asked(PRIVATE), PRIVATE, node, "lead")
    assert found.value.code is Refusal.OUTGOING


def test_an_update_leaves_noisy_where_the_site_trusts_nobody(node: NodeFile):
    local = replace(PRIVATE, privacy="local", noise=50.0)
    approve(node, local, "physicist", "looked at it")
    one, two = (answered(asked(local), node).weights[PACKED] for _ in range(2))
    # The same update twice: what differs is noise of 50 times 0.01, drawn anew.
    assert float((one - two).std()) == pytest.approx(0.5 * 2**0.5, rel=0.05)


def test_a_node_refuses_studies_that_spend_more_of_its_privacy_than_its_file_allows(node: NodeFile):
    careful = replace(node, limits=replace(node.limits, epsilon=4.0))
    with pytest.raises(ValueError, match="privacy above epsilon 4"):
        approve(careful, STUDY, "physicist", "why not")
    with pytest.raises(ValueError, match="privacy above epsilon 4"):
        approve(careful, PRIVATE, "physicist", "why not")
    # Two rounds and five repeats: 7 releases, as one with noise smaller by their root.
    quiet = replace(PRIVATE, noise=PRIVATE.noise * 20)
    assert quiet.epsilon(7) < 4.0
    approve(careful, quiet, "physicist", "looked at it")
    strict = replace(node, privacies=("local",))
    with pytest.raises(ValueError, match="only local may be"):
        approve(strict, quiet, "physicist", "why not")
    assert any("by the server, which sees it without" in line for line in inspected(node, quiet))


@pytest.mark.parametrize("kind", ["query", "get_fab", "train.default", "system", "../evaluate", ""])
def test_any_other_kind_of_request_is_refused(asking: NodeFile, kind: str):
    assert refusal(asked(kind=kind), asking) is Refusal.KIND


def test_kinds_that_the_hospital_took_out_are_refused(asking: NodeFile):
    assert refusal(asked(kind="evaluate"), replace(asking, kinds=("train",))) is Refusal.KIND


def test_words_more_less_or_other_than_agreed_on_are_refused(asking: NodeFile):
    assert refusal(asked(path="/etc/passwd"), asking) is Refusal.WORDS
    assert refusal(asked(round="1"), asking) is Refusal.WORDS
    assert refusal(asked(round=True), asking) is Refusal.WORDS
    assert refusal(asked(study=b"{}"), asking) is Refusal.WORDS
    whole = asked()
    assert refusal(replace(whole, others=("metrics",)), asking) is Refusal.WORDS
    fewer = {k: v for k, v in whole.words.items() if k != "signature"}
    assert refusal(replace(whole, words=fewer), asking) is Refusal.WORDS


def test_a_study_that_nobody_trusted_signed_is_refused(asking: NodeFile):
    assert refusal(asked(key=Ed25519PrivateKey.generate()), asking) is Refusal.ASKER
    other = signed(replace(STUDY, steps=2), LEAD)
    assert refusal(asked(signature=other), asking) is Refusal.ASKER
    assert refusal(asked(signature=b""), asking) is Refusal.ASKER


def test_a_signed_study_that_was_not_approved_or_no_more_is_refused(asking: NodeFile):
    assert refusal(asked(replace(STUDY, steps=2)), asking) is Refusal.APPROVAL
    withdraw(asking, STUDY.digest[:8], "physicist")
    assert refusal(asked(), asking) is Refusal.APPROVAL


def test_limits_hold_even_for_what_was_approved_under_others(asking: NodeFile):
    tight = replace(asking, limits=replace(asking.limits, rounds=1))
    assert refusal(asked(), tight) is Refusal.LIMITS
    with pytest.raises(ValueError, match="rounds above 1"):
        approve(tight, STUDY, "physicist", "looked at it")
    small = replace(asking, limits=replace(asking.limits, weights_mb=0.001))
    assert refusal(asked(), small) is Refusal.LIMITS
    assert refusal(asked(), replace(asking, data={})) is Refusal.LIMITS


def test_a_study_of_another_version_is_refused(asking: NodeFile):
    other = replace(STUDY, version="0.0.0")
    approve(asking, other, "physicist", "looked at it")
    assert refusal(asked(other), asking) is Refusal.VERSION


def test_rounds_beyond_the_study_or_asked_too_often_are_refused(asking: NodeFile):
    assert refusal(asked(number=0), asking) is Refusal.ROUND
    assert refusal(asked(number=3), asking) is Refusal.ROUND
    few = replace(asking, limits=replace(asking.limits, repeats=0))
    for number in (1, 2):
        answered(asked(number=number), few)
    assert refusal(asked(number=2), few) is Refusal.ROUND


def test_weights_of_another_network_or_not_finite_are_refused(asking: NodeFile):
    whole = asked()
    name = next(iter(whole.weights))
    for bad in (
        {k: t for k, t in whole.weights.items() if k != name},
        {**whole.weights, "pixels": torch.zeros(3)},
        {**whole.weights, name: whole.weights[name][None]},
        {**whole.weights, name: whole.weights[name].double()},
        {**whole.weights, name: whole.weights[name] * torch.nan},
    ):
        assert refusal(replace(whole, weights=bad), asking) is Refusal.WEIGHTS


def test_what_fails_tells_nothing_of_why(asking: NodeFile, hospital: Path, tmp_path: Path):
    empty = tmp_path / "Doe^Jane"
    empty.mkdir()
    elsewhere = replace(asking, data={"dose": (empty,)})
    assert refusal(asked(), elsewhere) is Refusal.FAILED
    full = replace(asking, limits=replace(asking.limits, disk_gb=1e9))
    assert refusal(asked(), full) is Refusal.FAILED
    assert lines_of(asking.log)[-1].verdict.startswith(
        "the node could not do what was asked: expected free space"
    )


@pytest.mark.parametrize(
    "more", [{"name": 1.0}, {"loss_last": float("nan")}, {"patients": 1.5}, {"patients": -1}]
)
def test_an_answer_with_more_than_was_agreed_on_stays(asking: NodeFile, more: dict[str, float | int]):
    figures = {"patients": 2, "samples": 1, "loss_first": 1.0, "loss_last": 1.0} | more
    for bad in (
        Answer(first_weights(STUDY), figures),
        Answer(first_weights(STUDY) | {"pixels": torch.zeros(2)}, dict.fromkeys(figures, 1)),
    ):
        with pytest.raises(RefusedError):
            let_out(bad, asked(), STUDY, asking, "lead")


def test_norms_that_stay_local_do_not_travel_and_are_kept(asking: NodeFile):
    model = {"shape": [64, 64, 64], "net": MODEL["net"] | {"norm": "instance"}}
    study = replace(STUDY, model=model, norms="local")
    whole = network_of(study).state_dict()
    leaving = travelling(study)
    assert leaving.keys() < whole.keys()
    assert all("norm" in name or whole[name].ndim == 1 for name in whole.keys() - leaving.keys())
    approve(asking, study, "physicist", "looked at it")
    assert answered(asked(study), asking).weights[PACKED].numel() == sum(t.numel() for t in leaving.values())
    kept = list((asking.state / "norms").iterdir())
    assert [p.stem for p in kept] == [study.digest[:24]]


def test_a_changed_or_missing_line_of_the_log_shows(asking: NodeFile):
    answered(asked(), asking)
    lines = asking.log.read_text(encoding="utf-8").splitlines()
    for bad in (lines[:1] + lines[2:], [lines[0].replace("physicist", "nobody"), *lines[1:]]):
        asking.log.write_text("\n".join(bad) + "\n", encoding="utf-8")
        with pytest.raises(ValueError, match="expected an audit log that nobody changed"):
            lines_of(asking.log)


def test_whoever_approves_sees_what_leaves(node: NodeFile):
    lines = inspected(node, STUDY)
    size = sum(t.numel() * 4 for t in network_of(STUDY).state_dict().values()) / 1e6
    assert any(f"{size:.1f} MB of weights" in line for line in lines)
    assert lines[-1] == "Approved: no"


def test_a_study_is_the_same_after_its_json_and_its_toml(tmp_path: Path):
    assert study_of(STUDY.as_json()) == STUDY
    text = 'name = "small"\ntask = "dose"\nrounds = 2\nsteps = 1\nwarmup = 0\n[model]\nshape = [32, 32, 32]\n'
    text += "[model.net]\nfeatures = [4, 4, 4, 4, 4, 4]\nstages = 1\n"
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    assert read_study(tmp_path / "study.toml").digest == STUDY.digest
    with pytest.raises(ValueError, match="in the form that"):
        study_of(json.dumps(json.loads(STUDY.as_json()), indent=1))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"strategy": "magic"}, "expected strategy"),
        ({"rounds": 0}, "of 1 or more"),
        ({"rounds": "2"}, "another kind of value for rounds"),
        ({"rounds": True}, "another kind of value for rounds"),
        ({"pickle": "x"}, "got other words"),
        ({"strategy": "fedprox"}, "a proximal weight with fedprox"),
        ({"aggregation": "krum", "most_bad": 1, "least_sites": 4}, "5 sites or more"),
        ({"aggregation": "median", "strategy": "fedadam"}, "fedadam with the mean"),
        ({"name": "../x"}, "a study's name"),
    ],
)
def test_studies_that_cannot_be_are_refused(words: dict[str, object], why: str):
    with pytest.raises(ValueError, match=why):
        made({"name": "small", "task": "dose", "model": MODEL, "rounds": 2, "steps": 1} | words)


@pytest.mark.parametrize(
    "model", [{"site": "../site.toml"}, {"shape": [4, 4, 4]}, {"net": {"inputs": 3}}, {"start": "weights"}]
)
def test_models_that_lead_elsewhere_are_refused(model: dict[str, object]):
    with pytest.raises(ValueError, match="expected"):
        network_of(replace(STUDY, model=model))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name = 3", "a node's name"),
        ('name = "n"\nremote = 1', "got remote"),
        ('name = "n"\n[askers]\na = "lead.pem"', "folders by task"),
        ('name = "n"\n[data]\ndose = ["none"]\n[askers]\na = "lead.pem"', "folders that are there"),
        ('name = "n"\n[data]\ndose = ["."]', "who may ask"),
        ('name = "n"\n[data]\ndose = ["."]\n[limits]\nsteps = -1\n[askers]\na = "lead.pem"', "0 or more"),
        ('name = "n"\n[data]\ndose = ["."]\n[allow]\nkinds = ["shell"]\n[askers]\na = "lead.pem"', "kinds"),
        ("name = ", "a node's TOML file"),
    ],
)
def test_node_files_that_are_not_whole_are_refused(tmp_path: Path, text: str, why: str):
    (tmp_path / "lead.pem").write_bytes(PUBLIC)
    (tmp_path / "node.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=why):
        read_node(tmp_path / "node.toml")
