"""Synthetic CT by the shipped networks, on heads that they never saw: ``python -m benchmarks.synthetic_ct``.

Synthetic patients of other seeds have a true CT: errors from T1, T2, FLAIR, a gradient echo (T2*) that no
step of training has seen, and all together, beside water, bulk densities of the true CT and of the MRI, and
an atlas. A plan is made on the CT of each T1 and recomputed on the true one, with bands of its dose. Real
Colin27 has labels: bone is scored outside the brain, as `real_heads` says; four contrasts of a real patient
must agree (`real_contrasts`); both need SPINDOSE_DATA.
Time and memory are those of ``spindose mr2ct`` on one head of 1 mm, from file to files. With --keep a killed
run goes on, and several may share the patients (--first, --cases, --no-record) before one sums them up.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import wilcoxon

from app.ct_baselines import from_mri
from app.ct_nets import calibration_of, read_nets
from app.head_ct import aligned
from app.held_out import HeldOut, held_out
from imaging.agreement import dice
from imaging.nifti import read_nifti, write_nifti
from imaging.resample import resample
from imaging.shapes import Mask
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from mr2ct.baselines import AIR_BELOW
from mr2ct.calibration import Calibration, deviation, half_width
from mr2ct.convert import SyntheticCt, convert
from mr2ct.quality import BONE_LEVELS, baselines, coverage, quality
from mr2ct.unseen import shown

from .parts import Targets, missed
from .real_contrasts import contrasts
from .real_heads import hull, is_in
from .record import report
from .synthetic_ct_dose import dose_row, dose_summary

TARGETS: Targets = {
    "mae_hu_t1": ("<=", 60.0),
    "mae_hu_unseen_contrast": ("<=", 70.0),
    "bone_dice_colin27": (">=", 0.8),
    "air_dice_colin27": (">=", 0.5),
    "head_dice_colin27": (">=", 0.97),
    "contrasts_pair_mae_hu_max": ("<=", 60.0),
    "target_mean_error_percent_max": ("<=", 1.0),
    "gamma_2_2_percent": (">=", 98.0),
    "gamma_1_1_percent": (">=", 95.0),
    "band_coverage_percent_from_90": ("<=", 5.0),
    "seconds_per_head": ("<=", 60.0),
    "peak_gib": ("<=", 6.0),
}
SEEN, UNSEEN = ("t1", "t2", "flair"), "t2star"
_SEED = 20260  # of patients; training heads come from another stream
_LAPLACE_90 = math.log(10) / math.sqrt(2)  # standard deviations either side that hold 90 % of a Laplace one
_TIMED = 1  # the patient whose T1 is timed
_COMMAND = str(Path(sys.executable).with_name("spindose"))
_WITH_PRIOR = 5  # patients that baselines of the MRI are tried on: they take a minute each


def main() -> int:
    """Synthetic patients, then Colin27, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, nargs="*", default=[])
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--intervals", type=Path)
    parser.add_argument("--no-dose", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--no-record", action="store_true")
    asked = parser.parse_args()
    nets, config = read_nets(asked.weights)
    calibration = None if asked.no_dose else calibration_of(asked.weights, asked.intervals)

    def by_networks(mr: Volume) -> SyntheticCt:
        return convert(mr, nets, config)

    rows = [_row(k, by_networks, calibration, asked.keep) for k in range(asked.first, asked.cases)]
    figures: dict[str, Any] = {"networks": len(nets), "cases": len(rows), **_summary(rows)}
    figures |= dose_summary([row["dose"] for row in rows if row.get("dose")])
    if "SPINDOSE_DATA" in os.environ:
        data = Path(os.environ["SPINDOSE_DATA"])
        figures |= colin27(data / "head", by_networks)
        figures |= contrasts(data / "tumour_mri" / "tcga_fg_6692", by_networks)
    if not asked.no_record:
        figures |= cost(asked.weights)
    not_met = missed(figures, TARGETS)
    if not asked.no_record:
        report("synthetic_ct", figures)
    return 1 if not_met else 0


def _row(k: int, by_networks: Any, calibration: Calibration | None, keep: Path | None) -> dict[str, Any]:
    """Figures of one patient, read where an earlier run kept them."""
    kept = None if keep is None else keep / f"{k}.json"
    if kept is not None and kept.is_file():
        return dict(json.loads(kept.read_text()))
    patient = held_out(_SEED, k, (*SEEN, UNSEEN))
    row = _patient(patient, k, by_networks, calibration)
    row["conditions"] = conditions(patient)
    if calibration is not None:
        row["dose"] = dose_row(patient, by_networks(patient.scans["t1"]), calibration, k)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(row))
    return row


