"""What is to be done, in one SQLite file that survives a kill at any moment.

A study arrives, is ready once nothing of it has come for a while, runs, and is done; what fails is tried
again, later each time, and at last set aside with its reason. Whoever asks for work takes a study in one
transaction. A study that was running when the process died is ready again.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .vault import Instance

_BUSY = 60.0  # seconds to wait for another writer
_TABLES = """
CREATE TABLE IF NOT EXISTS study (
  name TEXT PRIMARY KEY, state TEXT NOT NULL, came REAL NOT NULL, due REAL NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS instance (
  path TEXT PRIMARY KEY, name TEXT NOT NULL, series TEXT NOT NULL, study TEXT NOT NULL REFERENCES study,
  sha256 TEXT NOT NULL, came REAL NOT NULL);
CREATE INDEX IF NOT EXISTS instance_study ON instance (study)
"""


class State(StrEnum):
    """Where a study stands."""

    ARRIVING = "arriving"
    RUNNING = "running"
    WAITING = "waiting"  # to be tried again
    DONE = "done"
    ASIDE = "set aside"


@dataclass(frozen=True)
class Job:
    """A study in the queue.

    Parameters
    ----------
    study
        Its name in the vault.
    state
        Where it stands.
    instances
        How many it has.
    attempts
        How often it was begun.
    reason
        Why it waits or was set aside.
    """

    study: str
    state: State
    instances: int
    attempts: int
    reason: str


class Queue:
    """The queue of a node; any number of threads and processes may share it.

    Parameters
    ----------
    path
        The SQLite file.
    quiet
        Seconds without a new instance after which a study is complete.
    attempts
        After which a study that fails is set aside.
    pause
        Seconds before the second attempt; doubled before each further one.
    clock
        Seconds since 1970.
    """

    def __init__(
        self,
        path: Path,
        quiet: float = 30.0,
        attempts: int = 5,
        pause: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._quiet, self._attempts, self._pause = path, quiet, attempts, pause
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as base:
            for table in _TABLES.split(";"):
                base.execute(table)

    def came(self, one: Instance) -> None:
        """Notes an instance, on disk before this returns; one that was noted before changes nothing.

        A study to which something new comes is complete only after another quiet time, whatever became of
        it before.
        """
        now = self._clock()
        with self._open() as base:
            base.execute(
                "INSERT INTO study (name, state, came, due) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (one.study, State.ARRIVING, now, now + self._quiet),
            )
            added = base.execute(
                "INSERT INTO instance VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (str(one.path), one.name, one.series, one.study, one.sha256, now),
            )
            if added.rowcount:
                base.execute(
                    "UPDATE study SET state = ?, due = ?, attempts = 0, reason = '' WHERE name = ?",
                    (State.ARRIVING, now + self._quiet, one.study),
                )

    def recover(self) -> int:
        """Makes ready again what ran when an earlier process died; how many there were.

        At once where it was begun for the first time, for it may have had no part in that.
        """
        with self._open() as base:
            found = base.execute("SELECT name FROM study WHERE state = ?", (State.RUNNING,)).fetchall()
            for (name,) in found:
                self._fail(base, name, "the node ended while it ran", waits=0.5)
        return len(found)

    def take(self) -> Job | None:
        """The study that has been due for longest, which now runs; None where nothing is due."""
        with self._open() as base:
            found = base.execute(
                "SELECT name FROM study WHERE state IN (?, ?) AND due <= ? ORDER BY due LIMIT 1",
                (State.ARRIVING, State.WAITING, self._clock()),
            ).fetchone()
            if found is None:
                return None
            base.execute(
                "UPDATE study SET state = ?, attempts = attempts + 1, reason = '' WHERE name = ?",
                (State.RUNNING, found[0]),
            )
            return _jobs(base, found[0])[0]

    def done(self, study: str) -> None:
        """Ends a study that ran well, unless something new of it has come meanwhile."""
        with self._open() as base:
            base.execute(
                "UPDATE study SET state = ?, reason = '' WHERE name = ? AND state = ?",
                (State.DONE, study, State.RUNNING),
            )

    def failed(self, study: str, reason: str, *, final: bool = False) -> None:
        """Ends an attempt that failed: another one later, or none where it is final or was the last."""
        with self._open() as base:
            self._fail(base, study, reason, final=final)

    def again(self, study: str) -> None:
        """Makes a study ready at once, as somebody asked.

        Raises
        ------
        ValueError
            If there is none, or it is running.
        """
        with self._open() as base:
            changed = base.execute(
                "UPDATE study SET state = ?, due = ?, attempts = 0, reason = '' "
                "WHERE name = ? AND state != ?",
                (State.WAITING, self._clock(), study, State.RUNNING),
            )
            if changed.rowcount != 1:
                raise ValueError("expected a study of the queue that is not running, got none")

    def jobs(self) -> list[Job]:
        """All studies, the first that came first."""
        with self._open() as base:
            return _jobs(base)

    def _fail(
        self, base: sqlite3.Connection, study: str, reason: str, *, final: bool = False, waits: float = 1.0
    ) -> None:
        (n,) = base.execute("SELECT attempts FROM study WHERE name = ?", (study,)).fetchone()
        last = final or n >= self._attempts
        base.execute(
            "UPDATE study SET state = ?, due = ?, reason = ? WHERE name = ? AND state = ?",
            (
                State.ASIDE if last else State.WAITING,
                self._clock() + self._pause * int(waits * 2 ** max(n - 1, 0)),
                reason,
                study,
                State.RUNNING,
            ),
        )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is on disk afterwards, or none."""
        base = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None)
        try:
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("PRAGMA synchronous = FULL")
            base.execute("BEGIN IMMEDIATE")
            try:
                yield base
            except BaseException:
                base.execute("ROLLBACK")
                raise
            base.execute("COMMIT")
        finally:
            base.close()


def _jobs(base: sqlite3.Connection, study: str = "%") -> list[Job]:
    rows = base.execute(
        "SELECT s.name, s.state, (SELECT COUNT(*) FROM instance i WHERE i.study = s.name), s.attempts, "
        "s.reason FROM study s WHERE s.name LIKE ? ORDER BY s.came",
        (study,),
    )
    return [Job(name, State(state), n, attempts, reason) for name, state, n, attempts, reason in rows]
