"""The states of models, their history, and many processes at once."""

import json
import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from models.catalogue import Catalogue, State

CARD = {"files": {"a.safetensors": "0" * 64}}
BY = ("Marie", "because")


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "models" / "catalogue.sqlite")


def approved(catalogue: Catalogue, name: str = "oar", revision: str = "1" * 40) -> None:
    catalogue.add(name, revision, CARD, *BY)
    catalogue.configure(name, revision, {"site": "head"}, *BY)
    catalogue.approve(name, revision, *BY)


def test_a_model_walks_four_states_and_each_step_is_told(catalogue: Catalogue) -> None:
    assert catalogue.models() == []
    assert catalogue.history() == []
    approved(catalogue)
    assert catalogue.approved("oar").config == {"site": "head"}
    catalogue.retire("oar", "1111", "Pierre", "a better one is there")
    assert catalogue.model("oar").state is State.RETIRED
    told = catalogue.history("oar")
    assert [line.what for line in told] == ["import", "configure", "approve", "retire"]
    assert (told[-1].who, told[-1].why) == ("Pierre", "a better one is there")
    assert [line.previous for line in told[1:]] == [line.hash for line in told[:-1]]
    with pytest.raises(ValueError, match="expected an approved model oar"):
        catalogue.approved("oar")


def test_there_is_no_other_way(catalogue: Catalogue) -> None:
    catalogue.add("oar", "1" * 40, CARD, *BY)
    with pytest.raises(
        ValueError, match="expected a model that is configured to approve, got oar 111111111111"
    ):
        catalogue.approve("oar", "", *BY)
    with pytest.raises(ValueError, match="approved to retire"):
        catalogue.retire("oar", "", *BY)
    catalogue.configure("oar", "", {}, *BY)
    with pytest.raises(ValueError, match="imported to configure"):
        catalogue.configure("oar", "", {}, *BY)
    catalogue.approve("oar", "", *BY)
    catalogue.retire("oar", "", *BY)
    for step in (catalogue.approve, catalogue.retire):
        with pytest.raises(ValueError, match="which is retired"):
            step("oar", "", *BY)
    with pytest.raises(ValueError, match="which is there already"):
        catalogue.add("oar", "1" * 40, CARD, *BY)
    assert len(catalogue.history()) == 4


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE models SET state = 'approved'",
        "UPDATE models SET card = '{}'",
        "UPDATE models SET config = '{}'",
        "DELETE FROM models",
        "DELETE FROM history",
        "UPDATE history SET who = 'nobody'",
        "INSERT INTO models (name, revision, state, card) VALUES ('x', '2', 'approved', '{}')",
    ],
)
def test_the_file_itself_refuses_what_no_command_may_do(catalogue: Catalogue, statement: str) -> None:
    catalogue.add("oar", "1" * 40, CARD, *BY)
    with sqlite3.connect(catalogue.path) as db, pytest.raises(sqlite3.DatabaseError):
        db.execute(statement)
    assert catalogue.model("oar").state is State.IMPORTED


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE history SET why = 'another reason' WHERE id = 2",
        "DELETE FROM history WHERE id = 2",
        "DELETE FROM history WHERE id = 3",  # the last line: the state then says more than history
        "UPDATE models SET state = 'imported'",
        """UPDATE models SET config = '{"site": "lung"}'""",
        """UPDATE models SET card = '{"files": {}}'""",
    ],
)
def test_what_was_changed_behind_its_back_shows(catalogue: Catalogue, harm: str) -> None:
    approved(catalogue)
    assert len(catalogue.history()) == 3
    with sqlite3.connect(catalogue.path) as db:
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute(harm)
    with pytest.raises(ValueError, match="not to be trusted"):
        catalogue.history()


def test_two_revisions_are_never_approved_at_once(catalogue: Catalogue) -> None:
    approved(catalogue)
    catalogue.add("oar", "2" * 40, CARD, *BY)
    catalogue.configure("oar", "2", {}, *BY)
    with pytest.raises(ValueError, match="retire 111111111111 first"):
        catalogue.approve("oar", "2", *BY)
    assert catalogue.model("oar").revision == "1" * 40  # the approved one is what a name means
    catalogue.retire("oar", "1", *BY)
    catalogue.approve("oar", "2", *BY)
    assert catalogue.approved("oar").revision == "2" * 40
    with pytest.raises(ValueError, match="which fits 2"):
        catalogue.add("oar", "22" + "3" * 38, CARD, *BY) and catalogue.model("oar", "2")


def test_nobody_no_reason_and_no_name_are_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    for who, why in (("", "because"), ("Marie", " ")):
        with pytest.raises(ValueError, match="who does it and why"):
            catalogue.add("oar", "1" * 40, CARD, who, why)
    for name in ("", "Oar", "../oar", "a b", "x" * 65):
        with pytest.raises(ValueError, match="expected a name of small letters"):
            catalogue.add(name, "1" * 40, CARD, *BY)
    assert catalogue.models() == []
    with pytest.raises(ValueError, match="import it first"):
        catalogue.model("oar")
    (tmp_path / "other").write_text("no database, but long enough to be none")
    with pytest.raises(ValueError, match="expected a catalogue of models"):
        Catalogue(tmp_path / "other").models()


def _work(path: Path, n: int, results: "multiprocessing.Queue[str]") -> None:
    catalogue = Catalogue(path)
    catalogue.add(f"own-{n}", "3" * 40, CARD, f"process {n}", "its own")
    try:
        catalogue.approve("shared", "", f"process {n}", "first come")
        results.put("approved")
    except ValueError as error:
        results.put(str(error))


def test_many_processes_share_one_catalogue_and_one_of_them_approves(catalogue: Catalogue) -> None:
    catalogue.add("shared", "1" * 40, CARD, *BY)
    catalogue.configure("shared", "", {}, *BY)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_work, args=(catalogue.path, n, results)) for n in range(8)]
    for worker in workers:
        worker.start()
    told = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert told.count("approved") == 1
    assert all("which is approved" in said for said in told if said != "approved")
    assert {m.name for m in catalogue.models()} == {"shared", *(f"own-{n}" for n in range(8))}
    assert len(catalogue.history()) == 2 + 8 + 1
    assert json.dumps(catalogue.approved("shared").card) == json.dumps(CARD)
