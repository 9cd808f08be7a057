"""TG119 with nine beams on a GPU: ``python -m benchmarks.planning_gpu``.

The whole influence matrix of every voxel, and the search on all of it, by the same code as on the
processor; the dose of its weights is computed on the processor too, block by block, and compared. The peer
has no GPU engine; its times on the processor are those of ``planning_speed``. Targets: matrix in 1 s,
search in 3 s, dose within 0.1 % of the maximum. ``--device cpu`` tries the script where there is no GPU,
and keeps no result. Needs SPINDOSE_DATA.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch

from planning.dose.influence import apply, influence
from planning.machine import load_machine
from planning.optimise.fluence import optimise_fluence

from .record import report
from .tg119 import OBJECTIVES, Phantom, data_folder, dose, own_beams, phantom, scan

_N_BEAMS = 9
T = TypeVar("T")


def main() -> int:
    """Times and agreement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    device = torch.device(parser.parse_args().device)
    folder = data_folder()
    if folder is None:
        print("skipped: SPINDOSE_DATA names no folder with planning/tg119.npz")
        return 0
    if device.type == "cuda" and not torch.cuda.is_available():
        print("skipped: no CUDA device")
        return 0
    machine, here = load_machine("generic-6mv"), phantom(scan(folder))
    there = _on(here, device)
    beams, bixels = own_beams(here, _N_BEAMS, machine)
    # The first beam pays for starting the device.
    warm_up_s, _ = _timed(
        lambda: influence(beams[:1], bixels[:1], there.density, here.points, machine), device
    )
    influence_s, matrix = _timed(
        lambda: influence(beams, bixels, there.density, here.points, machine), device
    )
    optimisation_s, found = _timed(
        lambda: optimise_fluence(matrix, OBJECTIVES, there.voxels, max_iterations=400, scaled=True), device
    )
    ours = apply(matrix, found.weights).cpu()
    truth = dose(here, beams, bixels, found.weights.cpu(), machine)
    off = 100 * (ours - truth) / truth.max()
    figures: dict[str, float | int | str] = {
        "influence_s": influence_s,
        "optimisation_s": optimisation_s,
        "dose_worst_percent": float(off.abs().max()),
        "dose_rms_percent": float(off.square().mean().sqrt()),
        "warm_up_s": warm_up_s,
        "n_bixels": matrix.n_bixels,
        "influence_entries": matrix.n_entries,
        "influence_bytes": matrix.n_bytes,
        "n_iterations": len(found.history) - 1,
        "objective": found.value,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
    }
    report("planning_gpu", figures, keep=device.type == "cuda")
    met = influence_s <= 1 and optimisation_s <= 3 and float(off.abs().max()) <= 0.1
    return 0 if met or device.type != "cuda" else 1


def _on(body: Phantom, device: torch.device) -> Phantom:
    voxels = {name: own.to(device) for name, own in body.voxels.items()}
    return replace(body, density=replace(body.density, data=body.density.data.to(device)), voxels=voxels)


def _timed(work: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Seconds until a device has done some work, and its result."""
    _wait(device)
    started = time.perf_counter()
    found = work()
    _wait(device)
    return time.perf_counter() - started, found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())
