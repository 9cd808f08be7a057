"""Tasks spread over processes, of this machine or of a Ray cluster: one that dies takes no other with it."""

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from .workers import connected, cores, end_with_parent, with_threads

TRIES = 2  # of a task whose process dies
_AHEAD = 2  # tasks handed to a cluster for each of its cores
Do = Callable[[int], Any]

_given: dict[str, Do] = {}  # to this process, if it is one that does tasks


class Died:
    """What there is of a task whose process died."""


@runtime_checkable
class Way(Protocol):
    """How tasks are done."""

    def room(self) -> int:
        """How many may be begun and not ended."""

    def start(self, k: int) -> None:
        """Begins a task."""

    def ended(self) -> tuple[int, Any]:
        """Waits for a task to end; its number, and what it gave or :class:`Died`."""


def spread(way: Way, numbers: Iterable[int]) -> Iterator[tuple[int, Any]]:
    """Every task and what it gave, as they end.

    One whose process died is tried again after all others, and is :class:`Died` after the second time.

    Parameters
    ----------
    way
        How they are done.
    numbers
        Which ones.
    """
    left, again, n_running = iter(numbers), list[int](), 0
    died: Counter[int] = Counter()
    while True:
        while n_running < way.room():
            k = next(left, None)
            k = again.pop(0) if k is None and again else k
            if k is None:
                break
            way.start(k)
            n_running += 1
        if not n_running:
            return
        k, result = way.ended()
        n_running -= 1
        died[k] += isinstance(result, Died)
        if isinstance(result, Died) and died[k] < TRIES:
            again.append(k)
        else:
            yield k, result


class _Processes:
    """Processes of this machine, each in a pool of its own, so that a death tells which task it was."""

    def __init__(self, do: Do, workers: int) -> None:
        self._do, self._workers = do, workers
        self._free: list[ProcessPoolExecutor] = []
        self._running: dict[Future[Any], tuple[int, ProcessPoolExecutor]] = {}

    def room(self) -> int:
        return self._workers

    def start(self, k: int) -> None:
        pool = self._free.pop() if self._free else self._pool()
        try:
            future = pool.submit(_one, k)
        except BrokenProcessPool:  # it died with nothing to do
            pool = self._pool()
            future = pool.submit(_one, k)
        self._running[future] = k, pool

    def ended(self) -> tuple[int, Any]:
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        future = next(iter(done))
        k, pool = self._running.pop(future)
        try:
            result = future.result()
        except BrokenProcessPool:
            pool.shutdown()
            return k, Died()
        self._free.append(pool)
        return k, result

    def close(self) -> None:
        """What runs is brought to its end, so that no half is left."""
        for pool in (*self._free, *(pool for _, pool in self._running.values())):
            pool.shutdown(wait=True, cancel_futures=True)

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (self._do,))


@contextmanager
def processes(do: Do, workers: int) -> Iterator[Way]:
    """Tasks by so many processes of this machine; they end when it does that began them.

    Parameters
    ----------
    do
        A task by its number; it and what it gives are pickled.
    workers
        How many at once.
    """
    with with_threads(max(cores() // workers, 1)):
        way = _Processes(do, workers)
        try:
            yield way
        finally:
            way.close()


class _Tasks:
    """Tasks of one core each on a Ray cluster."""

    def __init__(self, ray: Any, do: Do, gib_each: float) -> None:
        # Ray itself would try again without end after some deaths, so that it must not at all.
        words = {"num_cpus": 1, "memory": int(gib_each * 2**30), "max_retries": 0}
        self._ray, self._task, self._do = ray, ray.remote(**words)(_do), ray.put(do)
        self._running: dict[Any, int] = {}

    def room(self) -> int:
        # Asked each time: machines come and go.
        return max(_AHEAD * int(self._ray.cluster_resources().get("CPU", 1)), 1)

    def start(self, k: int) -> None:
        self._running[self._task.remote(self._do, k)] = k

    def ended(self) -> tuple[int, Any]:
        done, _ = self._ray.wait(list(self._running), num_returns=1)
        k = self._running.pop(done[0])
        try:
            return k, self._ray.get(done[0])
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError:
            return k, Died()

    def close(self) -> None:
        for one in self._running:
            self._ray.cancel(one, force=True)


@contextmanager
def cluster(do: Do, address: str, gib_each: float) -> Iterator[Way]:
    """Tasks by a Ray cluster, each on one core with so much memory; its machines must share the files.

    Parameters
    ----------
    do
        A task by its number; it and what it gives are pickled.
    address
        Of the cluster's head, such as ``10.0.0.1:6379``, or ``auto`` or ``local``.
    gib_each
        Memory that Ray sets aside for each task (GiB).

    Raises
    ------
    ValueError
        If Ray is missing, nobody answers, or no machine has the memory of one task.
    """
    with connected(address) as ray:
        most = max((node["Resources"].get("memory", 0.0) for node in ray.nodes() if node["Alive"]), default=0)
        if most < gib_each * 2**30:
            raise ValueError(
                f"expected a machine with {gib_each:g} GiB for Ray to give, got {most / 2**30:.1f} at most; "
                "start it with more memory"
            )
        way = _Tasks(ray, do, gib_each)
        try:
            yield way
        finally:
            way.close()


def _begin(do: Do) -> None:
    """What a new process is given; it ends when the one that asked for it does."""
    _given["do"] = do
    threading.Thread(target=end_with_parent, daemon=True).start()


def _one(k: int) -> Any:
    return _given["do"](k)


def _do(do: Do, k: int) -> Any:
    return do(k)
