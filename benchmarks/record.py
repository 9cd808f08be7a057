"""How every benchmark reports: a table, then one JSON line, kept under ``benchmarks/results``."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
# Processes that wanted a core before this one worked: above a few tenths, times are too long.
_LOAD = os.getloadavg()[0]

Figures = Mapping[str, float | int | str | Mapping[str, object] | None]


def report(name: str, figures: Figures, *, keep: bool = True) -> None:
    """Figures printed as a table and as one JSON line last, and written to the results if they are whole."""
    for key, value in _flat(figures):
        print(f"{key:<36} {value:>12.4g}" if isinstance(value, float) else f"{key:<36} {value!s:>12}")
    result = {"name": name, "commit": _commit(), "hardware": _hardware(), "figures": figures}
    line = json.dumps(result)
    if keep:
        (_HERE / "results").mkdir(exist_ok=True)
        (_HERE / "results" / f"{name}.json").write_text(line + "\n")
    print(line)


def stored(name: str) -> dict[str, Any]:
    """The figures that a benchmark has reported before, with the commit that they are of."""
    kept = json.loads((_HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return {**kept["figures"], "commit": kept["commit"]}


def say(title: str, share: float) -> None:
    """Progress of long work in a log: where a piece of it begins and ends."""
    if share in (0.0, 1.0):
        print(f"{title} {share:.0%}", flush=True)


def _flat(figures: Mapping[str, object], under: str = "") -> Iterator[tuple[str, object]]:
    """Every figure with the names it stands under."""
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{under}{key}.")
        else:
            yield f"{under}{key}", value


def _commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=_HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"


def _hardware() -> dict[str, object]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "torch": version("torch"),
        "load_before": round(_LOAD, 2),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
