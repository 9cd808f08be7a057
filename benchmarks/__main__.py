"""Runs every benchmark that this machine can: ``python -m benchmarks``."""

import subprocess
import sys
from pathlib import Path

_BESIDE = {"__init__", "__main__", "record"}


def main() -> int:
    """Every benchmark in its own process, so that one's memory does not count for another."""
    names = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in _BESIDE)
    failed = []
    for name in names:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    print(f"\n{len(names) - len(failed)} of {len(names)} benchmarks ran")
    for name in failed:
        print(f"not: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
