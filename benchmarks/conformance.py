"""What a demo writes, read by dciodvfy: ``python -m benchmarks.conformance``; the last line is JSON.

``spindose demo`` in a folder of its own, then every DICOM file in it. Without dciodvfy (Debian's dicom3tools)
the figure is null.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Errors in the files of a demo, and how many there are."""
    with tempfile.TemporaryDirectory() as work:
        started = time.monotonic()
        command = [str(Path(sys.executable).parent / "spindose"), "demo", work]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        found = {
            "dciodvfy_errors": dciodvfy_errors(Path(work)),
            "files": len(list(Path(work).rglob("*.dcm"))),
            "demo_seconds": seconds,
        }
    print(json.dumps(found))


def dciodvfy_errors(folder: Path) -> int | None:
    """Errors that dciodvfy finds in all DICOM files under a folder; that it aborts is one."""
    if shutil.which("dciodvfy") is None:
        return None
    return sum(_errors(file) for file in sorted(folder.rglob("*.dcm")))


def _errors(file: Path) -> int:
    asked = subprocess.run(
        ["dciodvfy", str(file)], capture_output=True, text=True, errors="replace", check=False
    )
    told = sum(line.startswith("Error") for line in asked.stderr.splitlines())
    # It ends with 1 where it finds errors, and with another number where it fails.
    return max(told, int(asked.returncode != 0))


if __name__ == "__main__":
    main()
