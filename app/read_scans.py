"""Scans of a user's, as cases with a study and a frame of reference of their own."""

import dataclasses
from pathlib import Path

from imaging.case import Case
from imaging.dicom.header import complete
from imaging.nifti_forms import expect_one_place
from imaging.scan import read_scan
from imaging.volume import Quantity

from .steps import Walk, file_hash


def read_mr(path: Path, seed: int | None = None, series: int | None = None) -> Case:
    """An MRI (volume ``mr``) with a study and a frame of reference, made up where it has none.

    Raises
    ------
    ValueError
        If it cannot be read, or its file puts it in two places.
    """
    return _read(path, "mr", Quantity.MR, seed, series)


def scan_step(walk: Walk, path: Path, seed: int | None, series: int | None) -> Case:
    """The first step of a walk: a user's MRI, read as :func:`read_mr` does and kept in the walk's folder."""
    return walk.case(
        "scan",
        "Reading the MRI",
        {"mr": file_hash(path), "seed": seed, "series": series},
        lambda: read_mr(path, seed, series),
    )


def read_ct(path: Path, series: int | None = None) -> Case:
    """The same of a CT (volume ``ct``)."""
    return _read(path, "ct", Quantity.HU, None, series)


def _read(path: Path, name: str, quantity: Quantity, seed: int | None, series: int | None) -> Case:
    if path.name.endswith((".nii", ".nii.gz")):
        expect_one_place(path)
    scan, source = read_scan(path, quantity, series)
    source = complete(source, *(() if seed is None else ("seed", seed, file_hash(path))))
    return Case({name: dataclasses.replace(scan, frame=source.frame)}, source=source)
