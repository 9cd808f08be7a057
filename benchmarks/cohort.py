"""Synthetic cohorts: speed, memory, training samples, a network they train: ``python -m benchmarks.cohort``.

One full case (four contrasts, CT, densities, labels, structures; 192 × 224 × 192 voxels of 1 mm) in a process
of its own; cases a minute over workers; 128³ training samples a second beside those of TorchIO; Dice on real
heads of the network trained on synthetic ones. ``--only`` runs some of the parts and keeps no result.
Needs SPINDOSE_DATA for the real heads, and the peer that ``make bench-peer`` builds.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from typing import Any

from .parts import Targets, missed, ours
from .record import report

_PARTS = ("cohort_case", "cohort_scaling", "cohort_samples", "cohort_heads")
TARGETS: Targets = {
    "seconds_per_case": ("<=", 20.0),
    "peak_gib": ("<=", 3.0),
    "training_samples_per_second": (">=", 2.0),
    "brain_dice_colin27": (">=", 0.93),
    "skull_dice_colin27": (">=", 0.75),
    "brain_dice_mni152": (">=", 0.93),
}


def main() -> int:
    """Every part in a process of its own, and the figures beside their targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=_PARTS)
    asked = parser.parse_args()
    if "SPINDOSE_DATA" not in os.environ:
        print("skipped: SPINDOSE_DATA names no data folder")
        return 0
    figures: dict[str, Any] = {}
    for part in asked.only or _PARTS:
        told: Mapping[str, Any] = ours(part)
        figures |= told
    not_met = missed({name: value for name, value in figures.items() if name in TARGETS}, TARGETS)
    report("cohort", figures, keep=not asked.only)
    return 1 if not_met else 0


if __name__ == "__main__":
    sys.exit(main())
