"""Processes of this machine and of Ray clusters: how many make sense, what they begin and end with.

Imports nothing that is slow, for every new process imports it.
"""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

_GIB_EACH = 3.0
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def sensible_workers(n: int, gib_each: float = _GIB_EACH) -> int:
    """As many processes as there are cores, cases, and pieces of so much free memory (GiB); at least one."""
    room = int(_free_gib() / gib_each)
    return max(min(cores(), n, room), 1)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray itself, while it is connected to a cluster.

    Raises
    ------
    ValueError
        If it is missing, or nobody answers at the address.
    """
    ray = _ray()
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError):
        raise ValueError(
            f"expected a Ray cluster at {address}, got no answer; start one with `ray start --head`"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def end_with_parent() -> None:
    """Ends this process when the one that began it does; to be run in a thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        # Nobody waits for this process any more; a later run cleans up what it began.
        os._exit(1)


@contextmanager
def with_threads(threads: int) -> Iterator[None]:
    """Threads of the processes begun inside: numerical libraries read them when they are imported."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def cores() -> int:
    """Cores that this process may use."""
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _free_gib() -> float:
    """Memory that is free for new processes; plenty where the system does not say."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 2**20
    return 1024.0


def _ray() -> Any:
    try:
        import ray  # noqa: PLC0415
    except ImportError:
        raise ValueError(
            "expected Ray for --cluster, got an installation without it; pip install 'spindose[cluster]'"
        ) from None
    return ray
