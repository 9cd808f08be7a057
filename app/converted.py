"""``spindose mr2ct``: a synthetic CT of one to four MRI, by trained networks or the aligned anatomy alone."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from imaging.dicom.parametric_map import write_deviation
from imaging.dicom.writer import write_ct
from imaging.nifti import write_nifti
from imaging.source import Source
from imaging.volume import Volume
from mr2ct.calibration import deviation
from mr2ct.convert import predicted
from mr2ct.domain import expect_head_scan
from mr2ct.regression import RegressionNet

from .console import Progress
from .contrasts import together
from .ct_nets import calibration_of, read_nets, shipped
from .examined import examined, expect_adult, judged, of_slices, without_bias
from .head_ct import bulk_ct
from .read_scans import read_mr

_NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Asked:
    """What is to be converted.

    Parameters
    ----------
    mri
        One to four scans of one head, each another contrast; the first one's grid is the CT's.
    out
        A NIfTI file or a folder for a DICOM series, by its name.
    uncertainty
        A NIfTI file or a folder for a DICOM series, by its name, for the standard deviation (HU); or None.
    weights
        Networks of an ensemble; with none those that ship, or the aligned anatomy where none do.
    bulk
        Whether the aligned anatomy with one CT number a tissue is asked for, which needs no network.
    series
        Which series of a DICOM folder.
    device
        Where networks run.
    bias_correction
        Whether contrasts are freed of their bias fields first.
    anyway
        Whether what is no adult's head is converted all the same.
    intervals
        What was calibrated for ``weights`` (``spindose train intervals``); networks that ship have theirs.
    """

    mri: tuple[Path, ...]
    out: Path
    uncertainty: Path | None = None
    weights: tuple[Path, ...] = ()
    bulk: bool = False
    series: int | None = None
    device: str = "cpu"
    bias_correction: bool = True
    anyway: bool = False
    intervals: Path | None = None


def convert_scans(asked: Asked, progress: Progress) -> dict[str, Any]:
    """Writes what is asked for, whole or not at all, and says what it was made with.

    Raises
    ------
    ValueError
        If scans cannot be read, do not show one adult's head in one place, or do not go with the networks.
    """
    if asked.bulk and (len(asked.mri) > 1 or asked.uncertainty or asked.weights or asked.intervals):
        raise ValueError(
            "expected one MRI alone with --bulk, which has no networks, got more; leave out one or the other"
        )
    _expect_room(asked)
    bulk = asked.bulk or (not asked.weights and not shipped())
    if bulk and not asked.bulk and (len(asked.mri) > 1 or asked.uncertainty):
        raise ValueError(
            "expected --weights for several contrasts or --uncertainty, since none ship here, got none; "
            "train them with `spindose train mr2ct`"
        )
    nets, config = ([], RegressionNet()) if bulk else read_nets(asked.weights, asked.device)
    calibration = None if bulk else calibration_of(asked.weights, asked.intervals)
    scans = [read_mr(path, series=asked.series) for path in asked.mri]
    volumes = [scan.volumes["mr"] for scan in scans]
    cautions = [said for volume in volumes for said in expect_head_scan(volume, asked.anyway)]
    first, source = volumes[0], scans[0].source
    progress("Head in the scan", 0.0)
    shown = examined(first, asked.bias_correction)
    progress("Head in the scan", 1.0)
    cautions += expect_adult(shown.reasons, asked.anyway)
    cautions += [*shown.cautions, *of_slices(first, asked.mri[0], asked.series)]
    facts: dict[str, Any] = {
        "shape": list(first.grid.shape),
        "spacing_mm": first.grid.spacing.tolist(),
        "cut": list(shown.cut),
    }
    if bulk:
        ct = bulk_ct(first, progress).volumes["ct"]
        _write_ct(ct, source, asked.out, "aligned anatomy")
        method = "bulk densities of the aligned anatomy"
        return {"ct": str(asked.out), "method": method, **facts, "cautions": cautions}
    mr = together(volumes)
    head = shown.head if asked.bias_correction else None
    progress("CT numbers", 0.0)
    if head is not None:
        others = [without_bias(replace(mr, data=mr.data[1:]), head).data] if len(mr.data) > 1 else []
        mr = replace(mr, data=torch.cat([shown.even.data, *others]))
    made = judged(predicted(mr, nets, config), shown)
    progress("CT numbers", 1.0)
    cautions += [*expect_adult(made.reasons, asked.anyway), *made.cautions]
    found = made.ct
    by = f"{len(nets)} network{'s' * (len(nets) > 1)}"
    if asked.uncertainty is not None:
        sigma = found.uncertainty if calibration is None else deviation(found, calibration)
        _write_deviation(sigma, source, asked.uncertainty, by)
    _write_ct(found.ct, source, asked.out, by)
    return {
        "ct": str(asked.out),
        **({"uncertainty": str(asked.uncertainty)} if asked.uncertainty else {}),
        "method": by,
        "contrasts": len(scans),
        "bias_correction": head is not None,
        "calibrated": calibration is not None,
        **facts,
        "cautions": cautions,
    }


def _expect_room(asked: Asked) -> None:
    """Refuses before anything is computed what could not be written afterwards."""
    if asked.uncertainty == asked.out:
        raise ValueError("expected --uncertainty to name another place than --out, got the same; change one")
    for path in (asked.out, asked.uncertainty):
        if path is None or path.name.endswith(_NIFTI) or not path.exists():
            continue
        if not path.is_dir() or any(path.iterdir()):
            raise ValueError(
                f"expected a new or empty folder, or a name that ends in .nii or .nii.gz, got {path.name} "
                "that holds something; name another"
            )


def _write_ct(ct: Volume, source: Source, out: Path, by: str) -> None:
    if out.name.endswith(_NIFTI):
        write_nifti(ct, out)
    else:
        write_ct(ct, source, out, derivation=f"Synthetic CT computed from MR by {by}")


def _write_deviation(deviation: Volume, source: Source, out: Path, by: str) -> None:
    if out.name.endswith(_NIFTI):
        write_nifti(deviation, out)
    else:
        how = f"Standard deviation of a synthetic CT computed from MR by {by}"
        write_deviation(deviation, source, out, derivation=how)
