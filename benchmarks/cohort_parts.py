"""Parts of ``benchmarks.cohort``: time and memory of one full case, and cases a minute over workers."""

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from app.cohort_job import STATE, Job, keep
from app.cohort_local import run_local
from synth.case import make
from synth.recipe import Recipe

_CASES = 3
_EACH = 4  # cases for each worker, the first of which is not counted


def one_case() -> dict[str, Any]:
    """A full case of the default recipe on all cores, in a process of its own.

    Returns
    -------
    dict
        ``seconds_per_case`` and ``cpu_seconds_per_case`` (mean of three, written as BraTS), ``make_seconds``
        (without writing), ``peak_gib`` of the process, ``mib_per_case`` on disk.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_timed, os.cpu_count() or 1).result()


def scaling(workers: tuple[int, ...] = (1, 2)) -> dict[str, Any]:
    """Cases a minute of so many processes with one thread each.

    Parameters
    ----------
    workers
        Numbers of processes to try.

    Returns
    -------
    dict
        ``scaling``: number of processes to cases a minute, counted from when each has made its first.
    """
    rates: dict[str, float] = {}
    for n in workers:
        with tempfile.TemporaryDirectory() as name:
            out = Path(name)
            (out / STATE).mkdir()
            done = [
                time.perf_counter() for _ in run_local(Job(Recipe(), 1, "brats"), range(_EACH * n), out, n, 1)
            ]
        rates[str(n)] = round(60 * (len(done) - n) / (done[-1] - done[n - 1]), 2)
        print(f"{n} workers: {rates[str(n)]} cases a minute", flush=True)
    return {"scaling": rates}


def _timed(threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    job = Job(Recipe(), 1, "brats")
    make(job.recipe, 1, 0)  # libraries and tables are loaded once
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        wall, cpu = time.perf_counter(), time.process_time()
        for k in range(_CASES):
            keep(job, k, out, threads)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    made = time.perf_counter()
    make(job.recipe, 1, 0)
    made = time.perf_counter() - made
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return {
        "seconds_per_case": round(wall / _CASES, 2),
        "cpu_seconds_per_case": round(cpu / _CASES, 2),
        "make_seconds": round(made, 2),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 2),
        "mib_per_case": round(size / _CASES / 2**20, 1),
    }
