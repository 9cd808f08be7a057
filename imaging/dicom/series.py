"""MR and CT series as volumes: classic slices or enhanced multi-frame images.

Slices are put in order by where they lie (DICOM PS3.3 C.7.6.2), never by number or name.
Whatever could put a voxel in the wrong place is refused.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from pydicom.dataset import Dataset

from imaging.shapes import Voxels
from imaging.source import Source
from imaging.volume import Quantity, Volume, expect_finite

from .attributes import whole_number
from .files import Header, choose_series, image_headers, modality
from .frames import planes
from .image_plane import ImagePlane, stack
from .opening import source_of
from .pixels import stored

_QUANTITY = {"CT": Quantity.HU, "MR": Quantity.MR}
# Scanners fill what lies outside the reconstruction with values that no tissue has.
_AIR_HU = -1000.0
_LOWEST_HU = -1024.0


def read_series(
    path: Path, quantity: Quantity | None = None, series: int | None = None
) -> tuple[Volume, Source]:
    """The volume of an MR or CT series, with whose it is.

    Parameters
    ----------
    path
        Folder with the files of the series (searched below it too; files that are no MR or CT
        images are passed over), or one enhanced multi-frame file.
    quantity
        What is needed: ``Quantity.MR`` or ``Quantity.HU``; judged by the header.
    series
        Which one to take where there are several: 1 for the first, by series number.

    Returns
    -------
    volume
        MR signal or HU as ``float32``; slices in order of their normal, so right-handed.
    source
        Identity and header; ``instance_uids`` has one entry per slice along k.

    Raises
    ------
    ValueError
        If there is no such series, there are several and none was chosen, or the series does
        not fill a rectangular grid with whole, finite values.
    """
    with warnings.catch_warnings():
        # Warnings about odd values quote them, and a value can be a name.
        warnings.simplefilter("ignore")
        headers = choose_series(image_headers(path), series)
        kind = _expect_one_scan([dataset for _, dataset in headers])
        if quantity not in (None, _QUANTITY[kind]):
            wanted = next((m for m, q in _QUANTITY.items() if q is quantity), quantity)
            raise ValueError(f"expected an {wanted} series, got {kind}; give the {wanted} of this patient")
        where = [(file, n, p) for file, dataset in headers for n, p in enumerate(planes(dataset))]
        if kind == "CT":
            _expect_hounsfield([p for _, _, p in where])
        order, grid = stack([p for _, _, p in where])
        data = _values(where, order, kind)
        source = _source(headers, [where[n][0] for n in order], kind)
    volume = Volume(data, grid, _QUANTITY[kind], source.frame)
    return expect_finite(volume), source


def _expect_one_scan(headers: Sequence[Dataset]) -> str:
    """The modality of the images, if they are one patient's, in one frame, of one kind."""
    kinds = {modality(dataset) for dataset in headers}
    said = {str(dataset.get("Modality", "")) for dataset in headers}
    if len(kinds) > 1 or said != kinds:
        raise ValueError(f"expected images of one modality, got {', '.join(sorted(kinds | said))}")
    alike: dict[str, Callable[[Dataset], object]] = {
        "patient": lambda d: (str(d.get("PatientID", "")), str(d.get("PatientName", ""))),
        "study": lambda d: d.get("StudyInstanceUID"),
        "frame of reference": lambda d: d.get("FrameOfReferenceUID"),
    }
    for name, key in alike.items():
        n_values = len({key(dataset) for dataset in headers})
        if n_values > 1:
            raise ValueError(f"expected one {name} in the whole series, got {n_values}; split the series")
    return kinds.pop()


def _expect_hounsfield(planes: Sequence[ImagePlane]) -> None:
    units = {p.units for p in planes}
    if "" in units:
        raise ValueError("expected a CT with rescale slope and intercept, got none: its HU are unknown")
    if units != {"HU"}:
        raise ValueError(f"expected a CT in HU, got rescale type {', '.join(sorted(units))}")


def _values(where: Sequence[tuple[Path, int, ImagePlane]], order: Sequence[int], kind: str) -> Voxels:
    rows, columns = where[0][2].shape
    data = torch.empty((1, columns, rows, len(where)), dtype=torch.float32)
    slice_of = {n: k for k, n in enumerate(order)}
    held: tuple[Path | None, Dataset, np.ndarray] = (None, Dataset(), np.empty(0))
    for n, (file, frame, p) in enumerate(where):
        if held[0] != file:
            held = (file, *stored(file))
        _, dataset, frames = held
        values = frames[frame].astype(np.float64) * p.slope + p.intercept
        if kind == "CT":
            values = _without_padding(values, frames[frame], dataset)
        data[0, :, :, slice_of[n]] = torch.from_numpy(values.T.astype(np.float32))
    return data


def _without_padding(values: np.ndarray, raw: np.ndarray, dataset: Dataset) -> np.ndarray:
    if "PixelPaddingValue" not in dataset:
        return values
    first = whole_number(dataset, "PixelPaddingValue", 0)
    ends = (first, whole_number(dataset, "PixelPaddingRangeLimit", first))
    padding = (raw >= min(ends)) & (raw <= max(ends)) & (values < _LOWEST_HU)
    return np.where(padding, _AIR_HU, values)


def _source(headers: Sequence[Header], files: Sequence[Path], kind: str) -> Source:
    first = headers[0][1]
    instances = {file: str(dataset.SOPInstanceUID) for file, dataset in headers}
    default = Source()
    return dataclasses.replace(
        source_of(first),
        instance_uids=tuple(instances[file] for file in files),
        modality=kind,
        position=str(first.get("PatientPosition") or default.position),
        body_part=str(first.get("BodyPartExamined") or default.body_part),
    )
