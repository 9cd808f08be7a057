"""Dose–volume histograms against closed forms and other systems: ``python -m benchmarks.dvh_accuracy``.

The balls and cylinders of Nelms et al., Med. Phys. 42, 4435 (2015), drawn on slices of 0.2, 1, 2 and 3 mm,
in its linear doses on grids of 1, 2 and 3 mm: every metric against its closed form. The radius is 12 mm and
the first and last contours lie 24 mm apart; a cylinder goes on for half a slice at both ends, a ball does
not, as in that paper. A metric is within if it is off by at most 1 % of its value, or by no more than 0.5 mm
of the gradient does (0.5 Gy; for a volume at a dose, 0.5 Gy of the curve). Beside ours: the histogram of the
mask of the same contours on 1 mm voxels, and dicompyler-core where SPINDOSE_DICOMPYLER names the Python of
its environment (``peer/dicompyler_dvh.py``).

The prostate of SlicerRT: the data hold its dose and the tables of Eclipse, CERR and SlicerRT, but no
contours. What can be compared without them: above the dose of anything outside the body, the absolute
volume of the body at a dose is that of the whole grid, and so are the doses of its hottest volumes.

Needs SPINDOSE_DATA.
"""

import csv
import gzip
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
import torch
from jaxtyping import Float64

from imaging.contours import Polygon, to_mask
from imaging.dicom.rtdose import read_rtdose
from imaging.grid import Grid, axial, indices
from imaging.volume import Quantity, Volume
from planning.check.contoured import contoured_histogram
from planning.check.dvh import (
    Dvh,
    dose_at_cc,
    dose_at_share,
    histogram,
    maximum,
    mean,
    minimum,
    share_at_dose,
)

from .record import Figures, report

_PEER = Path(__file__).parent / "peer" / "dicompyler_dvh.py"
_RADIUS = 12.0
_HEIGHT = 24.0
_DIRECTIONS = {"AntPost": 1, "SupInf": 2}
_CURVE = np.linspace(-1.5, 1.5, 200_001)
_PERCENTS = (99.0, 95.0, 50.0, 5.0, 1.0)
# Dose (Gy) above which the prostate's grid holds next to nothing outside the body: below, the grid's volume
# exceeds every table's, and the more the lower the dose.
_OUTSIDE_AT_MOST = 15.0
_DOSES = (8.0, 12.0, 16.0, 20.0, 24.0)

Metrics = dict[str, float]


def main() -> int:
    """Figures of the analytic shapes and of the prostate; 1 if a metric is beyond what is allowed."""
    data = os.environ.get("SPINDOSE_DATA")
    folder = Path(data) / "dvh" if data else None
    if folder is None or not folder.is_dir():
        print("skipped: SPINDOSE_DATA names no folder with dvh")
        return 0
    ours, beside = _nelms(folder / "nelms")
    report(
        "dvh_accuracy",
        {
            "nelms_worst_percent": ours.worst_percent,
            "nelms_worst_at": ours.worst_at,
            **beside,
            "slicerrt": _prostate(folder / "slicerrt_prostate"),
        },
    )
    return 0 if ours.n_within == ours.n_metrics else 1


def _nelms(folder: Path) -> tuple["_Score", Figures]:
    """How far every metric of every shape in every dose is from its closed form."""
    cases = [(axis, step) for axis in _DIRECTIONS for step in (1, 2, 3)]
    files = [folder / "DOSE GRIDS" / f"Linear_{axis}_{step}mm_Aligned.dcm" for axis, step in cases]
    doses = [read_rtdose(file, summation="FRACTION")[0] for file in files]
    structures = sorted((folder / "STRUCTURES").glob("*.dcm"))
    ours, masks, dicompyler = _Score(), _Score(), _Score()
    truths: list[tuple[str, Metrics]] = []
    seconds = 0.0
    for path in structures:
        planes, grid = read_planes(path)
        for (axis, step), dose in zip(cases, doses, strict=True):
            where, true = f"{path.stem} {axis} {step} mm", truth(path.stem, axis, dose, planes, grid)
            started = time.perf_counter()
            found = contoured_histogram(dose, planes, grid)
            seconds += time.perf_counter() - started
            ours.add(where, metrics(found), true)
            masks.add(where, metrics(_of_mask(dose, planes, grid)), true)
            truths.append((where, true))
    python = os.environ.get("SPINDOSE_DICOMPYLER")
    if python:
        theirs = _dicompyler(python, structures, files)
        for (where, true), one in zip(truths, theirs, strict=True):
            dicompyler.add(where, one, true)
    return ours, {
        "nelms_seconds_each": seconds / (len(structures) * len(cases)),
        "nelms_contours": ours.figures(),
        "nelms_mask_of_1_mm": masks.figures(),
        "nelms_dicompyler_core": dicompyler.figures() if python else None,
        # The data hold no numbers of the paper's commercial systems.
        "nelms_commercial": None,
    }


