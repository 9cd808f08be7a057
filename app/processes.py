"""Processes beside this one: they end when it does, and somebody waits until they listen."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_GRACE = 10.0  # seconds for a process to end


def bound(command: list[str]) -> list[str]:
    """A command whose process is ended when the one that starts it dies, even by SIGKILL (prctl(2)).

    Where util-linux is not there, it is the command itself.
    """
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "TERM", "--", *command] if found else command


@contextmanager
def running(command: list[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output goes to a log, ended at the latest when this is left."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(bound(command), env=dict(env), stdout=file, stderr=file)  # noqa: S603
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(address: str, process: subprocess.Popen[bytes] | None = None, seconds: float = 60.0) -> None:
    """Waits until something listens, as long as a process lives that shall.

    Raises
    ------
    ValueError
        If the process ends first, or nothing listens in time.
    """
    host, _, port = address.rpartition(":")
    until = time.monotonic() + seconds
    while time.monotonic() < until and (process is None or process.poll() is None):
        try:
            with socket.create_connection((host, int(port)), timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise ValueError(f"expected a process to listen on port {port}, got none; its log tells why")
