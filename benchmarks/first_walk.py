"""The demo as a user runs it, and the walk on a real head: ``python -m benchmarks.first_walk``.

The peer is what the field accepts: dciodvfy for the files; the published segmentation of Colin27 for the
anatomy. Without SPINDOSE_DATA or dciodvfy the figures that need them are null.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from scipy import ndimage

from imaging.agreement import dice
from imaging.folder import read_case
from imaging.nifti import read_nifti
from imaging.resample import resample
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from planning.check.dvh import dose_at_share, histograms

from .record import report

# A ball of 20 mm in the left frontal lobe of Colin27 (LPS mm).
_TARGET = "30,-42,24,20"


def main() -> None:
    """Times the demo in its own process, plans Colin27, and checks every DICOM file."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        seconds, gib = _spindose("demo", str(work / "demo"))
        figures: dict[str, float | int | str | None] = {"demo_seconds": seconds, "demo_peak_gib": gib}
        figures |= _colin27(work / "colin27")
        figures["dciodvfy_errors"] = _errors(work)
    report("first_walk", figures)


def _spindose(*arguments: str) -> tuple[float, float]:
    """Wall time (s) and peak memory (GiB) of one command."""
    started = time.monotonic()
    subprocess.run(
        [Path(sys.executable).parent / "spindose", *arguments], check=True, stdout=subprocess.DEVNULL
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return time.monotonic() - started, peak


def _colin27(out: Path) -> dict[str, float | None]:
    data = os.environ.get("SPINDOSE_DATA")
    if not data:
        return dict.fromkeys(("colin27_bone_dice", "colin27_head_dice", "colin27_ptv_d95_percent"))
    head = Path(data) / "head"
    seconds, _ = _spindose(
        "plan",
        str(head / "colin27_t1.nii.gz"),
        "--target",
        _TARGET,
        "--out",
        str(out),
        "--prescription",
        "60/30",
    )
    truth = read_nifti(head / "colin27_labels.nii.gz", Quantity.LABEL)
    ours = resample(read_case(out / "synthetic_ct").volumes["tissues"], truth.grid)
    bone, skull = ((v == Tissue.SKULL) | (v == Tissue.MARROW) for v in (ours.data[0], truth.data[0]))
    outside = ~_brain(truth)
    structures = read_case(out / "contours").structures
    dose = read_case(out / "dose").volumes["dose"]
    if structures is None:
        raise ValueError("expected contours from the walk, got none")
    return {
        "colin27_bone_dice": dice(bone & outside, skull & outside),
        "colin27_head_dice": dice(ours.data[0] > 0, truth.data[0] > 0),
        "colin27_ptv_d95_percent": 100 * dose_at_share(histograms(dose, structures)["PTV"], 95) / 60,
        "colin27_seconds": seconds,
    }


def _brain(labels: Volume) -> torch.Tensor:
    """The brain as the data's README scores it: labels 3 to 5, closed by 5 voxels and filled."""
    inside = ((labels.data[0] >= Tissue.CSF) & (labels.data[0] <= Tissue.WHITE)).numpy()
    closed = ndimage.binary_closing(inside, iterations=5)
    return torch.from_numpy(ndimage.binary_fill_holes(closed))


def _errors(folder: Path) -> int | None:
    """Errors that dciodvfy finds in all DICOM files under a folder; an abort is an error."""
    if shutil.which("dciodvfy") is None:
        return None
    errors = 0
    for file in sorted(folder.rglob("*.dcm")):
        asked = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False)
        found = sum(line.startswith("Error") for line in asked.stderr.splitlines())
        errors += max(found, int(asked.returncode != 0))
    return errors


if __name__ == "__main__":
    main()
