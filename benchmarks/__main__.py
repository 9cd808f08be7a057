"""Runs every benchmark that this machine can: ``python -m benchmarks``; their JSON lines come last."""

import subprocess
import sys
import time
from pathlib import Path

# Parts of others: planning_speed runs the phantom and the control points, delivery_qa and cohort the rest;
# cohort_ablation wants the library of a training. generators runs the generator_ parts, for hours.
_BESIDE = {
    "__init__",
    "__main__",
    "record",
    "roofline",
    "synthetic_ct_dose",
    "synthetic_ct_hard",
    "synthetic_ct_recipes",
    "tg119",
    "tg119_ours",
    "tg119_accuracy",
    "tg119_delivery",
    "control_points",
    "conformance",
    "dicompyler",
    "dvh_accuracy",
    "dvh_beside",
    "gamma_speed",
    "parts",
    "prostate",
    "recomputed",
    "cohort_parts",
    "cohort_case",
    "cohort_scaling",
    "cohort_samples",
    "cohort_heads",
    "cohort_ablation",
    "real_heads",
    "synthetic_ct",
    "contouring",
    "generators",
    "generator_slices",
    "generator_overfit",
    "generator_volumes",
}


def main() -> int:
    """Every benchmark in its own process, so that one's memory does not count for another."""
    names = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in _BESIDE)
    failed = []
    started = time.time()
    for name in names:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    print(f"\n{len(names) - len(failed)} of {len(names)} benchmarks ran and met their targets")
    for name in failed:
        print(f"not: {name}")
    for result in sorted((Path(__file__).parent / "results").glob("*.json")):
        if result.stat().st_mtime >= started:
            print(result.read_text().strip())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
