"""A site's log of every message: when, which way, how large, its hash, and what was done with it.

Each line of JSON holds the hash of the line before, so that one which was changed or taken out shows. What is
logged of a message is its size and its hash, never what is in it.
"""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

_START = "0" * 64  # what the first line follows

_TAIL = 65536  # bytes, many times a line


@dataclass(frozen=True)
class Line:
    """One line; ``hash`` covers all of it but itself.

    Parameters
    ----------
    at
        When, UTC.
    way
        ``in`` or ``out``, or ``here`` for what an administrator did.
    kind
        What was asked.
    study
        The study's SHA-256; empty where none could be read.
    number
        Of the round.
    size, sha256
        Of the message's bytes.
    verdict
        ``allowed``, ``sent``, or why it was refused.
    who
        Whose key signed it, or who did it.
    previous, hash
        The chain.
    """

    at: str
    way: str
    kind: str
    study: str
    number: int
    size: int
    sha256: str
    verdict: str
    who: str
    previous: str
    hash: str = ""


def note(
    log: Path,
    way: str,
    kind: str,
    verdict: str,
    *,
    study: str = "",
    number: int = 0,
    size: int = 0,
    sha256: str = "",
    who: str = "",
) -> Line:
    """Adds a line to a log, on disk before this returns; the words are those of :class:`Line`.

    Raises
    ------
    OSError
        If it cannot be written whole, as on a full disk; the log is as before.
    """
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # an administrator's process may write too
        line = Line(at, way, kind, study, number, size, sha256, verdict, who, _last(file))
        told = asdict(line) | {"hash": _hash(asdict(line))}
        whole = file.seek(0, os.SEEK_END)
        text = (json.dumps(told) + "\n").encode()
        try:
            _write(file, text)
        except OSError:
            file.truncate(whole)
            raise
    return Line(**told)


def lines_of(log: Path) -> list[Line]:
    """All lines, the first first, once the chain is seen to hold; one that was never finished is none.

    Raises
    ------
    ValueError
        If a line was changed, or one is missing.
    """
    if not log.is_file():
        return []
    out: list[Line] = []
    before = _START
    for text in log.read_bytes().decode(errors="replace").split("\n")[:-1]:
        try:
            line = Line(**json.loads(text))
        except (json.JSONDecodeError, TypeError):
            line = None
        if line is None or line.previous != before or _hash(asdict(line)) != line.hash:
            raise ValueError(
                f"expected an audit log that nobody changed, got one that breaks at line {len(out) + 1}; "
                "find out who did, and begin another"
            )
        before = line.hash
        out.append(line)
    return out


def _write(file: FileIO, text: bytes) -> None:
    if file.write(text) != len(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(file.fileno())


def _last(file: FileIO) -> str:
    """Hash of the last line; one after it that was cut off as it was written is taken away."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _TAIL, 0))
    *lines, torn = file.read().split(b"\n")
    file.truncate(size - len(torn))
    return str(json.loads(lines[-1])["hash"]) if lines else _START


def _hash(told: Mapping[str, Any]) -> str:
    words = {key: value for key, value in told.items() if key != "hash"}
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()