def _patient(patient: HeldOut, k: int, by_networks: Any, calibration: Calibration | None) -> dict[str, Any]:
    """Figures of the CT numbers of one patient, by what its CT was made of."""
    truth, volumes = patient.truth, patient.scans
    body = patient.tissues.data[0] != Tissue.OUTSIDE
    row: dict[str, Any] = {}
    for name in (*SEEN, UNSEEN):
        made = by_networks(volumes[name])
        here = body & shown(volumes[name])
        figures = quality(made.ct, truth, here).as_json()
        figures["covered"] = _covered(made, truth, here, calibration)
        row[name] = figures
    together = replace(volumes["t1"], data=torch.cat([volumes[name].data for name in SEEN]))
    here = body & shown(volumes["t1"])
    row["together"] = quality(by_networks(together).ct, truth, here).as_json()
    for name, volume in baselines(truth, body).items():
        row[name] = quality(volume, truth, here).as_json()
    if k < _WITH_PRIOR:
        for name, ct in from_mri(aligned(volumes["t1"], lambda *_: None)).items():
            row[name] = quality(resample(ct, truth.grid), truth, here).as_json()
    print(f"{k}: " + ", ".join(f"{name} {one['mae']:.0f} HU" for name, one in row.items()), flush=True)
    return row


def conditions(patient: HeldOut) -> dict[str, Any]:
    """What no network can help: slices of scans (mm, 0 of a volume), kernel and noise (HU) of the true CT.

    Noise is the mean distance of white matter's CT numbers from their median.
    """
    white = patient.truth.data[0][patient.tissues.data[0] == Tissue.WHITE].float()
    return {
        "slices_mm": {name: patient.traits["mri"][name]["thickness"] for name in patient.scans},
        "kernel": patient.traits["ct"]["kernel"],
        "noise_hu": float((white - white.median()).abs().mean()),
    }


