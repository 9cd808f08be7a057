"""A case of a cohort as files: BraTS layout, the project's case folder, or a DICOM study."""

import dataclasses
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch

from imaging.brats import to_brats
from imaging.case import Case
from imaging.dicom.rtstruct import write_rtstruct
from imaging.dicom.writer import write_ct, write_mr
from imaging.folder import write_case
from imaging.grid import close
from imaging.nifti import write_nifti
from imaging.nifti_vectors import write_displacement
from imaging.structures import StructureSet
from imaging.uids import seeded_uid
from imaging.volume import Quantity, Volume
from synth.case import Made

from .cohort_sheet import strip

FORMATS = ("brats", "case", "dicom")
PARAMETERS, PREVIEW = "parameters.json", "preview.png"

# BraTS's words for its contrasts (Baid et al., arXiv:2107.02314; suffixes as in BraTS 2023 and after).
_BRATS = {"t1": "t1n", "t1c": "t1c", "t2": "t2w", "flair": "t2f"}
# Objects that are made again from the same seed are the same bytes, so they are dated alike.
_WHEN = datetime(2000, 1, 1, 12, 0, 0, tzinfo=UTC)
_DISPLACEMENT = "displacement"
_MAPS = ("labels", "organs", "electron_density", "mass_density", _DISPLACEMENT)

Write = Callable[[], object]


def write_made(made: Made, folder: Path, form: str, numbers: tuple[int, ...], threads: int = 1) -> None:
    """A case into an existing, empty folder; the same case gives the same bytes.

    Parameters
    ----------
    made
        The case.
    folder
        Where its files go. Beside the format's own there are ``parameters.json`` and ``preview.png``.
    form
        ``brats``, ``case`` or ``dicom``.
    numbers
        Number of each tissue in the label map, in the order of `imaging.tissue.Tissue`.
    threads
        Files packed at once.

    Raises
    ------
    ValueError
        If there is no such format.
    """
    if form not in FORMATS:
        raise ValueError(f"expected a format of {', '.join(FORMATS)}, got {form!r}")
    volumes = dict(made.case.volumes)
    seg = to_brats(volumes["labels"])
    volumes = {name: _stored(volume) for name, volume in volumes.items()}
    table = torch.tensor(numbers, dtype=torch.uint8)
    volumes["labels"] = dataclasses.replace(
        volumes["labels"], data=_looked_up(volumes["labels"].data, table.numpy())
    )
    ready = Made(made.name, dataclasses.replace(made.case, volumes=volumes), made.traits)
    if form == "case":
        _write_case(ready, folder)
    else:
        writers = _brats(ready, seg, folder) if form == "brats" else _dicom(ready, seg, folder)
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(write) for write in writers]:
                done.result()
    (folder / PARAMETERS).write_text(json.dumps(made.traits, indent=1) + "\n")
    (folder / PREVIEW).write_bytes(strip(made))


def _brats(made: Made, seg: Volume, folder: Path) -> list[Write]:
    """One NIfTI file per volume, named as BraTS names them, with the tumour's labels as ``-seg``."""
    volumes = {_BRATS.get(name, name): volume for name, volume in made.case.volumes.items()}
    volumes["seg"] = seg
    return [
        partial(_nifti, volume, folder / f"{made.name}-{name}.nii.gz") for name, volume in volumes.items()
    ]


def _write_case(made: Made, folder: Path) -> None:
    """The project's case folder; a displacement, which has three components, lies beside its index."""
    volumes = {name: v for name, v in made.case.volumes.items() if name != _DISPLACEMENT}
    write_case(Case(volumes, made.case.structures, made.case.source), folder)
    if _DISPLACEMENT in made.case.volumes:
        write_displacement(made.case.volumes[_DISPLACEMENT], folder / f"{_DISPLACEMENT}.nii.gz")


def _dicom(made: Made, seg: Volume, folder: Path) -> list[Write]:
    """MR and CT series and an RTSTRUCT on the CT in one study; maps that DICOM has no object for as NIfTI."""
    case, maps = made.case, folder / "maps"
    maps.mkdir()
    source = dataclasses.replace(case.source, study_date="20000101", study_time="120000")
    words = ("synthetic cohort", source.study_uid)
    out: list[Write] = [
        partial(
            write_mr,
            volume,
            source,
            folder / name.upper(),
            description=f"synthetic {name.upper()}",
            seed=(*words, name),
            when=_WHEN,
        )
        for name, volume in case.volumes.items()
        if volume.quantity is Quantity.MR
    ]

    def planning() -> None:
        ct = case.volumes["ct"]
        series = write_ct(
            ct,
            source,
            folder / "CT",
            derivation="Simulated CT of a synthetic head",
            seed=(*words, "ct"),
            when=_WHEN,
        )
        if case.structures is None or not close(case.structures.grid, ct.grid):
            return
        write_rtstruct(
            StructureSet(ct.grid, case.structures.structures, ct.frame),
            series,
            ct.grid,
            folder / "RTSTRUCT.dcm",
            series_uid=seeded_uid(*words, "RTSTRUCT series"),
            instance_uid=seeded_uid(*words, "RTSTRUCT"),
            when=_WHEN,
        )

    out.append(planning)
    kept = {name: v for name, v in case.volumes.items() if name in _MAPS}
    kept["seg"] = seg
    return out + [partial(_nifti, v, maps / f"{name}.nii.gz") for name, v in kept.items()]


def _nifti(volume: Volume, path: Path) -> None:
    write = write_displacement if volume.quantity is Quantity.DISPLACEMENT else write_nifti
    write(volume, path)


def _stored(volume: Volume) -> Volume:
    """Signal and HU, which are whole numbers, as 16 bits."""
    if volume.quantity not in (Quantity.MR, Quantity.HU):
        return volume
    return dataclasses.replace(volume, data=volume.data.to(torch.int16))


def _looked_up(labels: torch.Tensor, table: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(table[labels.numpy()])
