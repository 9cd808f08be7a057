"""Synthetic CT of scans that are hard: ``python -m benchmarks.synthetic_ct_hard``.

Synthetic patients after surgery, with bone flaps, plates, clips and cavities, that no training saw: their T1
as it is, as a stack of thick slices with gaps, with its vertex missing, and with a side missing; each is
converted as the command does it. Truth is the CT at the same voxels; slices of it are averaged as those of
the MRI. What is scored lies where the scan shows something. Last comes noise in the shape of a head, which
nothing can be learnt from and which must be refused.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from app.ct_nets import calibration_of, read_nets
from app.examined import examined, judged
from app.held_out import HeldOut, held_out
from imaging.agreement import hu_mae
from imaging.resample import resample
from imaging.tissue import Tissue
from imaging.volume import Volume
from mr2ct.calibration import Calibration, deviation, half_width
from mr2ct.convert import predicted, unsureness
from mr2ct.domain import explained
from mr2ct.quality import coverage, quality
from mr2ct.unseen import shown
from synth.field_of_view import cropped
from synth.sampling import along
from synth.slices import slice_taps, stack

from .parts import Targets, missed
from .record import report

TARGETS: Targets = {
    "refused": ("<=", 0),
    "cuts_told": (">=", 1.0),
    "noise_refused": (">=", 1.0),
}
_SEED = 20261  # of patients; `synthetic_ct` has the stream before
_THICKNESS, _GAP = 5.0, 1.0  # mm
_VERTEX, _SIDE = 30.0, 25.0  # mm of the head that are cut off
_AROUND = 10.0  # mm of metal where errors are told apart
_NOISE = "noise"
_TOLD = {"vertex missing": "top", "side missing": "left"}  # as `examined` names what is cut


@dataclass(frozen=True, eq=False)
class Hard:
    """A scan, and the true CT and tissues at its voxels."""

    mr: Volume
    truth: Volume
    tissues: Volume


def main() -> int:
    """Every patient in every way, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--weights", type=Path, nargs="*", default=[])
    parser.add_argument("--no-record", action="store_true")
    asked = parser.parse_args()
    nets = read_nets(asked.weights)
    calibration = calibration_of(asked.weights, None)
    rows: dict[str, list[dict[str, Any]]] = {}
    for k in range(asked.cases):
        patient = held_out(_SEED, k, recipe="postoperative")
        for name, hard in ways(patient):
            rows.setdefault(name, []).append(_row(name, hard, nets, calibration))
            print(k, name, rows[name][-1], flush=True)
    noise = rows.pop(_NOISE)
    figures: dict[str, Any] = {
        "cases": asked.cases,
        "refused": sum(bool(row["reasons"]) for each in rows.values() for row in each),
        "cuts_told": float(np.mean([row["told"] for name in _TOLD for row in rows[name]])),
        "noise_refused": float(np.mean([bool(row["reasons"]) for row in noise])),
        "noise_explained": float(np.max([row["explained"] for row in noise])),
        "noise_unsure_hu": float(np.median([row["unsure_hu"] for row in noise])),
        **{name: _summary(each) for name, each in rows.items()},
    }
    not_met = missed(figures, TARGETS)
    report("synthetic_ct_hard", figures, keep=not asked.no_record)
    return 1 if not_met else 0


def ways(patient: HeldOut) -> Iterator[tuple[str, Hard]]:
    """The scan of a patient as it is, and made hard in every way."""
    whole = Hard(patient.scans["t1"], patient.truth, patient.tissues)
    yield "whole", whole
    yield "thick", _thick(whole)
    # Axes run to the patient's left, back and head (LPS and upright).
    head = np.argwhere(patient.tissues.data[0].numpy() != Tissue.OUTSIDE)
    spacing = patient.truth.grid.spacing
    upright = np.diag(patient.truth.grid.affine)[:3] > 0
    for name, axis, mm in (("vertex missing", 2, _VERTEX), ("side missing", 0, _SIDE)):
        window = [(0, n) for n in patient.truth.grid.shape]
        n = round(mm / spacing[axis])
        if upright[axis]:
            window[axis] = (0, int(head[:, axis].max()) - n)
        else:
            window[axis] = (int(head[:, axis].min()) + n, window[axis][1])
        yield name, Hard(*(_window(v, window) for v in (whole.mr, whole.truth, whole.tissues)))
    yield _NOISE, replace(whole, mr=_noise(whole))


