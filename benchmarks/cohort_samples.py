"""Training samples a second, ours and TorchIO's, of one label map: ``python -m benchmarks.cohort_samples``.

128³ voxels of 1 mm from one head, two worker processes each, one after the other.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from synth.anatomy import anatomy
from synth.on_the_fly import Library, OnTheFly
from synth.randomisation import Randomisation

from .parts import figures_of_process
from .record import report

_PEER = Path(__file__).parent / "peer" / "synthesis"
_N_OURS, _N_PEER = 60, 16


def samples() -> dict[str, float | None]:
    """Samples a second of both, and their ratio; none of the peer's where it is not installed."""
    labels = anatomy(1.0, torch.Generator().manual_seed(1)).data[0]
    rate = ours(Library(labels[None], 1.0), _N_OURS)
    theirs = None
    python = _PEER / ".venv" / "bin" / "python"
    if python.exists():
        with tempfile.TemporaryDirectory() as work:
            path = Path(work) / "labels.npy"
            np.save(path, labels.numpy())
            told = figures_of_process(
                [str(python), str(_PEER / "torchio_samples.py"), str(path), str(_N_PEER)]
            )
        theirs = told.get("samples_per_second")
    return {
        "training_samples_per_second": rate,
        "torchio_samples_per_second": theirs,
        "samples_ratio": rate / theirs if theirs else None,
    }


def ours(heads: Library, n: int, device: str = "cpu") -> float:
    """Samples a second: two worker processes on a CPU, batches on a GPU."""
    how = Randomisation(shape=(128, 128, 128), spacing=1.0)
    if device != "cpu":
        there = OnTheFly(Library(heads.labels.to(device), heads.spacing), how, 0)
        [there[k] for k in range(3)]
        torch.cuda.synchronize()
        started = time.perf_counter()
        [there[k] for k in range(n)]
        torch.cuda.synchronize()
        return n / (time.perf_counter() - started)
    loader = DataLoader(OnTheFly(heads, how, 0), batch_size=None, num_workers=2)
    stream = iter(loader)
    for _ in range(4):
        next(stream)
    started = time.perf_counter()
    for _ in range(n):
        next(stream)
    return n / (time.perf_counter() - started)


def main() -> int:
    """Both rates and their ratio."""
    report("cohort_samples", samples(), keep=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
