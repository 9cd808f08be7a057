"""Learned generators, slices and volumes: ``python -m benchmarks.generators [--cohort DIR]``.

The shipped GAN and diffusion on real slices (:mod:`benchmarks.generator_slices`) and on volumes
(:mod:`benchmarks.generator_volumes`), in processes of their own, and their figures side by side beside the
targets. A cohort like that of training is made where none is given. Needs SPINDOSE_DATA; takes hours on two
cores, and goes on where it was killed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .parts import Targets, missed, ours
from .record import report, stored

_ROOT = Path(__file__).parents[1]
_ZOO = _ROOT / "models" / "zoo"
KINDS = ("gan", "diffusion")
# Of the cohort that the shipped generators of volumes were trained on.
_CASES, _SEED, _RECIPE = 120, 11, "small"
TARGETS: Targets = {
    "synthetic_only_over_real": (">=", 0.9),
    "both_over_real_at_10_percent": (">=", 1.0),
    "memorised_share": ("<=", 0.01),
    "positive_control_caught": (">=", 1),
    "volume_seconds": ("<=", 90.0),
    "obedience_dice": (">=", 0.8),
    "diversity_ratio": (">=", 0.9),
}
_OF_SLICES = (
    "slice_kid",
    "slice_kid_real_floor",
    "slice_coverage",
    "slice_coverage_real_floor",
    "synthetic_only_over_real",
    "both_over_real_at_10_percent",
    "memorised_share",
    "positive_control_caught",
    "seconds_per_slice",
)


def main() -> int:
    """Both parts, then each kind's figures beside the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "generators")
    parser.add_argument("--stored", action="store_true")
    asked = parser.parse_args()
    if asked.stored:
        return _told(*(stored(part) for part in ("generator_slices", "generator_volumes")))
    if "SPINDOSE_DATA" not in os.environ:
        print("skipped: SPINDOSE_DATA names no data folder")
        return 0
    scans = Path(os.environ["SPINDOSE_DATA"]) / "tumour_mri"
    cohort = asked.cohort or _cohort(asked.work / "cohort")
    slices = ours("generator_slices", *_generators("slices"), "--work", str(asked.work / "slices"))
    volumes = ours(
        "generator_volumes",
        *_generators("small"),
        *("--data", str(cohort), str(scans / "brats_met_00110")),
        *("--scans", str(scans / "brats_met_00110")),
        *("--work", str(asked.work / "volumes")),
    )
    return _told(slices, volumes)


def _told(slices: Mapping[str, Any], volumes: Mapping[str, Any]) -> int:
    figures = {kind: side_by_side(kind, slices, volumes) for kind in KINDS}
    not_met = []
    for kind in KINDS:
        print(f"\n{kind}")
        not_met += missed(figures[kind], TARGETS)
    report("generators", {**figures, "slices": slices, "volumes": volumes})
    return 1 if not_met else 0


def side_by_side(kind: str, slices: Mapping[str, Any], volumes: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one kind of generator, from what both parts report."""
    found = {name: slices[kind][name] for name in _OF_SLICES}
    steps = volumes[kind]["steps"]
    return {
        **found,
        "volume_seconds": volumes["full_volume_seconds"][f"{kind}, {steps}"],
        "volume_steps": steps,
        "obedience_dice": volumes[kind]["obedience_dice"],
        "obedience_dice_of_real": min(volumes["real_dice"].values()),  # the most that can be asked for
        "segmenter_synthetic_only_over_real": volumes[kind]["synthetic_only_over_real"],
        "segmenter_both_over_real": volumes[kind]["both_over_real"],
        "diversity_ratio": volumes[kind]["diversity_ratio"],
    }


def _generators(size: str) -> list[str]:
    return [word for kind in KINDS for word in (f"--{kind}", str(_ZOO / f"{kind}-{size}"))]


def _cohort(out: Path) -> Path:
    words = ["synth", "cohort", "--n", _CASES, "--seed", _SEED, "--recipe", _RECIPE, "--out", out]
    subprocess.run([Path(sys.executable).parent / "spindose", *map(str, words)], check=True)
    return out


if __name__ == "__main__":
    sys.exit(main())