def _thick(hard: Hard) -> Hard:
    """Axial slices with gaps, of the scan and of the truth; tissues are those of the slices' middles."""
    of = stack(hard.mr.grid, "axial", _THICKNESS, _GAP)
    taps = slice_taps(hard.mr.grid, of)[2]

    def sliced(volume: Volume) -> Volume:
        return replace(volume, data=along(volume.data[0].float(), 2, taps)[None], grid=of.grid)

    return Hard(sliced(hard.mr), sliced(hard.truth), resample(hard.tissues, of.grid))


def _window(volume: Volume, window: Sequence[tuple[int, int]]) -> Volume:
    part, grid = cropped(volume.data[0], volume.grid, (window[0], window[1], window[2]))
    return replace(volume, data=part[None], grid=grid)


def _noise(hard: Hard) -> Volume:
    """Signal of a head's shape and quartiles, without any structure."""
    inside = hard.tissues.data != Tissue.OUTSIDE
    values = hard.mr.data[inside]
    shuffled = values[torch.randperm(len(values), generator=torch.Generator().manual_seed(_SEED))]
    return replace(hard.mr, data=hard.mr.data.clone().masked_scatter(inside, shuffled))


def _row(name: str, hard: Hard, nets: Any, calibration: Calibration | None) -> dict[str, Any]:
    """Figures of one conversion, by the steps of the command."""
    seen = examined(hard.mr)
    found = judged(predicted(seen.even, *nets), seen)
    row: dict[str, Any] = {
        "reasons": [*seen.reasons, *found.reasons],
        "told": _TOLD.get(name, "neck") in seen.cut,
        "unsure_hu": unsureness(found.ct),
        "explained": explained(seen.even, found.ct.ct, seen.head) if seen.head is not None else 0.0,
        "cautions": len(seen.cautions) + len(found.cautions),
    }
    if name == _NOISE:
        return row
    body = (hard.tissues.data[0] != Tissue.OUTSIDE) & shown(hard.mr)
    figures = quality(found.ct.ct, hard.truth, body)
    row |= {"mae": figures.mae, "bias": figures.bias, "bone_dice": figures.bone_dice["300 HU"]}
    row |= {"mae_bone": figures.tissues["bone"]["mae"], "air_dice": figures.air_dice}
    near = body & _near(hard.tissues.data[0] == Tissue.METAL, hard.truth.grid.spacing)
    if near.any():
        row["mae_near_metal"] = hu_mae(found.ct.ct, hard.truth, near)
    if calibration is not None:
        half = half_width(found.ct.ct, deviation(found.ct, calibration), calibration, 0.9)
        row["covered"] = coverage(found.ct.ct, half, hard.truth, body, 1.0)
        if near.any():
            row["covered_near_metal"] = coverage(found.ct.ct, half, hard.truth, near, 1.0)
    return row


def _near(metal: torch.Tensor, spacing: np.ndarray) -> torch.Tensor:
    """Within so many millimetres of metal; nowhere where there is none."""
    if not metal.any():
        return metal
    return torch.from_numpy(distance_transform_edt(~metal.numpy(), sampling=spacing) <= _AROUND)


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians and quartiles of figures, and what heads were refused for."""
    names = sorted({name for row in rows for name in row} - {"reasons", "told", "cautions"})
    told: dict[str, Any] = {"reasons": sorted({reason for row in rows for reason in row["reasons"]})}
    for name in names:
        values = [row[name] for row in rows if row.get(name) is not None]
        told[name] = float(np.median(values))
        told[f"{name}_quartiles"] = np.percentile(values, [25, 75]).tolist()
    return told


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    sys.exit(main())
