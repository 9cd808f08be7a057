"""Parts of a benchmark: processes of their own, and their figures beside what they are to be."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]

# From which side a figure is to be on the right side of what.
Targets = Mapping[str, tuple[str, float]]


def figures_of_process(command: Sequence[str]) -> dict[str, Any]:
    """The figures in the line of JSON that a process of its own prints last.

    It may end with 1, as a benchmark does that misses its own targets. It may use as many cores as there are.

    Raises
    ------
    RuntimeError
        With the end of what it said, if it ends otherwise or without such a line.
    """
    cores = str(os.cpu_count())
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), cores)
    # Threads that spin while they wait take the cores from those that work.
    threads["OMP_WAIT_POLICY"] = "PASSIVE"
    print(f"... {' '.join(Path(word).name for word in command[:5])}", flush=True)
    done = subprocess.run(
        command, cwd=_ROOT, env={**os.environ, **threads}, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    if done.returncode not in (0, 1) or not lines or not lines[-1].startswith("{"):
        raise RuntimeError(
            f"expected {list(command[1:])} to run, got:\n{(done.stdout + done.stderr)[-3000:]}"
        )
    found: dict[str, Any] = json.loads(lines[-1])
    return found.get("figures", found)


def ours(module: str, *arguments: str) -> dict[str, Any]:
    """The figures of a module of these benchmarks, run in a process of its own."""
    return figures_of_process([sys.executable, "-m", f"benchmarks.{module}", *arguments])


def meets(value: object, target: tuple[str, float]) -> bool:
    """Whether a figure is on the right side of its target; what was not measured is not."""
    side, bound = target
    if not isinstance(value, float | int):
        return False
    return value >= bound if side == ">=" else value <= bound


def missed(figures: Mapping[str, object], targets: Targets) -> list[str]:
    """Names of the figures that are not what they are to be, after each is printed beside its target."""
    for name, (side, bound) in targets.items():
        value = figures.get(name)
        seen = f"{value:.4g}" if isinstance(value, float | int) else "not measured"
        print(f"{name:<36} {seen:>12}   {side} {bound:<6g}", "" if meets(value, (side, bound)) else "MISSED")
    return [name for name, target in targets.items() if not meets(figures.get(name), target)]
