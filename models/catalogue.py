"""The catalogue of models that a clinic manages: one SQLite file, four states, a history nobody can change.

A model is imported, configured, approved and retired, in this order and no other: triggers in the file hold
it (``states.sql``), whoever writes. Every change leaves a line of history that holds the hash of the line
before, so that a line that was changed or taken out behind the catalogue's back shows. Transactions begin by
taking the write lock, so that several processes may use one catalogue.
"""

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PATIENCE_MS = 30_000  # that a process waits for another one's transaction
_START = "0" * 64  # what the first line of history follows


class State(StrEnum):
    """Where a model stands."""

    IMPORTED = "imported"
    CONFIGURED = "configured"
    APPROVED = "approved"
    RETIRED = "retired"


_STEP = {
    "configure": (State.IMPORTED, State.CONFIGURED),
    "approve": (State.CONFIGURED, State.APPROVED),
    "retire": (State.APPROVED, State.RETIRED),
}


@dataclass(frozen=True)
class Model:
    """One revision of a model.

    Parameters
    ----------
    name, revision
        Which; the revision follows from the hashes of its files.
    state
        Where it stands.
    card
        What it is: ``files`` maps names to SHA-256.
    config
        How this clinic uses it.
    """

    name: str
    revision: str
    state: State
    card: Mapping[str, Any]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """One line of history: who did what to which model, when and why; ``hash`` covers all of it."""

    model: str
    revision: str
    at: str
    who: str
    what: str
    why: str
    detail: Mapping[str, Any]
    previous: str
    hash: str