class _Score:
    """Metrics counted by how far they are from the truth."""

    def __init__(self) -> None:
        self.n_metrics = self.n_within = self.n_within_1_percent = 0
        self.worst_percent = self.worst_gy = self.worst_volume_percent = 0.0
        self.worst_at = self.worst_gy_at = ""

    def add(self, where: str, found: Metrics, true: Metrics) -> None:
        """One histogram."""
        for key in found:
            self._add(f"{where} {key}", key, found[key], true)

    def _add(self, where: str, key: str, found: float, true: Metrics) -> None:
        off = abs(found - true[key])
        percent = 100 * off / abs(true[key])
        if key.startswith("D"):
            allowed = 0.5
            if off > self.worst_gy:
                self.worst_gy, self.worst_gy_at = off, where
        else:
            allowed = true.get(f"{key} in 0.5 mm", 0.0)
        if key == "volume":
            self.worst_volume_percent = max(self.worst_volume_percent, percent)
        # In percent of the value as in the paper; where 0.5 mm is more than that, in those.
        relative = off / max(abs(true[key]) / 100, allowed, 1e-9)
        self.n_metrics += 1
        self.n_within += relative <= 1
        self.n_within_1_percent += percent <= 1
        if percent > self.worst_percent:
            self.worst_percent, self.worst_at = percent, where

    def figures(self) -> dict[str, object]:
        """As the report has them."""
        return {
            "metrics": self.n_metrics,
            "within_1_percent_or_half_mm": self.n_within,
            "within_1_percent": self.n_within_1_percent,
            "worst_percent": self.worst_percent,
            "worst_percent_at": self.worst_at,
            "worst_gy": self.worst_gy,
            "worst_gy_at": self.worst_gy_at,
            "worst_volume_percent": self.worst_volume_percent,
        }


def read_planes(path: Path) -> tuple[dict[float, list[Polygon]], Grid]:
    """The contours of the one drawn structure of a file, and the grid of 1 mm that they refer to."""
    dataset = pydicom.dcmread(path)
    (roi,) = (r for r in dataset.ROIContourSequence if "ContourSequence" in r)
    contours = [np.array(c.ContourData, dtype=np.float64).reshape(-1, 3) for c in roi.ContourSequence]
    points = np.concatenate(contours)
    # The outer contours lie in the middle of slices.
    grid = axial(points.min(axis=0) - 4.5, points.max(axis=0) + 4.5, (1.0, 1.0, 1.0))
    planes: dict[float, list[Polygon]] = {}
    for contour in contours:
        index = indices(grid, contour)
        planes.setdefault(round(float(index[0, 2]), 6), []).append(np.ascontiguousarray(index[:, :2]))
    return planes, grid


def metrics(dvh: Dvh) -> Metrics:
    """What is compared: doses in Gy, volumes at a dose in % and the volume in cm³."""
    return {
        "volume": dvh.volume_cc,
        "Dmin": minimum(dvh),
        "Dmax": maximum(dvh),
        "Dmean": mean(dvh),
        **{f"D{x:g}%": dose_at_share(dvh, x) for x in _PERCENTS},
        "D0.03cc": dose_at_cc(dvh, 0.03),
        **{f"V{x:g}Gy": share_at_dose(dvh, x) for x in _DOSES},
    }


