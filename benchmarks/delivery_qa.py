"""Plans that can be delivered, and their checks: ``python -m benchmarks.delivery_qa``.

Each part runs in a process of its own, one after the other:

- ``imrt``, ``arc``: TG119 by 60 segments of nine fields and by one arc (:mod:`benchmarks.tg119_delivery`).
  The doses are those of TG-119's C-shape: D95 of 50 Gy, D10 of at most 55 Gy, and for D5 of the core the
  means that clinics reached (Ezzell et al., Med. Phys. 36, 5359 (2009); numbers not verified in the paper):
  22 Gy, and in the harder version 16 Gy, which the arc is held to.
- ``gamma``: against pymedphys, in pass rate and time (:mod:`benchmarks.gamma_speed`).
- ``dvh``: against the closed forms of Nelms, and beside dicompyler-core (:mod:`benchmarks.dvh_accuracy`).
- ``beside``: a conformant set by plastimatch, dicompyler-core and ours (:mod:`benchmarks.dvh_beside`).
- ``recomputed``: plans written, read back and computed again (:mod:`benchmarks.recomputed`).
- ``demo``: dciodvfy on every file of a demo (:mod:`benchmarks.conformance`).

``--only`` runs some of the parts and judges their figures alone; it keeps no result, while parts that are
benchmarks themselves keep theirs. Needs SPINDOSE_DATA.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .parts import Targets, missed, ours
from .record import report
from .tg119 import data_folder

_C_SHAPE = {"d95_gy": (">=", 50.0), "d10_gy": ("<=", 55.0)}

# What each figure is to be, by the part that it comes from.
TARGETS: Mapping[str, Targets] = {
    "imrt": {
        "imrt_objective_over_fluence": ("<=", 1.05),
        "imrt_segments": ("<=", 60),
        **{f"tg119_imrt.{name}": target for name, target in _C_SHAPE.items()},
        "tg119_imrt.core_d5_gy": ("<=", 22.0),
    },
    "arc": {
        **{f"tg119_vmat.{name}": target for name, target in _C_SHAPE.items()},
        "tg119_vmat.core_d5_gy": ("<=", 16.0),
        "vmat_seconds": ("<=", 600.0),
    },
    "gamma": {"gamma_pass_difference_points": ("<=", 0.05), "gamma_time_ratio": (">=", 8.0)},
    "dvh": {"nelms_worst_percent": ("<=", 1.0)},
    "beside": {},
    "recomputed": {"recomputed_plan_gamma_percent": (">=", 99.9)},
    "demo": {"dciodvfy_errors": ("<=", 0)},
}


def main() -> int:
    """Runs the parts, prints each figure beside its target, and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(TARGETS))
    only = parser.parse_args().only
    folder = data_folder()
    if folder is None:
        print("skipped: SPINDOSE_DATA names no folder with planning/tg119.npz")
        return 0
    wanted = only or list(TARGETS)
    parts = {name: run(folder) for name, run in _PARTS.items() if name in wanted}
    figures = figures_of(parts)
    targets = {name: target for part in wanted for name, target in TARGETS[part].items()}
    not_met = missed(figures, targets)
    report("delivery_qa", {**_nested(figures, targets), "parts": parts}, keep=only is None)
    return 1 if not_met else 0


_PARTS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "imrt": lambda folder: ours("tg119_delivery", str(folder), "imrt"),
    "arc": lambda folder: ours("tg119_delivery", str(folder), "arc"),
    "gamma": lambda _: ours("gamma_speed"),
    "dvh": lambda _: ours("dvh_accuracy"),
    "beside": lambda _: ours("dvh_beside"),
    "recomputed": lambda _: ours("recomputed"),
    "demo": lambda _: ours("conformance"),
}


def figures_of(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, float | int | None]:
    """The figures of the benchmark by name; None where their part did not run or did not measure them."""
    imrt, arc = parts.get("imrt", {}), parts.get("arc", {})
    doses = ("d95_gy", "d10_gy", "core_d5_gy")
    # Files are written by the demo, and by the plans that are recomputed where those run too.
    errors: list[int | None] = [
        part.get("dciodvfy_errors") for name, part in parts.items() if name in ("demo", "recomputed")
    ]
    told = [n for n in errors if n is not None]
    return {
        "imrt_objective_over_fluence": imrt.get("imrt_objective_over_fluence"),
        "imrt_segments": imrt.get("imrt_segments"),
        **{f"tg119_imrt.{name}": imrt.get(name) for name in doses},
        **{f"tg119_vmat.{name}": arc.get(name) for name in doses},
        "vmat_seconds": arc.get("vmat_seconds"),
        **{name: parts.get("gamma", {}).get(name) for name in TARGETS["gamma"]},
        "nelms_worst_percent": parts.get("dvh", {}).get("nelms_worst_percent"),
        **{name: parts.get("recomputed", {}).get(name) for name in TARGETS["recomputed"]},
        "dciodvfy_errors": sum(told) if told and len(told) == len(errors) else None,
    }


def _nested(figures: Mapping[str, float | int | None], wanted: Targets) -> dict[str, Any]:
    """The wanted figures with those of a plan under its name."""
    nested: dict[str, Any] = {}
    for name in wanted:
        under, _, key = name.rpartition(".")
        (nested.setdefault(under, {}) if under else nested)[key] = figures[name]
    return nested


if __name__ == "__main__":
    sys.exit(main())
