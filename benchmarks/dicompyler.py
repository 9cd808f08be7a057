"""Histograms by dicompyler-core, in the environment that ``make bench-peer`` builds for it."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pydicom

_PEER = Path(__file__).parent / "peer" / "dicompyler"


def interpreter() -> str | None:
    """The Python that has dicompyler-core, where there is one."""
    built = _PEER / ".venv" / "bin" / "python"
    return os.environ.get("SPINDOSE_DICOMPYLER") or (str(built) if built.exists() else None)


def peer_metrics(python: str, structures: Sequence[Path], doses: Sequence[Path]) -> list[dict[str, float]]:
    """The metrics of every drawn structure in every dose, by the interpreter ``python``."""
    asked = [
        json.dumps([str(path), str(dose), int(roi.ReferencedROINumber)])
        for path in structures
        for roi in pydicom.dcmread(path).ROIContourSequence
        if "ContourSequence" in roi
        for dose in doses
    ]
    done = subprocess.run(
        [python, str(_PEER / "dvh.py")], input="\n".join(asked), capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
