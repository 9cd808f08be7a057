"""A node from its start to its end, and whether all that it needs is there."""

import fcntl
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from imaging.atomic import whole_file

from .queue import Queue
from .reception import LOG, context_of, listening
from .sending import reached
from .settings import NodeSettings
from .vault import Vault
from .work import work

_WORDS = ("address", "why", "study", "new", "attempt", "port", "studies")


class _Lines(logging.Formatter):
    """One line of JSON for each event; words that are none of a patient."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {word: getattr(record, word) for word in _WORDS if hasattr(record, word)}
        return json.dumps({"at": at, "level": record.levelname, "event": record.getMessage(), **told})


def parts_of(node: NodeSettings) -> tuple[Vault, Queue]:
    """A node's vault and queue."""
    vault = Vault(node.folder / "instances")
    return vault, Queue(node.folder / "queue.sqlite", node.quiet, node.attempts)


def serve(node: NodeSettings, goes_on: Callable[[], bool]) -> None:
    """Takes what comes and works on it; at its end the study in hand is finished first.

    Parameters
    ----------
    node
        The hospital's settings.
    goes_on
        Asked between studies.

    Raises
    ------
    OSError
        If another process has the port.
    ValueError
        If another node serves the folder.
    """
    _log()
    vault, queue = parts_of(node)
    with _alone(node.folder / "lock"):
        vault.sweep()
        again = queue.recover()
        with listening(node, vault, queue) as port:
            LOG.info("listening", extra={"port": port, "studies": again})
            work(node, vault, queue, goes_on)
    LOG.info("ended")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else serves the folder meanwhile; the lock goes with the process, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                "expected a folder of its own for the node, got one that another node serves; end that one"
            ) from None
        yield


def _log() -> None:
    """Events as lines of JSON on the standard error; those of libraries, which tell values, nowhere."""
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(_Lines())
    LOG.handlers, LOG.propagate = [lines], False
    LOG.setLevel(logging.INFO)
    for name in ("pydicom", "pynetdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def wrongs(node: NodeSettings) -> Iterator[tuple[str, str]]:
    """What was looked at, and what is wrong with it; an empty word where nothing is."""
    try:
        vault, queue = parts_of(node)
        with whole_file(node.folder / "doctor") as part:
            part.touch()
        (node.folder / "doctor").unlink()
        yield "folder", ""
    except OSError as error:
        yield "folder", f"it cannot be written: {error.strerror}"
        return
    free = vault.free() / 1e9
    yield "disk", "" if free >= node.least_free_gb else f"{free:.1f} GB are free, of {node.least_free_gb:g}"
    if node.tls:
        try:
            context_of(node.tls)
            yield "tls", ""
        except OSError as error:  # SSLError is one
            yield (
                "tls",
                f"certificate, key or authority cannot be used: {error.strerror or type(error).__name__}",
            )
    for one in node.destinations:
        yield f"destination {one.name}", "" if reached(one, node.title) else "it does not answer a C-ECHO"
    if not node.rules:
        yield "rules", "there are none: what comes is kept and nothing is done"
    aside = [job for job in queue.jobs() if job.state == "set aside"]
    yield "queue", f"{len(aside)} studies are set aside: see node jobs" if aside else ""
