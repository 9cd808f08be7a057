"""Cases made by processes of this machine: a few at a time, and again where a process died."""

import multiprocessing
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from .cohort_job import Job, keep
from .workers import cores, end_with_parent, with_threads

_AHEAD = 2  # cases handed out for each process
_TRIES = 3

_given: dict[str, tuple[Job, Path, int]] = {}  # to this process, if it is one that makes cases


def run_local(
    job: Job, numbers: Iterable[int], out: Path, workers: int, threads: int | None = None
) -> Iterator[int]:
    """Cases made by processes of this machine; gives the number of each as it is whole.

    Parameters
    ----------
    job
        What cases follow from.
    numbers
        Which ones to make; read as processes come free.
    out
        The cohort's folder.
    workers
        How many processes.
    threads
        Threads of each; by default cores that are left over become theirs.

    Raises
    ------
    ValueError
        If a case cannot be made, or its process died three times.
    OSError
        If a case cannot be written.
    """
    threads = threads or max(cores() // workers, 1)
    left = iter(numbers)
    again: list[int] = []
    died: dict[int, int] = {}
    with with_threads(threads):
        while True:
            pool = ProcessPoolExecutor(
                workers, multiprocessing.get_context("spawn"), _begin, (job, out, threads)
            )
            running: dict[Future[int], int] = {}
            try:
                while True:
                    while len(running) < _AHEAD * workers:
                        k = again.pop() if again else next(left, None)
                        if k is None:
                            break
                        running[pool.submit(_one, k)] = k
                    if not running:
                        return
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        # Read before it is forgotten: the number of a dead process's case is needed.
                        yield future.result()
                        del running[future]
            except BrokenProcessPool:
                # Whatever ran or waited in the dead pool is made again; nothing of it was kept.
                for k in running.values():
                    died[k] = died.get(k, 0) + 1
                    again.append(k)
                worst = max(died, key=lambda k: died[k])
                if died[worst] >= _TRIES:
                    raise ValueError(
                        f"expected processes that live, got one killed {_TRIES} times over (case {worst} or "
                        "one beside it); give it more memory or fewer --workers"
                    ) from None
            finally:
                # What runs is brought to its end, so that no half case is left; what waits is not begun.
                pool.shutdown(wait=True, cancel_futures=True)


def _begin(job: Job, out: Path, threads: int) -> None:
    """What a new process is given; it ends when the one that asked for it does."""
    _given["job"] = (job, out, threads)
    threading.Thread(target=end_with_parent, daemon=True).start()


def _one(k: int) -> int:
    job, out, threads = _given["job"]
    keep(job, k, out, threads)
    return k