def truth(name: str, axis: str, dose: Volume, planes: Mapping[float, list[Polygon]], grid: Grid) -> Metrics:
    """The same by closed form, for a ball or an upright cylinder in a dose linear along y or z."""
    places = np.concatenate([p for polygons in planes.values() for p in polygons])
    z = np.array(sorted(planes)) + grid.affine[2, 3]
    middle = np.append((places.max(axis=0) + places.min(axis=0)) / 2 + grid.affine[:2, 3], (z[0] + z[-1]) / 2)
    level, slope = _linear(dose, _DIRECTIONS[axis], middle)
    half = _HEIGHT / 2 + (float(np.diff(z).min()) / 2 if name.startswith("Cylinder") else 0.0)
    share, reach, volume = _solid(name, axis, half)
    # Share of the volume above t mm up the gradient from the middle.
    t = _CURVE * reach
    above = share(np.clip(t, -reach, reach))

    def at(percent: float) -> float:
        return level + abs(slope) * float(np.interp(-percent / 100, -above, t))

    def at_dose(gy: float) -> float:
        return 100 * float(np.interp((gy - level) / abs(slope), t, above))

    half_mm = 0.5 * abs(slope)
    return {
        "volume": volume / 1000,
        "Dmin": level - abs(slope) * reach,
        "Dmax": level + abs(slope) * reach,
        "Dmean": level,
        **{f"D{x:g}%": at(x) for x in _PERCENTS},
        "D0.03cc": at(100 * 30 / volume),
        **{f"V{x:g}Gy": at_dose(x) for x in _DOSES},
        **{
            f"V{x:g}Gy in 0.5 mm": max(at_dose(x - half_mm) - at_dose(x), at_dose(x) - at_dose(x + half_mm))
            for x in _DOSES
        },
    }


def _linear(dose: Volume, axis: int, middle: Float64[np.ndarray, "3"]) -> tuple[float, float]:
    """Dose at a point and its slope (Gy/mm) along an axis, by a straight line through the rows around it."""
    rows = dose.data[0].double().movedim(axis, 0).reshape(dose.grid.shape[axis], -1).mean(dim=1).numpy()
    place = dose.grid.affine[axis, 3] + dose.grid.affine[axis, axis] * np.arange(len(rows)) - middle[axis]
    # Further out the dose stops at 0.
    near = np.abs(place) <= _RADIUS + 2
    (slope, level), (off, *_), *_ = np.polyfit(place[near], rows[near], 1, full=True)
    if off > 1e-6:
        raise ValueError(
            "expected a dose linear over the structure, got another; the closed forms do not hold"
        )
    return float(level), float(slope)


Share = Callable[[Float64[np.ndarray, " n"]], Float64[np.ndarray, " n"]]


def _solid(name: str, axis: str, half: float) -> tuple[Share, float, float]:
    """Share of a solid above a plane, how far it reaches from its middle (mm), and its volume (mm³)."""
    r = _RADIUS
    if name.startswith("Sphere"):
        return lambda t: (1 - t / r) ** 2 * (2 + t / r) / 4, r, 4 / 3 * np.pi * r**3
    volume = np.pi * r**2 * 2 * half
    if axis == "SupInf":
        return lambda t: (half - t) / (2 * half), half, volume
    return lambda t: (np.arccos(t / r) - t / r * np.sqrt(1 - (t / r) ** 2)) / np.pi, r, volume


def _of_mask(dose: Volume, planes: Mapping[float, list[Polygon]], grid: Grid) -> Dvh:
    """The histogram of a mask of the contours on the grid, each slice the nearest contour's."""
    z = np.array(sorted(planes))
    reach = max(float(np.diff(z).min()), 1.0) / 2
    mask = np.zeros(grid.shape, dtype=bool)
    for k in range(grid.shape[2]):
        # A slice midway takes the upper plane: half open, with rounding to spare.
        nearest = float(z[np.argmin(np.abs(z - k - 1e-3))])
        if -reach <= k - nearest + 1e-3 < reach:
            mask[:, :, k] = to_mask(planes[nearest], grid.shape[:2])
    return histogram(dose, torch.from_numpy(mask), grid)


