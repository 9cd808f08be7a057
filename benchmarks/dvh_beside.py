"""Histograms of one conformant set by three programs: ``python -m benchmarks.dvh_beside``; JSON comes last.

The set of the data (``dicom_rt/conformant``: CT, RTSTRUCT and RTDOSE of 3 mm, with a ring drawn as a keyhole
and as two contours) by ours, by plastimatch (Debian's) and by dicompyler-core (``peer/dicompyler``). Of each
structure the volume, the mean dose and doses at shares of the volume; then the furthest that each program is
from ours. Plastimatch bins the dose, dicompyler-core by 0.01 Gy; a structure goes on for half a slice beyond
its ends in ours, and ends at them in dicompyler-core. A program that is not installed has no figures. Needs
SPINDOSE_DATA.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from imaging.dicom.rtdose import read_rtdose
from imaging.dicom.rtstruct_reader import read_contours
from planning.check.contoured import contoured_histograms
from planning.check.dvh import dose_at_share, mean

from .dicompyler import interpreter, peer_metrics

_BIN_GY = 0.05
_PERCENTS = (99.0, 95.0, 50.0, 5.0, 1.0)

# Metrics of a structure: volume in cm³, the rest in Gy.
Metrics = dict[str, float]


def main() -> None:
    """Metrics of every structure by every program, and how far each is from ours."""
    data = os.environ.get("SPINDOSE_DATA")
    folder = Path(data) / "dicom_rt" / "conformant" if data else None
    if folder is None or not folder.is_dir():
        print(json.dumps({"skipped": "SPINDOSE_DATA names no folder with dicom_rt/conformant"}))
        return
    structures, dose = folder / "RS.dcm", folder / "RD16.dcm"
    found = {"ours": _ours(structures, dose)}
    if shutil.which("plastimatch"):
        found["plastimatch"] = _plastimatch(folder, structures, dose)
    python = interpreter()
    if python is not None:
        names = list(found["ours"])
        found["dicompyler_core"] = dict(zip(names, peer_metrics(python, [structures], [dose]), strict=True))
    away = {name: away_from(found["ours"], theirs) for name, theirs in found.items() if name != "ours"}
    print(json.dumps({**found, "furthest_from_ours": away}))


def _ours(structures: Path, dose: Path) -> dict[str, Metrics]:
    dvhs = contoured_histograms(read_rtdose(dose)[0], read_contours(structures))
    return {
        name: {
            "volume": dvh.volume_cc,
            "Dmean": mean(dvh),
            **{f"D{x:g}%": dose_at_share(dvh, x) for x in _PERCENTS},
        }
        for name, dvh in dvhs.items()
    }


def _plastimatch(folder: Path, structures: Path, dose: Path) -> dict[str, Metrics]:
    """The metrics of the curves that ``plastimatch dvh`` writes."""
    highest = float(read_rtdose(dose)[0].data.max())
    with tempfile.TemporaryDirectory() as work:
        # It takes the first dose that it finds: no other may lie beside it.
        for file in (structures, dose, *sorted(folder.glob("CT*.dcm"))):
            shutil.copy(file, work)
        table = Path(work) / "dvh.csv"
        options = ["--normalization", "vox", "--bin-width", str(_BIN_GY)]
        options += ["--num-bins", str(int(highest / _BIN_GY) + 2)]
        said = subprocess.run(
            ["plastimatch", "dvh", "--input", work, "--output-csv", str(table), *options],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        header, *rows = list(csv.reader(table.read_text().splitlines()))
    size = re.search(r"checking voxel size\.\.\.\n([\d.]+) ([\d.]+) ([\d.]+)", said)
    if size is None:
        raise ValueError("expected plastimatch to say the size of its voxels, got none")
    voxel_cc = float(np.prod([float(mm) for mm in size.groups()])) / 1000
    values = np.array(rows, dtype=np.float64)
    return {name: _of_curve(values[:, 0], values[:, n + 1], voxel_cc) for n, name in enumerate(header[1:])}


def _of_curve(doses: np.ndarray, voxels: np.ndarray, voxel_cc: float) -> Metrics:
    """Metrics of a cumulative histogram: voxels that receive at least each dose."""
    share = voxels / voxels[0]
    return {
        "volume": float(voxels[0]) * voxel_cc,
        # The integral of the curve, by trapezoids.
        "Dmean": float(((share[1:] + share[:-1]) / 2 * np.diff(doses)).sum()),
        **{f"D{x:g}%": float(np.interp(-x / 100, -share, doses)) for x in _PERCENTS},
    }


def away_from(ours: Mapping[str, Metrics], theirs: Mapping[str, Metrics]) -> dict[str, dict[str, float]]:
    """For each structure the furthest that doses (Gy) and the volume (%) of a program are from ours."""
    return {
        name: {
            "dose_gy": max(abs(theirs[name][key] - ours[name][key]) for key in ours[name] if key != "volume"),
            "volume_percent": 100 * (theirs[name]["volume"] / ours[name]["volume"] - 1),
        }
        for name in ours
        if name in theirs
    }


if __name__ == "__main__":
    main()
