"""Cases made by a Ray cluster and written by whoever asked: machines need not share a disk."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .cohort_job import Job, keep_packed, produce
from .workers import connected

_RETRIES = 3  # of a case whose process or machine died
_AHEAD = 1.5  # cases handed out for each core, so that none waits for the one who writes

Packed = tuple[dict[str, Any], dict[str, bytes]]


def run_cluster(job: Job, numbers: Iterable[int], out: Path, address: str) -> Iterator[int]:
    """Cases made on the machines of a cluster; gives the number of each as it is whole here.

    Each case is a task of one core; what it returns is written by this process alone, once. Tasks
    of a worker or a machine that dies are given to another.

    Parameters
    ----------
    job
        What cases follow from.
    numbers
        Which ones to make; read as cores come free.
    out
        The cohort's folder, on this machine.
    address
        Of the cluster's head, such as ``10.0.0.1:6379``, or ``auto`` or ``local``.

    Raises
    ------
    ValueError
        If Ray is missing, nobody answers at the address, or a case cannot be made.
    OSError
        If a case cannot be written.
    """
    with connected(address) as ray:
        yield from _spread(ray, job, numbers, out)


def _spread(ray: Any, job: Job, numbers: Iterable[int], out: Path) -> Iterator[int]:
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_packed)
    given, left = ray.put(job), iter(numbers)
    running: dict[Any, int] = {}
    try:
        while True:
            # Asked each time: machines come and go.
            cores = int(ray.cluster_resources().get("CPU", 1))
            while len(running) < max(int(_AHEAD * cores), cores + 1):
                k = next(left, None)
                if k is None:
                    break
                running[task.remote(given, k)] = k
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1)
            k = running[done[0]]
            seal, files = _got(ray, done[0], k)
            keep_packed(seal, files, k, out)
            del running[done[0]], done
            yield k
    finally:
        for one in running:
            ray.cancel(one, force=True)


def _got(ray: Any, reference: Any, k: int) -> Packed:
    try:
        packed: Packed = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ValueError | MemoryError | OSError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise ValueError(
            f"expected machines that live, got {type(error).__name__} for case {k} after {_RETRIES} tries; "
            "give its machines more memory"
        ) from None
    return packed


def _packed(job: Job, k: int) -> Packed:
    """Case k as its seal and the bytes of its files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seal = produce(job, k, folder)
        return seal, {file: (folder / file).read_bytes() for file in seal["files"]}