def _covered(made: SyntheticCt, truth: Volume, here: Mask, calibration: Calibration | None) -> float:
    """Share of voxels in their 90 % intervals: the calibrated ones, or those that networks tell."""
    if calibration is None:
        return coverage(made.ct, made.uncertainty, truth, here, _LAPLACE_90)
    half = half_width(made.ct, deviation(made, calibration), calibration, 0.9)
    return coverage(made.ct, half, truth, here, 1.0)


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians and spread over patients, and paired tests against every baseline."""
    names = [name for name in rows[0] if name not in ("dose", "conditions")]
    mae = {name: np.array([row[name]["mae"] for row in rows if name in row]) for name in names}
    others = [name for name in names if name not in (*SEEN, UNSEEN, "together")]
    return {
        "mae_hu_t1": float(np.median(mae["t1"])),
        "mae_hu_unseen_contrast": float(np.median(mae[UNSEEN])),
        "mae_hu_together": float(np.median(mae["together"])),
        "mae_hu_baselines": {name: float(np.median(mae[name])) for name in others},
        "mae_hu_quartiles": {name: np.percentile(mae[name], [25, 75]).tolist() for name in names},
        "p_against": {name: _p(mae["t1"][: len(mae[name])], mae[name]) for name in others},
        "by_contrast": {name: _medians([row[name] for row in rows]) for name in (*SEEN, UNSEEN, "together")},
        "by_conditions": _by_conditions(rows),
        "covered_of_90_percent": {
            name: float(np.median([row[name]["covered"] for row in rows])) for name in (*SEEN, UNSEEN)
        },
    }


def _by_conditions(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median and number of scans that are volumes or slices, against CTs of either kernel; noise."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        told = row["conditions"]
        for name in (*SEEN, UNSEEN):
            what = f"{'slices' if told['slices_mm'][name] > 0 else 'volume'}, {told['kernel']} kernel"
            found.setdefault(what, {}).setdefault(name, []).append(row[name]["mae"])
    return {
        "noise_hu": float(np.median([row["conditions"]["noise_hu"] for row in rows])),
        **{
            what: {name: [float(np.median(maes)), len(maes)] for name, maes in each.items()}
            for what, each in sorted(found.items())
        },
    }


def _p(ours: np.ndarray, theirs: np.ndarray) -> float | None:
    """One-sided Wilcoxon signed-rank test that our error is smaller; None of fewer than five patients."""
    return float(wilcoxon(ours, theirs, alternative="less").pvalue) if len(ours) > 4 else None


def _medians(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    plain = ("mae", "bias", "psnr", "ssim", "ms_ssim", "air_dice", "bone_surface_mm", "bone_surface_95_mm")
    found = {name: float(np.median([f[name] for f in figures if f[name] is not None])) for name in plain}
    bone = f"{BONE_LEVELS[0]:g} HU"
    tissues = ("air", "fat", "soft tissue", "bone")
    return {
        **found,
        "bone_dice": float(np.median([f["bone_dice"][bone] for f in figures])),
        "mae_by_tissue": {
            name: float(np.median([f["tissues"][name]["mae"] for f in figures if name in f["tissues"]]))
            for name in tissues
        },
    }


def cost(weights: Sequence[Path]) -> dict[str, Any]:
    """Seconds and memory of the command in a process of its own, on an idle machine."""
    mr = held_out(_SEED, _TIMED).scans["t1"]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        write_nifti(mr, here / "t1.nii.gz")
        asked = ["mr2ct", "t1.nii.gz", "--out", "ct.nii.gz", "--uncertainty", "deviation.nii.gz"]
        given = [word for path in weights for word in ("--weights", str(path.resolve()))]
        started = time.perf_counter()
        subprocess.run([_COMMAND, *asked, *given], cwd=here, check=True)
        seconds = time.perf_counter() - started
    return {
        "shape": list(mr.grid.shape),
        "seconds_per_head": seconds,
        "peak_gib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20,
    }


def colin27(head: Path, by_networks: Any) -> dict[str, Any]:
    """Dice of bone (outside the brain), cavities and head on a real T1 that no training saw."""
    mr = read_nifti(head / "colin27_t1.nii.gz", Quantity.MR)
    truth = read_nifti(head / "colin27_labels.nii.gz", Quantity.LABEL).data[0]
    hu = by_networks(mr).ct.data[0]
    brain = hull(is_in(truth, 3, 4, 5))
    inside = hull(hu >= AIR_BELOW)
    bones = {level: dice((truth == 2) & ~brain, (hu >= level) & ~brain) for level in BONE_LEVELS}
    # Below the commissures labels call most bone of the face scalp, and walls of its cavities air.
    upright = mr.grid.affine[2, 3] + mr.grid.affine[2, 2] * np.arange(mr.grid.shape[2])
    vault = ~brain & torch.from_numpy(upright > 0)
    return {
        "bone_dice_colin27_above_commissures": dice((truth == 2) & vault, (hu >= BONE_LEVELS[1]) & vault),
        "bone_dice_colin27": bones[BONE_LEVELS[1]],
        "bone_dice_colin27_by_level": {f"{level:g} HU": value for level, value in bones.items()},
        "air_dice_colin27": dice(truth == 6, inside & (hu < AIR_BELOW)),
        "head_dice_colin27": dice(truth > 0, inside),
    }


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    sys.exit(main())
