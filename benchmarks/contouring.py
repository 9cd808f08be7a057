"""Contours by the shipped networks, on heads that they never saw: ``python -m benchmarks.contouring``.

Synthetic patients of other seeds have true contours: Dice of each organ and of the tumour's regions from all
four contrasts, from T1 or contrast T1 with FLAIR alone and from their CT, and structures on the wrong side.
Real Colin27 has labels of its brain; a real patient's tumour must have one volume from whatever contrasts it
is seen in; both need SPINDOSE_DATA. Margins are held against boxes whose growth is known. Time and memory are
those of ``spindose contour`` on one head of 1 mm from file to files. With --keep a killed run goes on, and
several may share the patients (--first, --cases, --no-record) before one sums them up.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.contour_score import SETS, scored_patient
from app.contoured import Contourer, read_contourer
from app.contrasts import CT, in_channels
from app.ct_nets import ZOO
from app.held_out import held_out
from imaging.agreement import dice
from imaging.coregister import moved_onto
from imaging.grid import Grid
from imaging.nifti import read_nifti, write_nifti
from imaging.volume import Quantity
from planning.contour.classes import CONTRASTS
from planning.contour.margins import expand

from .parts import Targets, missed
from .real_heads import hull, is_in
from .record import report

TARGETS: Targets = {
    "dice.Brain": (">=", 0.9),
    "dice.Brainstem": (">=", 0.9),
    "dice.Eye": (">=", 0.9),
    "dice.OpticNrv": (">=", 0.7),
    "dice.Hippocampus": (">=", 0.7),
    "dice.WT": (">=", 0.8),
    "brain_dice_colin27": (">=", 0.95),
    "swapped_sides": ("<=", 0),
    "margin_worst_voxels": ("<=", 0.5),
    "seconds_per_head": ("<=", 60.0),
    "peak_gib": ("<=", 6.0),
}
_SEED = 20270  # of patients; those of training and of the calibration come from others
_REAL = "tcga_fg_6692"
_REAL_SETS = {"all": CONTRASTS, "flair": ("flair",), "t2": ("t2",), "t1c+flair": ("t1c", "flair")}
_FILES = {"t1": "t1n", "t1c": "t1c", "t2": "t2w", "flair": "t2f"}
_COMMAND = str(Path(sys.executable).with_name("spindose"))


def main() -> int:
    """Synthetic patients, then real heads, margins and cost, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=ZOO)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=_SEED)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--no-record", action="store_true")
    asked = parser.parse_args()
    nets = read_contourer(asked.weights)
    rows = [row(asked.seed, k, nets, asked.keep) for k in range(asked.first, asked.cases)]
    figures: dict[str, Any] = {"cases": len(rows), **_summary(rows), **margins()}
    if "SPINDOSE_DATA" in os.environ:
        data = Path(os.environ["SPINDOSE_DATA"])
        figures |= colin27(data / "head", nets)
        figures["tumour_cc_real"] = real_tumour(data / "tumour_mri" / _REAL, nets)
    if not asked.no_record:
        figures |= cost(asked.weights)
    flat = {**figures, **{f"dice.{name}": value for name, value in figures["dice"].items()}}
    not_met = missed(flat, TARGETS)
    if not asked.no_record:
        report("contouring", figures)
    return 1 if not_met else 0


def row(seed: int, k: int, nets: Contourer, keep: Path | None) -> dict[str, Any]:
    """Scores of one patient by what was seen of it, read where an earlier run kept them."""
    with tempfile.TemporaryDirectory() as folder:
        told = scored_patient(seed, k, nets, keep or Path(folder))
    found = {name: round(d, 2) for name, d in told["all"]["dice"].items()}
    print(k, found, told["all"]["regions"], flush=True)
    return told


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    each = {name: _means([r[name] for r in rows]) for name in (*SETS, CT)}
    return {
        "dice": {name: mean for name, (mean, _) in each["all"].items()},
        "dice_sd": {name: sd for name, (_, sd) in each["all"].items()},
        "dice_by_contrasts": {
            name: {structure: mean for structure, (mean, _) in of.items()} for name, of in each.items()
        },
        "swapped_sides": sum(len(r[name]["swapped"]) for r in rows for name in each),
        "not_found": sum(len(r["all"]["missing"]) for r in rows),
    }


