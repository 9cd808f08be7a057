"""TG119 against pyRadPlan 0.5.0, in time, memory and dose: ``python -m benchmarks.planning_speed``.

Both sides plan the same phantom with the same objectives on the same 3 mm grid and cores, each in a
fresh process of its own interpreter, one after the other. Ratios are peer over ours. The dose is held
against the reference that ships with the data. Needs SPINDOSE_DATA, and the peer that ``make
bench-peer`` builds. ``--only`` runs some of the parts and keeps no result.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .record import report
from .tg119 import data_folder

_HERE = Path(__file__).parent
_PEER = _HERE / "peer" / ".venv" / "bin" / "python"
_N_BEAMS = 9

Part = Mapping[str, float | int | None]
Figure = float | int | str | None

# What each figure is to be, and from which side.
TARGETS = {
    "influence_time_ratio": (">=", 10.0),
    "influence_memory_ratio": (">=", 1.8),
    "optimisation_time_ratio": (">=", 6.0),
    "plan_time_ratio": (">=", 8.0),
    "plan_memory_ratio": (">=", 2.0),
    "dose_rms_percent": ("<=", 0.1),
    "gamma_1_1_percent": (">=", 99.9),
    "water_worst_percent": ("<=", 0.5),
    "forward_backward_s_per_control_point": ("<=", 0.3),
}


def main() -> int:
    """Runs the parts, prints each figure beside its target, and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=("peer", "ours", "accuracy", "control"))
    only = parser.parse_args().only
    folder = data_folder()
    if folder is None:
        print("skipped: SPINDOSE_DATA names no folder with planning/tg119.npz")
        return 0
    if not _PEER.exists() and (only is None or "peer" in only):
        print(f"expected the peer's interpreter at {_PEER}, got none; build it with make bench-peer")
        return 1
    parts = run(folder, only)
    figures = figures_of(parts)
    print_targets(figures)
    report("planning_speed", {**figures, **parts}, keep=only is None)
    missed = [name for name, value in figures.items() if not meets(name, value)]
    return 1 if only is None and missed else 0


def run(folder: Path, only: list[str] | None) -> dict[str, Part]:
    """Every part asked for; the two sides of a comparison run one after the other."""
    ours = [sys.executable, "-m"]
    commands = {
        "peer_5": [str(_PEER), "-W", "ignore", str(_HERE / "peer" / "tg119.py"), str(folder), "--beams", "5"],
        "ours_5": [*ours, "benchmarks.tg119_ours", str(folder)],
        "peer_9": [str(_PEER), "-W", "ignore", str(_HERE / "peer" / "tg119.py"), str(folder), "--beams", "9"],
        "ours_9": [*ours, "benchmarks.tg119_ours", str(folder), "--beams", "9"],
        "accuracy": [*ours, "benchmarks.tg119_accuracy", str(folder)],
        "control": [*ours, "benchmarks.control_points"],
    }
    wanted = {name: c for name, c in commands.items() if only is None or name.partition("_")[0] in only}
    with tempfile.TemporaryDirectory() as work:
        if "accuracy" in wanted and _PEER.exists():
            depths = str(Path(work) / "depths.npz")
            _spoken([str(_PEER), "-W", "ignore", str(_HERE / "peer" / "depths.py"), str(folder), depths])
            wanted["accuracy"] += ["--depths", depths]
        return {name: _child(command) for name, command in wanted.items()}


def _child(command: list[str]) -> Part:
    """The figures that a process of its own prints last."""
    found = json.loads(_spoken(command).splitlines()[-1])
    return found.get("figures", found)


def _spoken(command: list[str]) -> str:
    """What a process of its own prints; both sides may use as many cores as there are."""
    cores = str(os.cpu_count())
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), cores)
    # Threads that spin while they wait take the cores from those that work.
    threads["OMP_WAIT_POLICY"] = "PASSIVE"
    print(f"... {' '.join(Path(word).name for word in command[:4])}", flush=True)
    done = subprocess.run(
        command,
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"expected {command[1:]} to run, got:\n{done.stderr[-3000:]}")
    return done.stdout


def figures_of(parts: Mapping[str, Part]) -> dict[str, Figure]:
    """The figures of the benchmark; None where a part that they need did not run."""
    got = {
        name: parts.get(name, {}) for name in ("peer_5", "ours_5", "peer_9", "ours_9", "accuracy", "control")
    }
    # A plan that is worse than the peer's is no plan of the same kind.
    as_good = (got["ours_9"].get("objective") or 0.0) <= 1.005 * (got["peer_9"].get("objective") or 0.0)
    return {
        "influence_time_ratio": _ratio(got["peer_5"], got["ours_5"], "influence_s"),
        "influence_memory_ratio": _ratio(got["peer_5"], got["ours_5"], "influence_bytes"),
        "optimisation_time_ratio": _ratio(got["peer_5"], got["ours_5"], "goal_s"),
        "plan_time_ratio": _ratio(got["peer_9"], got["ours_9"], "plan_s") if as_good else None,
        "plan_memory_ratio": _ratio(got["peer_9"], got["ours_9"], "peak_bytes") if as_good else None,
        **{
            name: got["accuracy"].get(name)
            for name in ("dose_rms_percent", "gamma_1_1_percent", "water_worst_percent")
        },
        "forward_backward_s_per_control_point": got["control"].get("forward_backward_s_per_control_point"),
    }


def _ratio(peer: Part, ours: Part, name: str) -> float | None:
    """Peer over ours; None where either is missing."""
    theirs, own = peer.get(name), ours.get(name)
    return theirs / own if theirs and own else None


def meets(name: str, value: Figure) -> bool:
    """Whether a figure is on the right side of its target."""
    side, target = TARGETS[name]
    if not isinstance(value, float | int):
        return False
    return value >= target if side == ">=" else value <= target


def print_targets(figures: Mapping[str, Figure]) -> None:
    """Each figure, what it is to be, and whether it is."""
    for name, value in figures.items():
        side, target = TARGETS[name]
        seen = f"{value:.4g}" if isinstance(value, float | int) else "not measured"
        print(f"{name:<38} {seen:>12}   {side} {target:<6g} {'' if meets(name, value) else 'MISSED'}")


if __name__ == "__main__":
    sys.exit(main())
