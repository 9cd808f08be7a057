"""What this machine can do at most: bytes moved and sums multiplied each second."""

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

_FLOATS = 2**26
_SIDE = 1536


@dataclass(frozen=True)
class Roof:
    """The two limits that a kernel works under.

    Parameters
    ----------
    n_threads
        Cores that worked.
    copy, triad, read
        Memory traffic (bytes/s) of a = b, of a = b + s c (STREAM: McCalpin, IEEE TCCA Newsletter, 1995;
        what is read to be overwritten is not counted), and of a dot product of one array.
    flops
        Multiplications and additions a second of a product of float32 matrices.
    """

    n_threads: int
    copy: float
    triad: float
    read: float
    flops: float

    @property
    def bandwidth(self) -> float:
        """The greatest traffic seen (bytes/s)."""
        return max(self.copy, self.triad, self.read)


def measured(n_threads: int) -> Roof:
    """The limits with so many threads, on arrays of 256 MiB, the best of five."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        a, b, c = (torch.ones(_FLOATS) for _ in range(3))
        square = torch.rand(_SIDE, _SIDE)
        out = torch.empty_like(square)
        return Roof(
            n_threads,
            copy=8 * _FLOATS / best(lambda: a.copy_(b)),
            triad=12 * _FLOATS / best(lambda: torch.add(b, c, alpha=0.5, out=a)),
            read=4 * _FLOATS / best(lambda: b.dot(b)),
            flops=2 * _SIDE**3 / best(lambda: torch.mm(square, square, out=out)),
        )
    finally:
        torch.set_num_threads(before)


def better(one: Roof, other: Roof) -> Roof:
    """The higher of two measured limits, one by one."""
    limits = ("copy", "triad", "read", "flops")
    return Roof(one.n_threads, **{name: max(getattr(one, name), getattr(other, name)) for name in limits})


def best(work: Callable[[], object], n_times: int = 5) -> float:
    """The least time that work takes (s): what other processes take away only adds."""
    seconds = []
    for _ in range(n_times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def peak_growth(work: Callable[[], object]) -> int:
    """By how much the memory of this process grew at most while work ran (bytes)."""
    # What was freed goes back first, and Linux resets VmHWM to what is held now.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def peak_bytes() -> int:
    """The most memory this process has held: VmHWM, as ru_maxrss keeps that of whoever started it."""
    return _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise OSError(f"expected {name} in /proc/self/status, got none; run on Linux")
