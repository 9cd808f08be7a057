"""Gamma against pymedphys, in pass rate, time and memory: ``python -m benchmarks.gamma_speed``.

Both sides read the same pairs: the reference pair of the data (3 mm, 97,435 points above 10 %), for its
whole gamma up to 2 and for its pass rate alone, and random smooth pairs in two and three dimensions,
global and local. Each side runs in a process of its own, one after the other. Ratios are pymedphys over
ours. pymedphys runs with numba, with which it is two times faster than without; ``--peer PYTHON`` names
another interpreter for it than ours. Needs SPINDOSE_DATA.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from imaging.grid import Grid
from imaging.volume import Quantity, Volume
from planning.check.gamma import Criterion, gamma_map, gamma_pass

from .parts import Targets, figures_of_process, missed, ours
from .record import report

_HERE = Path(__file__).parent
TARGETS: Targets = {"gamma_pass_difference_points": ("<=", 0.05), "gamma_time_ratio": (">=", 8.0)}


def main() -> int:
    """Both sides, and the figures beside their targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", default=sys.executable)
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.ours is not None:
        print(json.dumps(timed(asked.ours)))
        return 0
    data = os.environ.get("SPINDOSE_DATA")
    pair = Path(data) / "planning" / "reference" / "gamma_pair.npz" if data else None
    if pair is None or not pair.is_file():
        print("skipped: SPINDOSE_DATA names no folder with planning/reference/gamma_pair.npz")
        return 0
    with tempfile.TemporaryDirectory() as work:
        write_cases(pair, Path(work))
        mine = ours("gamma_speed", "--ours", work)
        theirs = figures_of_process([asked.peer, "-W", "ignore", str(_HERE / "peer" / "gamma.py"), work])
    figures = figures_of(mine, theirs)
    not_met = missed(figures, TARGETS)
    report("gamma_speed", {**figures, "ours": mine, "pymedphys": theirs})
    return 1 if not_met else 0


def write_cases(pair: Path, folder: Path) -> None:
    """The pairs, and what is asked of each."""
    stored = np.load(pair)
    doses = {name: stored[name] * float(stored[f"{name}_gy_per_unit"]) for name in ("ref", "ev")}
    np.savez(folder / "reference.npz", **doses)
    case = {"pair": "reference.npz", "spacing": float(stored["spacing"]), "cutoff_percent": 10.0}
    cases = [
        {**case, "name": f"reference_{name}", "local": local, "only_passing": only}
        for name, local, only in (("map", False, False), ("pass", False, True), ("local_pass", True, True))
    ]
    for shape in ((28, 26, 24), (150, 140)):
        rng = np.random.default_rng(len(shape))
        truth = 60 * _smooth(rng, shape)
        name = f"random_{len(shape)}d"
        np.savez(folder / f"{name}.npz", ref=truth, ev=truth + 9 * (_smooth(rng, shape) - 0.5))
        cases += [
            {
                "name": f"{name}_{'local' if local else 'global'}",
                "pair": f"{name}.npz",
                "spacing": 2.5,
                "cutoff_percent": 10.0,
                "local": local,
                "only_passing": False,
            }
            for local in (False, True)
        ]
    asked = [{**case, "dose_percent": 2.0, "distance_mm": 2.0} for case in cases]
    (folder / "cases.json").write_text(json.dumps(asked))


def _smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    noise = gaussian_filter(rng.normal(size=shape), 2.0, mode="wrap")
    return (noise - noise.min()) / (noise.max() - noise.min())


def timed(folder: Path) -> dict[str, Any]:
    """Every pair by our own code, timed."""
    found = {}
    for case in json.loads((folder / "cases.json").read_text()):
        pair = np.load(folder / case["pair"])
        reference, evaluated = (_volume(pair[name], case["spacing"]) for name in ("ref", "ev"))
        criterion = Criterion(
            case["dose_percent"], case["distance_mm"], case["cutoff_percent"], case["local"]
        )
        started = time.perf_counter()
        if case["only_passing"]:
            got = gamma_pass(
                reference,
                evaluated,
                criterion.dose_percent,
                criterion.distance_mm,
                criterion.cutoff_percent,
                local=criterion.local,
            )
            passed, n_points = got.pass_percent, got.n_points
        else:
            gamma = gamma_map(reference, evaluated, criterion)
            n_points = int((~gamma.isnan()).sum())
            passed = 100 * int((gamma <= 1).sum()) / n_points
        seconds = time.perf_counter() - started
        found[case["name"]] = {"seconds": seconds, "pass_percent": passed, "points": n_points}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"memory_mib": memory, "threads": torch.get_num_threads(), "cases": found}


def _volume(values: np.ndarray, spacing: float) -> Volume:
    shape = values.shape if values.ndim == 3 else (*values.shape, 1)
    grid = Grid((shape[0], shape[1], shape[2]), np.diag([spacing, spacing, spacing, 1.0]))
    return Volume(torch.from_numpy(values.reshape(1, *shape)), grid, Quantity.DOSE)


def figures_of(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float]:
    """Worst difference in pass rate, and pymedphys' time and memory over ours."""
    here, there = mine["cases"], theirs["cases"]
    worst = max(abs(here[name]["pass_percent"] - there[name]["pass_percent"]) for name in there)
    ratio = {name: there[name]["seconds"] / here[name]["seconds"] for name in there}
    return {
        "gamma_pass_difference_points": worst,
        "gamma_time_ratio": ratio["reference_map"],
        "gamma_pass_time_ratio": ratio["reference_pass"],
        "gamma_local_pass_time_ratio": ratio["reference_local_pass"],
        "gamma_least_time_ratio": min(ratio.values()),
        "gamma_memory_ratio": theirs["memory_mib"] / mine["memory_mib"],
        "gamma_map_s": here["reference_map"]["seconds"],
    }


if __name__ == "__main__":
    sys.exit(main())