class Catalogue:
    """A catalogue on disk, made when it is first written to.

    Parameters
    ----------
    path
        The SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def models(self, name: str = "") -> list[Model]:
        """All revisions of all models, or of one, in the order of their import."""
        if not self.path.is_file():
            return []
        with self._reading() as db:
            where = ("WHERE name = ?", (name,)) if name else ("", ())
            rows = db.execute(
                f"SELECT name, revision, state, card, config FROM models {where[0]} ORDER BY id",  # noqa: S608
                where[1],
            ).fetchall()
        return [Model(n, r, State(s), json.loads(card), json.loads(config)) for n, r, s, card, config in rows]

    def model(self, name: str, revision: str = "") -> Model:
        """One model; without a revision its approved one, or else the last that is not retired.

        Parameters
        ----------
        name
            Its name.
        revision
            The first characters of its revision.

        Raises
        ------
        ValueError
            If there is none, or the characters fit several.
        """
        found = [m for m in self.models(name) if m.revision.startswith(revision)]
        if not found:
            known = ", ".join(sorted({m.name for m in self.models()})) or "none"
            raise ValueError(f"expected a model of the catalogue ({known}), got {name!r}; import it first")
        if revision and len(found) > 1:
            raise ValueError(
                f"expected one revision, got {revision!r}, which fits {len(found)}; say more of it"
            )
        there = [m for m in found if m.state is State.APPROVED] or found
        return next((m for m in reversed(there) if m.state is not State.RETIRED), there[-1])

    def approved(self, name: str) -> Model:
        """The approved revision of a model.

        Raises
        ------
        ValueError
            If none is approved.
        """
        for model in self.models(name):
            if model.state is State.APPROVED:
                return model
        raise ValueError(
            f"expected an approved model {name}, got none in the catalogue; approve one with "
            "`spindose models approve`, or see --allow-unapproved"
        )

    def add(self, name: str, revision: str, card: Mapping[str, Any], who: str, why: str) -> Model:
        """A new model or revision, as imported.

        Raises
        ------
        ValueError
            If the name cannot be one, the revision is there already, or nobody or no reason is named.
        """
        if not NAME.fullmatch(name):
            raise ValueError(
                "expected a name of small letters, digits, dots, dashes and underscores, 64 at the most, "
                f"got {name!r}"
            )
        with self._writing() as db:
            if db.execute(
                "SELECT 1 FROM models WHERE name = ? AND revision = ?", (name, revision)
            ).fetchone():
                raise ValueError(
                    f"expected a new revision of {name}, got {revision[:12]}, which is there already"
                )
            text = json.dumps(card, sort_keys=True)
            row = db.execute(
                "INSERT INTO models (name, revision, state, card) VALUES (?, ?, ?, ?)",
                (name, revision, State.IMPORTED.value, text),
            ).lastrowid
            detail = {"card": hashlib.sha256(text.encode()).hexdigest(), "files": card.get("files", {})}
            _note(db, int(row or 0), (name, revision), who, "import", why, detail)
        return self.model(name, revision)

    def configure(self, name: str, revision: str, config: Mapping[str, Any], who: str, why: str) -> Model:
        """How this clinic uses an imported model. Raises a ValueError in any other state."""
        return self._step("configure", name, revision, who, why, config)

    def approve(self, name: str, revision: str, who: str, why: str) -> Model:
        """Lets a configured model run on patients' plans.

        Raises
        ------
        ValueError
            In any other state, or while another revision is approved.
        """
        return self._step("approve", name, revision, who, why)

    def retire(self, name: str, revision: str, who: str, why: str) -> Model:
        """Takes an approved model out of use, for good. Raises a ValueError in any other state."""
        return self._step("retire", name, revision, who, why)

    def history(self, name: str = "") -> list[Line]:
        """What was done, the first first, once the whole chain of hashes is seen to hold.

        Raises
        ------
        ValueError
            If a line was changed, or one is missing.
        """
        if not self.path.is_file():
            return []
        with self._reading() as db:
            rows = db.execute(
                "SELECT m.name, m.revision, h.at, h.who, h.what, h.why, h.detail, h.previous, h.hash, "
                "m.card, m.config FROM history h JOIN models m ON m.id = h.model ORDER BY h.id"
            ).fetchall()
            states = {(n, r): s for n, r, s in db.execute("SELECT name, revision, state FROM models")}
        lines: list[Line] = []
        before, told = _START, {}
        for row in rows:
            model, revision, at, who, what, why, detail, previous, stored, card, config = row
            line = Line(model, revision, at, who, what, why, json.loads(detail), previous, stored)
            if line.previous != before or _hash(line) != line.hash or not _says_so(line, card, config):
                raise ValueError(
                    f"expected a history that nobody changed, got one that breaks at line {len(lines) + 1}; "
                    "the catalogue is not to be trusted, restore a backup"
                )
            before = line.hash
            told[line.model, line.revision] = (
                "imported" if line.what == "import" else _STEP[line.what][1].value
            )
            lines.append(line)
        if told != states:
            raise ValueError(
                "expected states that follow from the history, got others; the catalogue is not to be "
                "trusted, restore a backup"
            )
        return [line for line in lines if not name or line.model == name]

    def _step(
        self,
        what: str,
        name: str,
        revision: str,
        who: str,
        why: str,
        config: Mapping[str, Any] | None = None,
    ) -> Model:
        needed, then = _STEP[what]
        model = self.model(name, revision)
        with self._writing() as db:
            key = (name, model.revision)
            row, state = db.execute(
                "SELECT id, state FROM models WHERE name = ? AND revision = ?", key
            ).fetchone()
            if state != needed:
                raise ValueError(
                    f"expected a model that is {needed} to {what}, got {name} {model.revision[:12]}, which "
                    f"is {state}; the way is {', '.join(State)}"
                )
            if then is State.APPROVED:
                _expect_no_other(db, name)
            if config is None:
                db.execute("UPDATE models SET state = ? WHERE id = ?", (then.value, row))
            else:
                text = json.dumps(config, sort_keys=True)
                db.execute("UPDATE models SET state = ?, config = ? WHERE id = ?", (then.value, text, row))
            _note(db, row, key, who, what, why, dict(config or {}))
        return self.model(*key)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connected()) as db:
            yield db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that has the write lock from its start, kept whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connected()) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(resources.files("models").joinpath("states.sql").read_text("utf-8"))
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                db.execute("ROLLBACK")
                raise

    def _connected(self) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(self.path, isolation_level=None, timeout=_PATIENCE_MS / 1000)
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError:
            raise ValueError(
                f"expected a catalogue of models at {self.path.name}, got another file"
            ) from None
        return db


def _says_so(line: Line, card: str, config: str) -> bool:
    """Whether what is kept of a model is what its history says."""
    if line.what == "import":
        return bool(line.detail["card"] == hashlib.sha256(card.encode()).hexdigest())
    return line.what != "configure" or line.detail == json.loads(config)


def _expect_no_other(db: sqlite3.Connection, name: str) -> None:
    other = db.execute(
        "SELECT revision FROM models WHERE name = ? AND state = ?", (name, State.APPROVED.value)
    ).fetchone()
    if other:
        raise ValueError(
            f"expected one approved revision of {name}, got a second; retire {other[0][:12]} first"
        )


def _note(
    db: sqlite3.Connection,
    row: int,
    model: tuple[str, str],
    who: str,
    what: str,
    why: str,
    detail: Mapping[str, Any],
) -> None:
    if not who.strip() or not why.strip():
        raise ValueError("expected who does it and why, got nothing for one of them; say --by and --why")
    last = db.execute("SELECT hash FROM history ORDER BY id DESC LIMIT 1").fetchone()
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = Line(*model, at, who.strip(), what, why.strip(), detail, last[0] if last else _START, "")
    db.execute(
        "INSERT INTO history (model, at, who, what, why, detail, previous, hash) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (row, at, line.who, what, line.why, json.dumps(detail, sort_keys=True), line.previous, _hash(line)),
    )


def _hash(line: Line) -> str:
    """SHA-256 of all of a line but itself."""
    told = [line.model, line.revision, line.at, line.who, line.what, line.why, line.detail, line.previous]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