def _means(scores: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Mean and spread of each structure's Dice over patients, both sides together, and of tumour regions."""
    values: dict[str, list[float]] = {}
    for one in scores:
        for name, value in {**one["dice"], **one["regions"]}.items():
            values.setdefault(name.removesuffix("_L").removesuffix("_R"), []).append(value)
    return {name: (float(np.mean(of)), float(np.std(of))) for name, of in values.items()}


def colin27(folder: Path, nets: Contourer) -> dict[str, Any]:
    """Brain of a real head against its labels, closed and filled as a physician draws it."""
    mr = read_nifti(folder / "colin27_t1.nii.gz", Quantity.MR)
    truth = read_nifti(folder / "colin27_labels.nii.gz", Quantity.LABEL).data[0]
    made = nets(in_channels([mr], ["t1"]))
    return {
        "brain_dice_colin27": dice(hull(is_in(truth, 3, 4, 5)), made.masks["Brain"]),
        "body_dice_colin27": dice(truth > 0, made.masks["Body"]),
        "missing_colin27": len(made.missing),
        "tumour_cc_colin27": float((made.tumour.data > 0).sum()) * mr.grid.voxel_volume / 1000,
    }


def real_tumour(folder: Path, nets: Contourer) -> dict[str, float]:
    """Volume (cm³) of a real tumour with its oedema by the contrasts it is seen in, which should agree."""
    told = {}
    for name, seen in _REAL_SETS.items():
        first, *others = (read_nifti(folder / f"{_FILES[c]}.nii.gz", Quantity.MR) for c in seen)
        # As ``spindose contour --register``: this patient moved between the scans.
        made = nets(in_channels([first, *(moved_onto(one, first) for one in others)], seen))
        told[name] = float((made.tumour.data > 0).sum()) * made.tumour.grid.voxel_volume / 1000
    return told


def margins() -> dict[str, float]:
    """How far boxes grow from what was asked for, at worst, over margins and thicknesses of slices."""
    worst_mm, worst = 0.0, 0.0
    for spacing in ((1.0, 1.0, 1.0), (1.0, 1.0, 2.5), (0.7, 1.3, 3.0)):
        grid = Grid((71, 71, 41), np.diag([*spacing, 1.0]))
        mask = torch.zeros(grid.shape, dtype=torch.bool)
        mask[30:41, 30:41, 18:23] = True
        for margin in np.arange(1.0, 18.0, 0.7):
            away = (
                mask.nonzero().amin(dim=0) - expand(mask, grid, float(margin)).nonzero().amin(dim=0)
            ).numpy()
            apart = np.abs(away * np.array(spacing) - margin)
            worst_mm, worst = max(worst_mm, float(apart.max())), max(worst, float((apart / spacing).max()))
    return {"margin_worst_mm": worst_mm, "margin_worst_voxels": worst}


def cost(weights: Path) -> dict[str, Any]:
    """Seconds and memory of the command on one head of 192×224×192 mm, all four contrasts."""
    patient = held_out(_SEED, 1, CONTRASTS)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for name, volume in patient.scans.items():
            write_nifti(volume, here / f"{_FILES[name]}.nii.gz")
        words = [str(here / f"{_FILES[name]}.nii.gz") for name in CONTRASTS]
        started = time.perf_counter()
        subprocess.run(
            [_COMMAND, "contour", *words, "--out", str(here / "out"), "--weights", str(weights)],
            check=True,
            capture_output=True,
        )
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    shape = list(patient.scans["t1"].grid.shape)
    return {"shape": shape, "seconds_per_head": seconds, "peak_gib": peak}


if __name__ == "__main__":
    raise SystemExit(main())