def _dicompyler(python: str, structures: Sequence[Path], doses: Sequence[Path]) -> list[Metrics]:
    """The metrics of every structure in every dose by dicompyler-core, in the environment of ``python``."""
    asked = []
    for path in structures:
        dataset = pydicom.dcmread(path)
        (roi,) = (r for r in dataset.ROIContourSequence if "ContourSequence" in r)
        asked += [json.dumps([str(path), str(dose), int(roi.ReferencedROINumber)]) for dose in doses]
    done = subprocess.run(
        [python, str(_PEER)], input="\n".join(asked), capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def _prostate(folder: Path) -> dict[str, object]:
    """Volume of the body at a dose, of three systems and of the whole grid, and how far they are apart."""
    dose = _nrrd(folder / "EclipseProstate_Dose.nrrd")
    whole = histogram(dose, torch.ones(dose.grid.shape, dtype=torch.bool), dose.grid)
    tables = {
        n: _table(folder / f"EclipseProstate_DvhTable_{n}.csv") for n in ("Eclipse", "CERR", "SlicerRT")
    }
    levels = np.arange(_OUTSIDE_AT_MOST, 46.6, 0.5)
    ours = np.array([share_at_dose(whole, x) / 100 * whole.volume_cc for x in levels])
    theirs = {name: np.interp(levels, *table) for name, table in tables.items()}
    low, high = np.min(list(theirs.values()), axis=0), np.max(list(theirs.values()), axis=0)
    beyond = np.maximum(np.maximum(low - ours, ours - high), 0)
    return {
        "levels": len(levels),
        "levels_within_spread": int((beyond == 0).sum()),
        "worst_beyond_spread_cc": float(beyond.max()),
        "worst_beyond_spread_percent": float((100 * beyond / ours).max()),
        "worst_spread_percent": float((100 * (high - low) / ours).max()),
        **{
            f"hottest_{cc:g}cc_gy": {"ours": dose_at_cc(whole, cc)}
            | {name.lower(): _hottest(table, cc) for name, table in tables.items()}
            for cc in (10.0, 100.0, 1000.0)
        },
        **{
            f"worst_from_{name.lower()}_percent": float((100 * np.abs(ours - t) / ours).max())
            for name, t in theirs.items()
        },
    }


def _table(path: Path) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Doses (Gy) and the body's volume (cm³) that receives at least each."""
    header, *rows = list(csv.reader(path.read_text().splitlines()))
    found = re.search(r"% of ([\d.]+) cc", header[1])
    if found is None:
        raise ValueError(f"expected the volume of the body in the header of {path.name}, got {header[1]}")
    values = np.array([[float(row[0]), float(row[1])] for row in rows if row and row[0]])
    return values[:, 0], values[:, 1] / 100 * float(found[1])


def _hottest(table: tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]], cc: float) -> float:
    """Dose (Gy) that the hottest volume receives at least, by a table of falling volumes."""
    doses, volumes = table
    return float(np.interp(-cc, -volumes, doses))


def _nrrd(path: Path) -> Volume:
    """A gzipped NRRD of floats in LPS, as this one file is."""
    header, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in header.decode().splitlines() if ": " in line)
    wanted = {"type": "float", "space": "left-posterior-superior", "encoding": "gzip", "endian": "little"}
    if any(fields.get(key) != value for key, value in wanted.items()):
        raise ValueError(f"expected little-endian gzipped floats in LPS in {path.name}, got {fields}")
    shape = tuple(int(n) for n in fields["sizes"].split())
    affine = np.eye(4)
    affine[:3, :3] = (
        np.array(re.findall(r"[-\d.e]+", fields["space directions"]), dtype=float).reshape(3, 3).T
    )
    affine[:3, 3] = np.array(re.findall(r"[-\d.e]+", fields["space origin"]), dtype=float)
    values = np.frombuffer(gzip.decompress(body), dtype="<f4").reshape(shape[::-1]).transpose(2, 1, 0)
    grid = Grid((shape[0], shape[1], shape[2]), affine)
    return Volume(torch.from_numpy(values.copy()[None]), grid, Quantity.DOSE)


if __name__ == "__main__":
    sys.exit(main())
